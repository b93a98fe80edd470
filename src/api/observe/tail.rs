//! OpenAI answers as servers write them: the usage is the last member or nearly so. It is found from the
//! end, and nothing before it is parsed, which is most of the answer.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::prefilter::value_at;
use crate::api::operation::Operation;
use crate::api::usage::{Finish, Usage};
use crate::json::{Bounds, Keys, Kind, Members, Value, scan_nested, scan_object, u64_value};

static USAGE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"usage\""));
static FINISH: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"finish_reason\""));

const COUNTS: Keys<5> = Keys::new([
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "prompt_tokens_details",
    "completion_tokens_details",
]);
const DETAILS: Keys<4> = Keys::new([
    "cached_tokens",
    "cache_write_tokens",
    // vLLM's name for the same.
    "created_cache_tokens",
    "reasoning_tokens",
]);
const BOUNDS: Bounds = Bounds { depth_max: 8 };
/// Longest finish reason that is known, bytes.
const REASON_BYTES_MAX: usize = 32;

/// Usage and finish of an answer whose last `"usage"` is a member of the answer itself; `None` where it is
/// not so simple.
pub fn read(op: Operation, body: &[u8]) -> Option<(Usage, Option<Finish>)> {
    let generates = matches!(op, Operation::Chat | Operation::Completions);
    if !generates && !matches!(op, Operation::Embeddings | Operation::Rerank) {
        return None;
    }
    let at = USAGE.find_iter(body).last()?;
    let start = value_at(body, at + USAGE.needle().len())?;
    let object = &body[start..start + object_at_top(&body[start..])?];
    let counts = scan_object(object, &COUNTS, &BOUNDS).ok()?;
    let mut usage = usage(object, &counts);
    if !generates {
        // Nothing is generated: the total is the input.
        usage.input = usage.input.or_else(|| count(object, counts.get(2)));
    }
    Some((usage, if generates { finish(&body[..at]) } else { None }))
}

fn usage(object: &[u8], counts: &Members<5>) -> Usage {
    let prompt = details(object, counts.get(3));
    let completion = details(object, counts.get(4));
    let detail = |members: &Option<Members<4>>, key: usize| {
        members.as_ref().and_then(|members| count(object, members.get(key)))
    };
    Usage {
        input: count(object, counts.get(0)),
        output: count(object, counts.get(1)),
        cached: detail(&prompt, 0),
        cache_write: detail(&prompt, 1).or_else(|| detail(&prompt, 2)),
        reasoning: detail(&completion, 3),
    }
}

fn details(object: &[u8], value: Option<&Value>) -> Option<Members<4>> {
    let value = value.filter(|value| value.kind == Kind::Object)?;
    scan_nested(object, value.span.clone(), &DETAILS, &BOUNDS).ok()
}

fn count(object: &[u8], value: Option<&Value>) -> Option<u64> {
    u64_value(object, value.filter(|value| value.kind == Kind::Number)?)
}

/// The last finish reason before the usage.
fn finish(body: &[u8]) -> Option<Finish> {
    let at = FINISH.find_iter(body).last()?;
    let text = body.get(value_at(body, at + FINISH.needle().len())?..)?.strip_prefix(b"\"")?;
    let end = text.iter().take(REASON_BYTES_MAX).position(|byte| *byte == b'"')?;
    std::str::from_utf8(&text[..end]).ok().map(Finish::from_openai)
}

/// The length of the object that `rest` begins with, if it stands directly in the text's outermost object:
/// behind it, one more bracket closes than opens.
fn object_at_top(rest: &[u8]) -> Option<usize> {
    let (mut depth, mut at, mut length) = (0i32, 0, None);
    while let Some(byte) = rest.get(at) {
        at += 1;
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 && length.is_none() {
                    length = Some(at);
                }
            }
            b'"' => at += string_end(&rest[at..])?,
            _ if depth == 0 && length.is_none() => return None,
            _ => {}
        }
    }
    length.filter(|_| depth == -1)
}

/// The offset behind the quote that ends a string.
fn string_end(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr::memchr2(b'"', b'\\', text.get(at..)?)?;
        match text[at] {
            b'"' => return Some(at + 1),
            _ => at += 2,
        }
    }
}
