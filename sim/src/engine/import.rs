//! Blocks that another engine computed.

use super::sequence::Sequence;
use super::{Engine, Prompt, Request};

impl Engine {
    /// Takes in a prompt's whole blocks, as far as there is room: they are cached from now on.
    pub fn import(&mut self, prompt: &Prompt) {
        let whole = prompt.blocks.len() as u32 * self.config.block_size;
        let request = Request { prompt: prompt.clone(), ..Request::default() };
        let mut seq = Sequence::new(request, self.ended);
        seq.blocks = self.cached_blocks(&seq);
        seq.published = seq.blocks.len() as u32;
        seq.computed = seq.published * self.config.block_size;
        seq.blocks.iter().for_each(|block| self.pool.share(*block));
        let want = whole.saturating_sub(seq.computed);
        let id = self.seqs.insert(seq);
        self.grow(id, want);
        self.retire(id);
    }
}

#[cfg(test)]
mod tests {
    use super::super::EngineConfig;
    use super::*;

    #[test]
    fn what_was_imported_is_not_computed_again() {
        let config = EngineConfig::default();
        let ids: Vec<u32> = (0..100).collect();
        let prompt = Prompt::from_tokens(&ids, config.block_size, 7);
        let mut engine = Engine::new(config);
        engine.import(&prompt);
        engine.import(&prompt);
        assert_eq!(engine.stats().blocks_used, 0);
        let request = Request { prompt, output_tokens: 1, ..Request::default() };
        engine.submit(0, request).unwrap();
        let mut outputs = Vec::new();
        engine.advance(u64::MAX / 2, &mut outputs);
        assert_eq!(outputs[0].cached, 96);
    }
}
