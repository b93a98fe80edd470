//! Pieces of a prompt that are not text: images, videos, sound, files.
//!
//! What engines make of them has nothing to do with their bytes, so who estimates tokens must know where they
//! stand. A piece is a whole part of a message's content: its type, and its data or where that is.

use std::ops::Range;
use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::json::{
    Bounds, DEPTH_CEILING, Keys, Kind, Members, Value, elements, scan_nested, string_value,
};

const BOUNDS: Bounds = Bounds { depth_max: DEPTH_CEILING };
/// Pieces of one prompt that are told, at most.
const PIECES_MAX: usize = 4096;
/// A message, a part of it, a part of a tool's result in that, and of a document in that.
const LEVELS: usize = 4;
/// The longest type that is looked at.
const TYPE_BYTES_MAX: usize = 32;
const TYPE: &[u8] = b"\"type\"";
static TYPE_FINDER: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(TYPE));

/// What a model needs for a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// Eyes.
    Image,
    Other,
}

/// One piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub medium: Medium,
    pub span: Range<usize>,
}

/// The pieces among the messages (or items of an input) at `span` of a scanned body, in order. Where there is
/// none, the text is only searched for their types, and nothing is allocated.
pub fn pieces(body: &[u8], span: Range<usize>) -> Vec<Piece> {
    let mut found = Vec::new();
    if body.get(span.clone()).is_some_and(may_hold) {
        elements(body, span).for_each(|message| gather(body, &message, LEVELS, &mut found));
    }
    found
}

/// Whether the word that names a piece's kind is there. It may stand in a tool's data, too.
fn may_hold(text: &[u8]) -> bool {
    let types = TYPE_FINDER.find_iter(text).filter_map(|at| text.get(at + TYPE.len()..));
    types.filter_map(word).any(|word| medium(word).is_some())
}

/// The value after a member's key, if it is a short string.
fn word(rest: &[u8]) -> Option<&[u8]> {
    let value = rest.trim_ascii_start().strip_prefix(b":")?;
    let value = value.trim_ascii_start().strip_prefix(b"\"")?;
    let value = value.get(..TYPE_BYTES_MAX).unwrap_or(value);
    Some(&value[..memchr::memchr(b'"', value)?])
}

/// The types of OpenAI's and Anthropic's APIs, and those that vLLM and SGLang add.
fn medium(word: &[u8]) -> Option<Medium> {
    match word {
        b"image"
        | b"image_url"
        | b"input_image"
        | b"computer_screenshot"
        | b"image_embeds"
        | b"video"
        | b"video_url"
        | b"input_video" => Some(Medium::Image),
        b"input_audio" | b"audio_url" | b"file" | b"input_file" | b"document" => {
            Some(Medium::Other)
        }
        _ => None,
    }
}

const KEYS: Keys<4> = Keys::new(["type", "content", "output", "source"]);
const KIND: usize = 0;
const CONTENT: usize = 1;
const OUTPUT: usize = 2;
const SOURCE: usize = 3;

/// Notes the part if it is a piece, or else those in it.
fn gather(body: &[u8], part: &Value, levels: usize, found: &mut Vec<Piece>) {
    if part.kind != Kind::Object || levels == 0 || found.len() == PIECES_MAX {
        return;
    }
    let Ok(members) = scan_nested(body, part.span.clone(), &KEYS, &BOUNDS) else { return };
    if let Some(medium) = medium_of(body, &members) {
        found.push(Piece { medium, span: part.span.clone() });
        return;
    }
    for inner in [CONTENT, OUTPUT, SOURCE].into_iter().filter_map(|at| members.get(at)) {
        match inner.kind {
            Kind::Array => elements(body, inner.span.clone())
                .for_each(|part| gather(body, &part, levels - 1, found)),
            _ => gather(body, inner, levels - 1, found),
        }
    }
}

fn medium_of(body: &[u8], members: &Members<4>) -> Option<Medium> {
    let kind = text(body, members.get(KIND))?;
    let medium = medium(kind.as_bytes())?;
    // Anthropic's documents may be plain text, or hold parts of their own.
    let source = members.get(SOURCE).filter(|source| source.kind == Kind::Object);
    let source = source.and_then(|s| scan_nested(body, s.span.clone(), &KEYS, &BOUNDS).ok());
    let is_text = source.is_some_and(|source| {
        text(body, source.get(KIND)).is_some_and(|kind| kind == "text" || kind == "content")
    });
    (!is_text).then_some(medium)
}

fn text<'a>(body: &'a [u8], value: Option<&Value>) -> Option<std::borrow::Cow<'a, str>> {
    let value = value.filter(|value| matches!(value.kind, Kind::String { .. }))?;
    Some(string_value(body, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pieces of these messages, and what is left of the text.
    fn found(messages: &str) -> (Vec<Medium>, String) {
        let pieces = pieces(messages.as_bytes(), 0..messages.len());
        let mut left = messages.to_owned();
        pieces.iter().rev().for_each(|piece| left.replace_range(piece.span.clone(), ""));
        (pieces.iter().map(|piece| piece.medium).collect(), left)
    }

    #[test]
    fn every_api_has_its_pieces() {
        use Medium::{Image, Other};
        for (part, medium) in [
            (r#"{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}"#, Image),
            (r#"{"image_url":{"url":"https://x"}, "type" : "image_url"}"#, Image),
            (r#"{"type":"video_url","video_url":{"url":"data:"}}"#, Image),
            (r#"{"type":"input_image","image_url":"data:"}"#, Image),
            (r#"{"type":"image","source":{"type":"base64","data":"AAAA"}}"#, Image),
            (r#"{"type":"document","source":{"type":"base64","data":"AAAA"}}"#, Other),
            (r#"{"type":"input_audio","input_audio":{"data":"AAAA"}}"#, Other),
            (r#"{"type":"file","file":{"file_data":"AAAA"}}"#, Other),
            (r#"{"type":"input_file","file_data":"AAAA"}"#, Other),
        ] {
            let text = r#"{"type":"text","text":"what is it?"}"#;
            for around in [
                ("[{\"role\":\"user\",\"content\":[", "]}]"),
                (
                    "[{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\",\"content\":[",
                    "]}]}]",
                ),
                ("[{\"type\":\"function_call_output\",\"output\":[", "]}]"),
            ] {
                let (before, after) = around;
                let both = format!("{before}{text},{part}{after}");
                let expected = (vec![medium], format!("{before}{text},{after}"));
                assert_eq!(found(&both), expected, "{both}");
            }
        }
        let screen = r#"[{"type":"computer_call_output","output":{"type":"computer_screenshot","image_url":"data:"}}]"#;
        assert_eq!(found(screen).0, [Image]);
    }

    #[test]
    fn what_is_text_is_no_piece() {
        for messages in [
            r#"[{"role":"user","content":"an \"image\" of \"type\":\"image\""}]"#,
            r#"[{"role":"assistant","content":[{"type":"tool_use","input":{"type":"image"}}]}]"#,
            r#"[{"role":"user","content":[{"type":"document","source":{"type":"text","data":"a"}}]}]"#,
            r#"[{"type":"function_call_output","output":"{\"type\":\"input_image\"}"}]"#,
            r#"[{"type":"image""#,
            r#""an image""#,
            "",
        ] {
            assert_eq!(found(messages), (Vec::new(), messages.to_owned()));
        }
        let nested = r#"[{"content":[{"type":"document","source":{"type":"content","content":[{"type":"image"}]}}]}]"#;
        assert_eq!(found(nested).0, [Medium::Image]);
    }
}
