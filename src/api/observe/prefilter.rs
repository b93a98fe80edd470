//! The second look at an event: a few byte searches tell plain content from everything else.
//!
//! In valid JSON a quote inside a string has a backslash before it, so a needle like `"usage"` can
//! only be found where it is a whole string, or the end of a longer one; if a colon follows, it is
//! a key (or the end of one). What is found so is only ever a reason to parse, or for content,
//! whose absence of alarms was just seen.

use std::sync::LazyLock;

use memchr::memchr2;
use memchr::memmem::Finder;

use crate::api::operation::Operation;

/// What to look for in the events of one operation.
#[derive(Debug)]
pub struct Prefilter {
    shape: Shape,
    /// Keys that mean more than content, unless their value is null.
    alarms: Vec<Finder<'static>>,
    /// Keys of the text, the most frequent one first.
    texts: Vec<Finder<'static>>,
}

/// How an event begins that may be plain content.
#[derive(Debug)]
enum Shape {
    /// With its data.
    Data,
    /// With the name of Anthropic's deltas; by their protocol nothing else is in those.
    ContentBlockDelta,
    /// With one of the names `response.….delta`; likewise.
    ResponseDelta,
    /// There are no streams.
    Never,
}

static FILTERS: LazyLock<[Prefilter; 5]> = LazyLock::new(|| {
    const ALARMS: &[&str] = &["\"finish_reason\"", "\"usage\"", "\"error\""];
    let chat = ["\"content\"", "\"reasoning_content\"", "\"reasoning\"", "\"arguments\""];
    let messages = ["\"text\"", "\"thinking\"", "\"partial_json\""];
    [
        Prefilter::new(Shape::Data, ALARMS, &chat),
        Prefilter::new(Shape::Data, ALARMS, &["\"text\""]),
        Prefilter::new(Shape::ContentBlockDelta, &[], &messages),
        Prefilter::new(Shape::ResponseDelta, &[], &["\"delta\""]),
        Prefilter::new(Shape::Never, &[], &[]),
    ]
});

/// The prefilter for an operation's streams.
pub fn prefilter(op: Operation) -> &'static Prefilter {
    &FILTERS[match op {
        Operation::Chat => 0,
        Operation::Completions => 1,
        Operation::Messages => 2,
        Operation::Responses => 3,
        _ => 4,
    }]
}

/// What follows a needle.
enum Value {
    /// No colon: the needle was a string value.
    NotAKey,
    Null,
    EmptyText,
    /// A text; the offset of its first byte.
    Text(usize),
    Other,
}

impl Prefilter {
    fn new(shape: Shape, alarms: &[&'static str], texts: &[&'static str]) -> Prefilter {
        let finders = |keys: &[&'static str]| keys.iter().map(|key| Finder::new(*key)).collect();
        Prefilter { shape, alarms: finders(alarms), texts: finders(texts) }
    }

    /// The offset of the text of an event that is surely plain content; None: it must be parsed.
    #[inline]
    pub fn plain(&self, event: &[u8]) -> Option<usize> {
        let fits = self.fits(event) && !self.alarms.iter().any(|key| alarming(event, key));
        if !fits {
            return None;
        }
        self.texts.iter().find_map(|key| text_after(event, key))
    }

    /// Whether the beginning of an event shows a text that is not empty.
    pub fn has_text(&self, head: &[u8]) -> bool {
        self.texts.iter().any(|key| text_after(head, key).is_some())
    }

    /// Whether the event has the expected name and one data line with what looks like an object.
    fn fits(&self, event: &[u8]) -> bool {
        let rest = match self.shape {
            Shape::Data => Some(event),
            Shape::ContentBlockDelta => event.strip_prefix(b"event: content_block_delta"),
            Shape::ResponseDelta => after_response_delta(event),
            Shape::Never => None,
        };
        rest.is_some_and(is_object_line)
    }
}

/// What follows the name of a `response.….delta` event.
fn after_response_delta(event: &[u8]) -> Option<&[u8]> {
    let rest = event.strip_prefix(b"event: response.")?;
    let (name, rest) = rest.split_at(memchr2(b'\n', b'\r', rest)?);
    name.ends_with(b".delta").then_some(rest)
}

/// Whether this is nothing but one data line, that begins and ends like an object.
fn is_object_line(rest: &[u8]) -> bool {
    let line = rest.trim_ascii();
    line.starts_with(b"data:")
        && line[5..].trim_ascii_start().starts_with(b"{")
        && line.ends_with(b"}")
        && memchr2(b'\n', b'\r', line).is_none()
}

/// Whether the key is there with a value that matters.
#[inline]
fn alarming(event: &[u8], key: &Finder<'_>) -> bool {
    let mut values = key.find_iter(event).map(|at| value_after(event, at + key.needle().len()));
    values.any(|value| !matches!(value, Value::NotAKey | Value::Null))
}

#[inline]
fn text_after(event: &[u8], key: &Finder<'_>) -> Option<usize> {
    key.find_iter(event).find_map(|at| match value_after(event, at + key.needle().len()) {
        Value::Text(text_at) => Some(text_at),
        _ => None,
    })
}

#[inline]
fn value_after(event: &[u8], at: usize) -> Value {
    let Some(at) = value_at(event, at) else { return Value::NotAKey };
    match event.get(at..).unwrap_or_default() {
        [b'n', ..] => Value::Null,
        [b'"', b'"', ..] => Value::EmptyText,
        [b'"', _, ..] => Value::Text(at + 1),
        _ => Value::Other,
    }
}

/// The offset of the value of a key that ends at `at`; None if no colon follows.
pub fn value_at(event: &[u8], at: usize) -> Option<usize> {
    let rest = event.get(at..)?.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
    Some(event.len() - rest.len())
}
