//! Prompts as an engine's cache sees them: chains of block hashes.
//!
//! A block without spoken tokens is hashed by what its pieces say of it, which costs nothing; one with
//! spoken tokens as the engine hashes what it generates, so that a later prompt finds it.

use sluice_sim::engine::{Prompt, chain};
use sluice_sim::text::mix;
use sluice_sim::text::voice::Voice;

use super::trace::{Ask, Part, Piece, Trace};

/// One request's blocks.
#[derive(Clone, Debug)]
pub struct Prepared {
    pub prompt: Prompt,
    /// Hashes of the blocks that its output fills.
    pub said: Vec<u64>,
}

/// All requests' blocks, of `block_tokens` tokens.
pub fn prepare(trace: &Trace, block_tokens: u32) -> Vec<Prepared> {
    trace.asks.iter().map(|ask| prepare_one(ask, block_tokens)).collect()
}

/// The ids of all tokens of a prompt.
pub fn ids(ask: &Ask) -> Vec<u32> {
    Cursor { pieces: &ask.pieces, offset: 0 }.ids(ask.input_tokens())
}

fn prepare_one(ask: &Ask, block_tokens: u32) -> Prepared {
    let tokens = ask.input_tokens();
    let mut cursor = Cursor { pieces: &ask.pieces, offset: 0 };
    let mut blocks = Vec::with_capacity((tokens / block_tokens) as usize);
    let mut parent = 0;
    for _ in 0..tokens / block_tokens {
        parent = cursor.block(parent, block_tokens);
        blocks.push(parent);
    }
    let tail = if ask.voice.is_some() { cursor.ids(tokens % block_tokens) } else { Vec::new() };
    let said = said(ask, parent, tail.clone(), block_tokens);
    Prepared { prompt: Prompt { tokens, blocks, tail, ..Prompt::default() }, said }
}

/// The blocks that an output closes, as the engine will name them.
fn said(ask: &Ask, mut parent: u64, mut tail: Vec<u32>, block_tokens: u32) -> Vec<u64> {
    let Some(voice) = ask.voice.map(Voice::new) else { return Vec::new() };
    let mut said = Vec::new();
    // The last token is never computed: nothing comes after it.
    for position in 0..ask.output_tokens.saturating_sub(1) {
        tail.push(voice.id(position));
        if tail.len() == block_tokens as usize {
            parent = chain(parent, &tail);
            said.push(parent);
            tail.clear();
        }
    }
    said
}

/// Reads pieces token by token.
struct Cursor<'a> {
    pieces: &'a [Piece],
    offset: u32,
}

impl<'a> Cursor<'a> {
    /// The hash of the next whole block.
    fn block(&mut self, parent: u64, block_tokens: u32) -> u64 {
        let (pieces, offset) = (self.pieces, self.offset);
        let (mut hash, mut left, mut spoken) = (mix(parent, 0x7a11), block_tokens, false);
        while left > 0 {
            let Some((piece, from, tokens)) = self.take(left) else { break };
            spoken |= piece.part == Part::Spoken;
            hash = mix(mix(hash, piece.seed), u64::from(from) << 32 | u64::from(tokens));
            left -= tokens;
        }
        if spoken {
            (self.pieces, self.offset) = (pieces, offset);
            return chain(parent, &self.ids(block_tokens));
        }
        hash
    }

    /// The ids of the next tokens.
    fn ids(&mut self, mut left: u32) -> Vec<u32> {
        let mut ids = Vec::with_capacity(left as usize);
        while left > 0 {
            let Some((piece, from, tokens)) = self.take(left) else { break };
            ids.extend((from..from + tokens).map(|at| id(&piece, at)));
            left -= tokens;
        }
        ids
    }

    /// Up to `most` tokens of one piece: the piece, where in it, how many.
    fn take(&mut self, most: u32) -> Option<(Piece, u32, u32)> {
        let piece = *self.pieces.first()?;
        let from = self.offset;
        let tokens = most.min(piece.tokens - from);
        self.offset += tokens;
        if self.offset == piece.tokens {
            (self.pieces, self.offset) = (&self.pieces[1..], 0);
        }
        Some((piece, from, tokens))
    }
}

fn id(piece: &Piece, at: u32) -> u32 {
    match piece.part {
        Part::Spoken => Voice::new(piece.seed).id(at),
        _ => mix(mix(piece.seed, 1), u64::from(at)) as u32,
    }
}

#[cfg(test)]
mod tests {
    use sluice_sim::engine::{Engine, EngineConfig, Request, SECOND};

    use super::*;

    fn ask(pieces: Vec<Piece>, output_tokens: u32, voice: Option<u64>) -> Ask {
        Ask { at: 0, offset: 0, after: None, session: None, pieces, output_tokens, voice }
    }

    fn user(seed: u64, tokens: u32) -> Piece {
        Piece { seed, tokens, part: Part::User }
    }

    #[test]
    fn equal_beginnings_have_equal_blocks() {
        let one = prepare_one(&ask(vec![user(1, 100), user(2, 60)], 5, None), 16);
        let two = prepare_one(&ask(vec![user(1, 100), user(3, 60)], 5, None), 16);
        assert_eq!(one.prompt.blocks.len(), 10);
        let same = one.prompt.blocks.iter().zip(&two.prompt.blocks).take_while(|(a, b)| a == b);
        assert_eq!(same.count(), 6);
        assert_ne!(one.prompt.blocks[9], two.prompt.blocks[9]);
    }

    #[test]
    fn what_was_said_is_found_by_the_next_turn() {
        let first = ask(vec![user(1, 90)], 50, Some(9));
        let spoken = Piece { seed: 9, tokens: 50, part: Part::Spoken };
        let second = ask(vec![user(1, 90), spoken, user(2, 30)], 5, Some(10));
        let (first, second) = (prepare_one(&first, 16), prepare_one(&second, 16));
        let mut known = first.prompt.blocks.clone();
        known.extend(&first.said);
        assert_eq!(known.len(), 139 / 16);
        assert_eq!(known, second.prompt.blocks[..known.len()]);

        let mut engine = Engine::new(EngineConfig { block_size: 16, ..EngineConfig::default() });
        let request = |prepared: &Prepared, voice| Request {
            prompt: prepared.prompt.clone(),
            output_tokens: 50,
            voice: Some(Voice::new(voice)),
            stride: 1,
        };
        let mut out = Vec::new();
        engine.submit(0, request(&first, 9)).unwrap();
        engine.advance(100 * SECOND, &mut out);
        assert_eq!(engine.blocks_cached(&second.prompt.blocks), known.len());
    }
}
