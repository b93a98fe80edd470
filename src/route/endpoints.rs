//! Sets of endpoints, by their index in the plan.

/// Endpoints that the routing state of one plan can tell apart.
pub const ENDPOINTS_MAX: usize = 1024;

const WORDS: usize = ENDPOINTS_MAX / 64;

/// A set of endpoints. Indices from [`ENDPOINTS_MAX`] up are never in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndpointSet([u64; WORDS]);

impl EndpointSet {
    pub const EMPTY: Self = Self([0; WORDS]);

    pub fn insert(&mut self, endpoint: u16) {
        if let Some(word) = self.0.get_mut(usize::from(endpoint / 64)) {
            *word |= 1 << (endpoint % 64);
        }
    }

    pub fn remove(&mut self, endpoint: u16) {
        if let Some(word) = self.0.get_mut(usize::from(endpoint / 64)) {
            *word &= !(1 << (endpoint % 64));
        }
    }

    pub fn contains(&self, endpoint: u16) -> bool {
        let word = self.0.get(usize::from(endpoint / 64));
        word.is_some_and(|word| (word >> (endpoint % 64)) & 1 == 1)
    }

    pub fn is_empty(&self) -> bool {
        self.0 == [0; WORDS]
    }

    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Takes out all that are in `other`, and gives back those that were.
    pub fn take(&mut self, other: &Self) -> Self {
        let mut taken = Self::EMPTY;
        for ((word, other), taken) in self.0.iter_mut().zip(&other.0).zip(&mut taken.0) {
            *taken = *word & other;
            *word &= !other;
        }
        taken
    }

    /// The endpoints, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u16> {
        (0u16..).zip(&self.0).flat_map(|(i, word)| bits(*word).map(move |bit| i * 64 + bit))
    }
}

impl FromIterator<u16> for EndpointSet {
    fn from_iter<I: IntoIterator<Item = u16>>(endpoints: I) -> Self {
        let mut set = Self::EMPTY;
        for endpoint in endpoints {
            set.insert(endpoint);
        }
        set
    }
}

/// The positions of the set bits.
fn bits(word: u64) -> impl Iterator<Item = u16> {
    let mut rest = word;
    std::iter::from_fn(move || {
        let bit = u16::try_from(rest.trailing_zeros()).ok().filter(|bit| *bit < 64)?;
        rest &= rest - 1;
        Some(bit)
    })
}

/// For each endpoint, how many leading blocks of a prompt it holds.
#[derive(Clone, Debug)]
pub struct Depths {
    blocks: Box<[u16; ENDPOINTS_MAX]>,
    warm: EndpointSet,
}

impl Default for Depths {
    fn default() -> Self {
        Self { blocks: Box::new([0; ENDPOINTS_MAX]), warm: EndpointSet::EMPTY }
    }
}

impl Depths {
    /// Blocks that `endpoint` holds; 0 if none, or if it was not asked about.
    pub fn get(&self, endpoint: u16) -> usize {
        if self.warm.contains(endpoint) {
            usize::from(self.blocks[usize::from(endpoint)])
        } else {
            0
        }
    }

    /// The endpoints that hold at least one block.
    pub fn warm(&self) -> &EndpointSet {
        &self.warm
    }

    pub(super) fn clear(&mut self) {
        self.warm = EndpointSet::EMPTY;
    }

    pub(super) fn set(&mut self, endpoint: u16, blocks: usize) {
        if let Some(slot) = self.blocks.get_mut(usize::from(endpoint)) {
            *slot = u16::try_from(blocks).unwrap_or(u16::MAX);
            self.warm.insert(endpoint);
        }
    }
}
