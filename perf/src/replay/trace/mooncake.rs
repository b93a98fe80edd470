//! Mooncake's traces: a JSON object per line with `timestamp` (milliseconds), `input_length`,
//! `output_length` and `hash_ids`, one identity for each block of 512 tokens, the last one partial.
//!
//! An identity stands for its block and everything before it. Where messages begin is not told: each block
//! becomes a message of its own, user and assistant in turn, so that prompts that share blocks share bytes.

use serde::Deserialize;

use super::{Ask, Part, Piece};

/// Tokens of a block.
pub const BLOCK_TOKENS: u32 = 512;

#[derive(Deserialize)]
struct Line {
    /// Milliseconds.
    timestamp: u64,
    input_length: u32,
    output_length: u32,
    hash_ids: Vec<u64>,
}

/// One line.
pub fn line(line: &str) -> Result<Ask, String> {
    let line: Line = serde_json::from_str(line).map_err(|error| error.to_string())?;
    if line.input_length == 0 || line.output_length == 0 {
        return Err("a request needs input_length and output_length".into());
    }
    let blocks = line.input_length.div_ceil(BLOCK_TOKENS) as usize;
    if blocks != line.hash_ids.len() {
        let (tokens, ids) = (line.input_length, line.hash_ids.len());
        return Err(format!("{tokens} tokens are {blocks} blocks, but there are {ids} hash_ids"));
    }
    let mut left = line.input_length;
    let piece = |(at, id): (usize, &u64)| {
        let tokens = left.min(BLOCK_TOKENS);
        left -= tokens;
        let part = if at % 2 == 0 { Part::User } else { Part::Assistant };
        Piece { seed: *id, tokens, part }
    };
    Ok(Ask {
        at: line.timestamp * 1_000_000,
        offset: 0,
        after: None,
        session: None,
        pieces: line.hash_ids.iter().enumerate().map(piece).collect(),
        output_tokens: line.output_length,
        voice: None,
    })
}
