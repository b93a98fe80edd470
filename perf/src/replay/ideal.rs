//! What a cache could give at best: one without end, and one pooled over the whole fleet.

use sluice_sim::engine::BlockPool;
use sluice_sim::text::mix;

use super::hashes::Hashes;
use super::prompts::Prepared;
use super::trace::Trace;

/// Tokens that were asked, and those of them that a cache held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Reuse {
    pub input_tokens: u64,
    pub cached_tokens: u64,
}

impl Reuse {
    /// The share of tokens that was cached.
    pub fn share(&self) -> f64 {
        self.cached_tokens as f64 / self.input_tokens.max(1) as f64
    }
}

/// A plain count over the trace: leading pieces that some request before had, too, or was answered with;
/// whole pieces only.
pub fn plain(trace: &Trace) -> Reuse {
    let (mut seen, mut reuse) = (Hashes::default(), Reuse::default());
    for ask in &trace.asks {
        let (mut chain, mut leading) = (0, true);
        for piece in &ask.pieces {
            chain = link(chain, piece.seed, piece.tokens);
            leading &= !seen.insert(chain);
            reuse.input_tokens += u64::from(piece.tokens);
            reuse.cached_tokens += if leading { u64::from(piece.tokens) } else { 0 };
        }
        if let Some(voice) = ask.voice {
            seen.insert(link(chain, voice, ask.output_tokens));
        }
    }
    reuse
}

fn link(chain: u64, seed: u64, tokens: u32) -> u64 {
    mix(mix(chain, seed), u64::from(tokens) << 32)
}

/// Distinct blocks that the requests ever fill: the working set.
pub fn working_set(prepared: &[Prepared]) -> usize {
    let blocks = prepared.iter().flat_map(|one| one.prompt.blocks.iter().chain(&one.said));
    blocks.copied().collect::<Hashes>().len()
}

/// One cache of `blocks` blocks, least recently used out first, over all requests in their order. As in an
/// engine, whole blocks are cached and at least one token of each prompt is computed.
pub fn pooled(prepared: &[Prepared], blocks: u32, block_tokens: u32) -> Reuse {
    let (mut pool, mut reuse, mut used) = (BlockPool::new(blocks), Reuse::default(), Vec::new());
    for one in prepared {
        let most = (one.prompt.tokens.saturating_sub(1) / block_tokens) as usize;
        let chain = || one.prompt.blocks.iter().chain(&one.said);
        used.extend(chain().map_while(|hash| pool.find(*hash)));
        used.iter().for_each(|block| pool.share(*block));
        let found = used.len().min(most);
        for hash in chain().skip(used.len()) {
            let Some((block, _)) = pool.take() else { break };
            pool.publish(block, *hash);
            used.push(block);
        }
        used.drain(..).rev().for_each(|block| pool.release(block));
        reuse.input_tokens += u64::from(one.prompt.tokens);
        reuse.cached_tokens += found as u64 * u64::from(block_tokens);
    }
    reuse
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use sluice_sim::engine::Prompt;

    use super::*;

    fn prompt(blocks: &[u64]) -> Prepared {
        let tokens = blocks.len() as u32 * 16 + 1;
        let prompt = Prompt { tokens, blocks: blocks.to_vec(), ..Prompt::default() };
        Prepared { prompt, said: Vec::new() }
    }

    #[test]
    fn the_pool_forgets_what_was_used_longest_ago() {
        let asked = [prompt(&[1, 2]), prompt(&[3]), prompt(&[1, 2]), prompt(&[4]), prompt(&[3])];
        let cached = |blocks| pooled(&asked, blocks, 16).cached_tokens / 16;
        assert_eq!(cached(4), 3);
        // 4 takes the place of 3, which was used before 1 and 2.
        assert_eq!(cached(3), 2);
        assert_eq!(cached(0), 0);
        assert_eq!(working_set(&asked), 4);
    }

    #[test]
    fn the_end_of_a_prompt_goes_first() {
        let asked = [prompt(&[1, 2, 3]), prompt(&[4]), prompt(&[1, 2, 3])];
        assert_eq!(pooled(&asked, 3, 16).cached_tokens, 2 * 16);
    }

    /// The published figure for this trace, where the file is at hand (`SLUICE_TRACES` names its folder).
    #[test]
    fn a_plain_count_over_mooncake_finds_the_published_reuse() {
        let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/traces");
        let folder = std::env::var("SLUICE_TRACES").unwrap_or(beside.into());
        let file = Path::new(&folder).join("mooncake_synthetic_trace.jsonl.gz");
        if !file.exists() {
            eprintln!("skipped: no {}", file.display());
            return;
        }
        let trace = Trace::read(&file, usize::MAX).unwrap();
        assert_eq!(trace.asks.len(), 3_993);
        assert_eq!(format!("{:.2}", plain(&trace).share() * 100.0), "65.12");
    }
}
