//! The tokeniser: deterministic, without a vocabulary, about 4 bytes a token on English text.
//!
//! A piece is one optional white-space byte and then up to 5 bytes of anything else, never cut
//! inside a UTF-8 character; white space that precedes no word goes in runs of up to 4 bytes. A
//! piece's id is the low 31 bits of its xxh3 hash. The pieces of a text are the text: joined, they
//! give it back, and a text made of the model's words splits into exactly those words.

use xxhash_rust::xxh3::xxh3_64;

/// Bytes of a piece after its leading white space.
const WORD_BYTES_MAX: usize = 5;
/// Bytes of a piece that is only white space.
const SPACE_BYTES_MAX: usize = 4;
const ID_MASK: u64 = 0x7fff_ffff;

/// Ids of the tokens that a chat template adds. Ordinary pieces never collide with them but by a
/// hash accident, since ids are spread over 31 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Special {
    /// Opens the list of tools.
    Tools = 1,
    /// Closes a message.
    End = 2,
    /// Opens an assistant message, also the one to be generated.
    Assistant = 3,
    /// Opens a system or developer message.
    System = 4,
    /// Opens a user message.
    User = 5,
    /// Opens a tool result.
    Tool = 6,
    /// Separates a query from a document in reranking.
    Separator = 7,
}

/// The id of one piece of text.
pub fn piece_id(piece: &[u8]) -> u32 {
    (xxh3_64(piece) & ID_MASK) as u32
}

/// Splits `text` into its pieces.
pub fn pieces(text: &str) -> Pieces<'_> {
    Pieces { rest: text }
}

/// Appends the ids of `text` to `ids`.
pub fn encode(text: &str, ids: &mut Vec<u32>) {
    ids.extend(pieces(text).map(|piece| piece_id(piece.as_bytes())));
}

/// Iterator over the pieces of a text.
pub struct Pieces<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.rest.is_empty() {
            return None;
        }
        let (piece, rest) = self.rest.split_at(first_piece(self.rest));
        self.rest = rest;
        Some(piece)
    }
}

fn first_piece(text: &str) -> usize {
    let bytes = text.as_bytes();
    let spaces = bytes.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    match spaces {
        0 => word_end(bytes, 0),
        1 if bytes.len() > 1 => word_end(bytes, 1),
        // The last white-space byte belongs to the word that follows, if one does.
        _ if spaces == bytes.len() => spaces.min(SPACE_BYTES_MAX),
        _ => (spaces - 1).min(SPACE_BYTES_MAX),
    }
}

fn word_end(bytes: &[u8], start: usize) -> usize {
    let mut end = start;
    while end < bytes.len() && !bytes[end].is_ascii_whitespace() {
        let next = end + character_bytes(bytes[end]);
        if end > start && next - start > WORD_BYTES_MAX {
            break;
        }
        end = next;
    }
    end
}

/// Length of the UTF-8 character that starts with `lead` (the text is known to be UTF-8).
fn character_bytes(lead: u8) -> usize {
    match lead {
        0..0xc0 => 1,
        0xc0..0xe0 => 2,
        0xe0..0xf0 => 3,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<&str> {
        pieces(text).collect()
    }

    #[test]
    fn pieces_are_short_words_with_their_space() {
        assert_eq!(split("the quick foxes"), ["the", " quick", " foxes"]);
        assert_eq!(split("international"), ["inter", "natio", "nal"]);
        assert_eq!(split("a\n\n\n\n\n\n\nb"), ["a", "\n\n\n\n", "\n\n", "\nb"]);
        assert_eq!(split("a  "), ["a", "  "]);
        assert_eq!(split(" "), [" "]);
        assert_eq!(split("日本語 é"), ["日", "本", "語", " é"]);
        assert_eq!(split("😀😀"), ["😀", "😀"]);
        assert_eq!(split(""), Vec::<&str>::new());
    }

    #[test]
    fn pieces_join_to_the_text() {
        for text in ["  x y\t\tz ", "\u{1f600} a\u{301}bcdefgh\r\n", "{\"a\": [1, 2]}"] {
            assert_eq!(split(text).concat(), text);
        }
    }

    #[test]
    fn english_is_about_four_bytes_a_token() {
        let text = "Large language models are served from machines with several graphics \
                    processors, and a gateway in front of them decides which one answers.";
        let ratio = text.len() as f64 / split(text).len() as f64;
        assert!((3.3..5.0).contains(&ratio), "{ratio}");
    }
}
