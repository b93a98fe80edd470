//! How many tokens the engine counted for a prompt, by the end of its chain.

#[derive(Clone, Copy, Debug, Default)]
struct End {
    tag: u32,
    /// 0: nothing is known.
    tokens: u32,
}

/// Bytes that one end takes.
pub const END_BYTES: usize = size_of::<End>();

/// One place for each hash, taken over by whoever comes last.
#[derive(Debug)]
pub struct Ends(Box<[End]>);

impl Ends {
    pub fn new(count: usize) -> Self {
        Self(vec![End::default(); count.max(1)].into_boxed_slice())
    }

    #[cfg(test)]
    pub fn memory_bytes(&self) -> usize {
        size_of_val(&*self.0)
    }

    pub fn remember(&mut self, hash: u64, tokens: u32) {
        let at = super::index(hash, self.0.len());
        self.0[at] = End { tag: super::tag(hash), tokens };
    }

    pub fn recall(&self, hash: u64) -> Option<u32> {
        let end = self.0[super::index(hash, self.0.len())];
        (end.tokens != 0 && end.tag == super::tag(hash)).then_some(end.tokens)
    }
}
