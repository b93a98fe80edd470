//! How much a prompt is, before anybody has counted its tokens.
//!
//! Media count as so much text a piece, however many bytes they have; token ids are counted; all else is
//! text, whose tokens are learned.

use std::ops::Range;

use crate::api::media::{Piece, pieces};
use crate::api::{Ask, Operation};
use crate::json::{Bounds, DEPTH_CEILING, Keys, Members, elements, scan_nested};
use crate::route::chain::Chain;

/// What an image, a video, sound or a file counts as: bytes of text, about a thousand tokens. What a model
/// makes of one, from 85 tokens of a small image to tens of thousands of a video, nobody tells beforehand.
pub const MEDIUM_TEXT_BYTES: u64 = 4096;

/// What a prompt's bytes stand for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Content {
    #[default]
    Text,
    /// Text and media.
    Mixed,
    /// Ids of so many tokens.
    Ids(u32),
    /// Text of so many tokens, as its engine has counted beforehand.
    Counted(u32),
}

/// A prompt's size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Of its text, or of its whole body where that is all that is known; media count as text.
    pub bytes: u64,
    pub content: Content,
}

impl Size {
    /// Of a prompt whose chain was read; of its body where the chain has nothing of it.
    pub fn of(chain: &Chain, body: &[u8], ask: &Ask) -> Self {
        let size = chain.size();
        if size.bytes == 0 { Self::of_body(body, ask) } else { size }
    }

    /// As far as it shows without reading the prompt.
    pub fn of_body(body: &[u8], ask: &Ask) -> Self {
        if let Some(pairs) = Pairs::read(body, ask) {
            return Self { bytes: pairs.bytes as u64, content: Content::Text };
        }
        let media = media(body, ask);
        let out: usize = media.iter().map(|piece| piece.span.len()).sum();
        let bytes = body.len().saturating_sub(out) as u64 + media.len() as u64 * MEDIUM_TEXT_BYTES;
        Self { bytes, content: content(body, ask, &media) }
    }

    /// The same prompt, if an engine has counted its `tokens`. It counts no media.
    pub fn counted(self, tokens: Option<u32>) -> Self {
        match (self.content, tokens) {
            (Content::Text, Some(tokens)) => Self { content: Content::Counted(tokens), ..self },
            _ => self,
        }
    }
}

/// The media among a prompt's messages.
pub fn media(body: &[u8], ask: &Ask) -> Vec<Piece> {
    let prompt = &ask.prompt;
    let span = prompt.messages.as_ref().or(prompt.input.as_ref());
    span.map_or_else(Vec::new, |span| pieces(body, span.clone()))
}

/// What a prompt is made of that has these media.
pub fn content(body: &[u8], ask: &Ask, media: &[Piece]) -> Content {
    let prompt = &ask.prompt;
    let list = prompt.prompt.as_ref().or(prompt.input.as_ref());
    match list.and_then(|span| ids(body.get(span.clone())?)) {
        Some(count) => Content::Ids(count),
        None if media.is_empty() => Content::Text,
        None => Content::Mixed,
    }
}

/// How many numbers there are, if the value is a list of them, or of such lists.
fn ids(value: &[u8]) -> Option<u32> {
    let list = value.strip_prefix(b"[")?.trim_ascii_start();
    let list = list.strip_prefix(b"[").map_or(list, <[u8]>::trim_ascii_start);
    let is_number = list.first().is_some_and(u8::is_ascii_digit);
    let count = || memchr::memchr_iter(b',', list).count() + 1;
    is_number.then(|| u32::try_from(count()).unwrap_or(u32::MAX))
}

/// What must fit a context, of a prompt of so many tokens: the members of a batch are computed one by one, so
/// of them it is the longest.
pub fn together(body: &[u8], ask: &Ask, tokens: u32) -> u32 {
    let of = |most: usize, all: usize| {
        let part = u64::from(tokens) * most as u64 / all.max(1) as u64;
        u32::try_from(part).unwrap_or(tokens).max(1)
    };
    if let Some(pairs) = Pairs::read(body, ask) {
        return of(pairs.longest, pairs.bytes);
    }
    let batch = match ask.op {
        Operation::Completions => ask.prompt.prompt.as_ref(),
        Operation::Embeddings => ask.prompt.input.as_ref(),
        _ => None,
    };
    let lists = batch.filter(|span| is_batch(body.get((*span).clone()).unwrap_or_default()));
    let Some(span) = lists else { return tokens };
    let (most, all) = lengths(body, span.clone());
    of(most, all)
}

/// Whether the value is a list of prompts, not of one prompt's ids.
fn is_batch(value: &[u8]) -> bool {
    let list = value.strip_prefix(b"[").map(<[u8]>::trim_ascii_start);
    list.is_some_and(|list| list.first().is_some_and(|first| !first.is_ascii_digit()))
}

/// Of the elements of a list: the longest one's bytes, and all of theirs.
fn lengths(body: &[u8], list: Range<usize>) -> (usize, usize) {
    let lengths = elements(body, list).map(|element| element.span.len());
    lengths.fold((0, 0), |(most, all), length| (most.max(length), all + length))
}

/// What a rerank computes: its query with each of the documents.
struct Pairs {
    bytes: usize,
    longest: usize,
}

impl Pairs {
    fn read(body: &[u8], ask: &Ask) -> Option<Self> {
        const KEYS: Keys<2> = Keys::new(["query", "documents"]);
        const BOUNDS: Bounds = Bounds { depth_max: DEPTH_CEILING };
        if ask.op != Operation::Rerank {
            return None;
        }
        let members: Members<2> = scan_nested(body, 0..body.len(), &KEYS, &BOUNDS).ok()?;
        let query = members.get(0)?.span.len();
        let documents = members.get(1)?.span.clone();
        let count = elements(body, documents.clone()).count();
        let (most, all) = lengths(body, documents);
        Some(Self { bytes: all + count * query, longest: most + query })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::read_ask;
    use crate::route::chain::{self, Root};
    use crate::route::cost::InputRatio;

    /// The sizes by the body and by the chain, and which of 1,000 tokens must fit a context.
    fn sizes(op: Operation, rest: &str) -> (Size, Size, u32) {
        let body = format!("{{\"model\":\"m\",{rest}}}");
        let ask = read_ask(op, body.as_bytes(), &Bounds { depth_max: 64 }).expect("lawful");
        let mut chain = Chain::default();
        chain::read(&mut chain, &Root::default(), body.as_bytes(), &ask);
        let by_body = Size::of_body(body.as_bytes(), &ask);
        let of = Size::of(&chain, body.as_bytes(), &ask);
        (by_body, of, together(body.as_bytes(), &ask, 1_000))
    }

    fn image(data: usize) -> String {
        let data = "A".repeat(data);
        format!(r#"{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{data}"}}}}"#)
    }

    #[test]
    fn media_count_the_same_however_long_they_are() {
        let chat = |data| {
            let (one, other) = (image(data), image(data / 2));
            let text = "what is that? ".repeat(100);
            let rest = format!(
                r#""messages":[{{"role":"user","content":[{one},{{"type":"text","text":"{text}"}},{other}]}}]"#
            );
            sizes(Operation::Chat, &rest)
        };
        let (small, large) = (chat(40), chat(1_600_000));
        assert_eq!(small, large);
        for size in [large.0, large.1] {
            assert_eq!(size.content, Content::Mixed);
            let text = size.bytes - 2 * MEDIUM_TEXT_BYTES;
            assert!((1_400..1_600).contains(&text), "{text}");
        }
    }

    #[test]
    fn ids_are_counted() {
        let ids = (0..700).map(|id| id.to_string()).collect::<Vec<_>>().join(",\n   ");
        for (rest, count) in [
            (format!("\"prompt\":[{ids}]"), 700),
            (format!("\"prompt\":[ [{ids}] , [{ids}]]"), 1_400),
        ] {
            let (by_body, of, _) = sizes(Operation::Completions, &rest);
            assert_eq!([by_body.content, of.content], [Content::Ids(count); 2]);
            let ratio = InputRatio::of(of.bytes, count);
            assert!(ratio.tokens(of.bytes, None).abs_diff(count) <= 1);
        }
        for rest in ["\"prompt\":\"1, 2, 3\"", "\"prompt\":[\"1, 2\"]", "\"prompt\":[]"] {
            assert_eq!(sizes(Operation::Completions, rest).1.content, Content::Text);
        }
    }

    #[test]
    fn a_rerank_is_its_query_with_each_document() {
        let (query, document) = ("q ".repeat(100), "d ".repeat(1_000));
        let rest =
            format!(r#""query":"{query}","documents":["{document}","{document}","{document}"]"#);
        let (by_body, of, together) = sizes(Operation::Rerank, &rest);
        assert_eq!((by_body, of.bytes), (of, 3 * (202 + 2_002)));
        assert_eq!(together, 333, "each pair is computed by itself");
        assert!(sizes(Operation::Rerank, "\"x\":1").0.bytes > 0);
    }

    #[test]
    fn of_a_batch_the_longest_must_fit() {
        let batch = format!("[\"{}\",\"{}\"]", "a".repeat(298), "b".repeat(98));
        let fit = |op, name: &str, value: &str| sizes(op, &format!("\"{name}\":{value}")).2;
        assert_eq!(fit(Operation::Embeddings, "input", &batch), 750);
        assert_eq!(fit(Operation::Completions, "prompt", &batch), 750);
        assert_eq!(fit(Operation::Completions, "prompt", "[1,2,3]"), 1_000);
        assert_eq!(fit(Operation::Completions, "prompt", "[[1,2,3],[1]]"), 700);
        assert_eq!(fit(Operation::Responses, "input", "[{\"role\":\"user\"}]"), 1_000);
        assert_eq!(fit(Operation::Embeddings, "input", "\"a\""), 1_000);
    }
}
