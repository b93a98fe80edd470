//! Requests as real bodies: one message for each piece, about four bytes of text to a token, the same bytes
//! for the same piece wherever it stands.
//!
//! The simulated server's tokeniser finds the very tokens in it that the trace counts, beside its template's.

use std::fmt::Write;

use sluice_sim::text::mix;
use sluice_sim::text::voice::Voice;

use super::trace::{Ask, Part, Piece};

/// Letters of the text; 32, so that five bits draw one.
const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyzbdfgkm";
/// Letters of a token beside its space.
const TOKEN_LETTERS: usize = 3;
/// Tokens drawn from one number.
const DRAWN_TOKENS: u32 = 4;

/// Writes the body of `ask` over `body`: a chat request to `model`.
pub fn render(ask: &Ask, model: &str, body: &mut String) {
    body.clear();
    let _ = write!(body, "{{\"model\":\"{model}\",\"stream\":true");
    let _ = write!(body, ",\"max_tokens\":{}", ask.output_tokens);
    let tools = ask.pieces.iter().take_while(|piece| piece.part == Part::Tool).count();
    let (tools, messages) = ask.pieces.split_at(tools);
    if !tools.is_empty() {
        body.push_str(",\"tools\":[");
        for (at, piece) in tools.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            let _ = write!(
                body,
                "{comma}{{\"type\":\"function\",\"function\":{{\"name\":\"tool_{at}\","
            );
            body.push_str("\"description\":\"");
            say(piece, body);
            body.push_str("\",\"parameters\":{\"type\":\"object\"}}}");
        }
        body.push(']');
    }
    body.push_str(",\"messages\":[");
    for (at, piece) in messages.iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        let _ = write!(body, "{comma}{{\"role\":\"{}\",\"content\":\"", role(piece.part));
        say(piece, body);
        body.push_str("\"}");
    }
    body.push_str("]}");
}

fn role(part: Part) -> &'static str {
    match part {
        Part::System => "system",
        Part::Tool | Part::User => "user",
        Part::Assistant | Part::Spoken => "assistant",
    }
}

fn say(piece: &Piece, body: &mut String) {
    if piece.part == Part::Spoken {
        let voice = Voice::new(piece.seed);
        (0..piece.tokens).for_each(|at| push_escaped(voice.piece(at), body));
        return;
    }
    for at in 0..piece.tokens {
        let drawn = mix(mix(piece.seed, 1), u64::from(at / DRAWN_TOKENS));
        let mut bits = drawn >> (15 * (at % DRAWN_TOKENS));
        if at > 0 {
            body.push(' ');
        }
        for _ in 0..TOKEN_LETTERS {
            body.push(char::from(LETTERS[(bits & 31) as usize]));
            bits >>= 5;
        }
    }
}

/// The voice says quotes and backslashes now and then.
fn push_escaped(text: &str, body: &mut String) {
    for letter in text.chars() {
        if letter == '"' || letter == '\\' {
            body.push('\\');
        }
        body.push(letter);
    }
}

#[cfg(test)]
mod tests {
    use sluice_sim::text::tokens::pieces;

    use super::*;

    #[test]
    fn the_body_is_json_and_has_the_tokens_it_was_made_of() {
        let piece = |seed, tokens, part| Piece { seed, tokens, part };
        let ask = Ask {
            at: 0,
            offset: 0,
            after: None,
            session: None,
            pieces: vec![
                piece(1, 40, Part::Tool),
                piece(2, 30, Part::System),
                piece(3, 7, Part::User),
                piece(4, 300, Part::Spoken),
                piece(5, 9, Part::User),
            ],
            output_tokens: 3,
            voice: None,
        };
        let mut body = String::new();
        render(&ask, "m", &mut body);
        let json: serde_json::Value = serde_json::from_str(&body).unwrap();
        let text = |at: usize| json["messages"][at]["content"].as_str().unwrap().to_owned();
        assert_eq!(json["messages"].as_array().unwrap().len(), 4);
        assert_eq!([0, 1, 2, 3].map(|at| pieces(&text(at)).count()), [30, 7, 300, 9]);
        let tool = json["tools"][0]["function"]["description"].as_str().unwrap();
        assert_eq!((pieces(tool).count(), tool.len()), (40, 159));
        assert_eq!(json["max_tokens"], 3);
    }
}
