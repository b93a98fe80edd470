//! One cache line of the table: four entries, each a tag and who holds that block.

use super::generations::Generations;

/// Entries of one bucket.
pub const WAYS: usize = 4;
/// Endpoints that an entry names by itself; with more it has a wide set.
pub const SLOTS: usize = 5;
/// The count of an entry that has a wide set.
const WIDE: u8 = u8::MAX;

/// Who holds a block: an endpoint and its generation.
pub type Slot = u16;

/// Bit sets are over ways.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Bucket {
    tags: [u32; WAYS],
    /// Endpoints, or where the wide set is and when it was last brought up to date.
    slots: [[Slot; SLOTS]; WAYS],
    counts: [u8; WAYS],
    live: u8,
    /// Asked for since the bucket's clock last came by.
    referenced: u8,
    /// Asked for since the clock of the wide sets last came by.
    wide_referenced: u8,
    /// Where the bucket's clock stands.
    hand: u8,
}

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holders {
    /// That many slots.
    Few(usize),
    Wide(WideRef),
}

/// Where a wide set is, and the number of clears that it knows of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WideRef {
    pub index: u32,
    pub stamp: u32,
}

const _: () = assert!(size_of::<Bucket>() == 64);

impl Bucket {
    pub const EMPTY: Self = Self {
        tags: [0; WAYS],
        slots: [[0; SLOTS]; WAYS],
        counts: [0; WAYS],
        live: 0,
        referenced: 0,
        wide_referenced: 0,
        hand: 0,
    };

    /// Something that cannot be known before the bucket has come from memory.
    #[inline]
    pub fn word(&self) -> u32 {
        self.tags[0]
    }

    /// The way that has this tag.
    #[inline]
    pub fn find(&self, tag: u32) -> Option<usize> {
        let equal = |way: usize| u8::from(self.tags[way] == tag) << way;
        let found = (equal(0) | equal(1) | equal(2) | equal(3)) & self.live;
        if found == 0 { None } else { Some(found.trailing_zeros() as usize & (WAYS - 1)) }
    }

    /// The ways in use.
    pub fn live(&self) -> impl Iterator<Item = usize> + use<> {
        let live = self.live;
        (0..WAYS).filter(move |way| (live >> way) & 1 == 1)
    }

    pub fn free_way(&self) -> Option<usize> {
        let way = self.live.trailing_ones() as usize;
        (way < WAYS).then_some(way)
    }

    /// The way to give up: the first one from the hand on that nobody asked for.
    pub fn victim(&mut self) -> usize {
        for _ in 0..WAYS {
            let way = usize::from(self.hand);
            let bit = 1 << way;
            if self.referenced & bit == 0 {
                break;
            }
            self.referenced &= !bit;
            self.advance();
        }
        let way = usize::from(self.hand);
        self.advance();
        way
    }

    fn advance(&mut self) {
        self.hand = (self.hand + 1) % WAYS as u8;
    }

    #[inline]
    pub fn mark(&mut self, way: usize) {
        let bit = 1 << way;
        // A line that is not written to need not be written back.
        if self.referenced & self.wide_referenced & bit == 0 {
            self.referenced |= bit;
            self.wide_referenced |= bit;
        }
    }

    /// Whether the wide set there was asked for since it was last inquired.
    pub fn take_wide_reference(&mut self, way: usize) -> bool {
        let bit = 1 << way;
        let was = self.wide_referenced & bit != 0;
        self.wide_referenced &= !bit;
        was
    }

    pub fn open(&mut self, way: usize, tag: u32, holder: Slot) {
        self.tags[way] = tag;
        self.counts[way] = 1;
        self.slots[way][0] = holder;
        self.live |= 1 << way;
        self.referenced &= !(1 << way);
        self.wide_referenced &= !(1 << way);
    }

    pub fn close(&mut self, way: usize) {
        self.live &= !(1 << way);
        self.referenced &= !(1 << way);
        self.wide_referenced &= !(1 << way);
        self.counts[way] = 0;
    }

    #[inline]
    pub fn holders(&self, way: usize) -> Holders {
        match self.counts[way] {
            WIDE => {
                let [a, b, c, d, _] = self.slots[way].map(u32::from);
                Holders::Wide(WideRef { index: a | (b << 16), stamp: c | (d << 16) })
            }
            count => Holders::Few(usize::from(count)),
        }
    }

    /// The slots of an entry that has no wide set.
    #[inline]
    pub fn slots(&self, way: usize) -> &[Slot] {
        match self.counts[way] {
            WIDE => &[],
            count => self.slots[way].get(..usize::from(count)).unwrap_or_default(),
        }
    }

    /// Keeps the slots for which `keep` is true; gives how many those are.
    pub fn retain(&mut self, way: usize, keep: impl Fn(Slot) -> bool) -> usize {
        let (slots, mut kept) = (&mut self.slots[way], 0);
        for at in 0..usize::from(self.counts[way]).min(SLOTS) {
            if keep(slots[at]) {
                slots[kept] = slots[at];
                kept += 1;
            }
        }
        self.counts[way] = kept as u8;
        kept
    }

    /// Puts `holder` in the place of the slot that the same endpoint has, if any, and returns that.
    pub fn renew(&mut self, way: usize, holder: Slot) -> Option<Slot> {
        let count = usize::from(self.counts[way]).min(SLOTS);
        let same =
            |slot: &&mut Slot| Generations::endpoint(**slot) == Generations::endpoint(holder);
        let slot = self.slots[way][..count].iter_mut().find(same)?;
        Some(std::mem::replace(slot, holder))
    }

    /// Adds a slot; false if there is no room.
    pub fn push(&mut self, way: usize, holder: Slot) -> bool {
        let count = usize::from(self.counts[way]);
        let Some(slot) = self.slots[way].get_mut(count) else { return false };
        *slot = holder;
        self.counts[way] += 1;
        true
    }

    pub fn set_wide(&mut self, way: usize, wide: WideRef) {
        let half = |value: u32, at: u32| ((value >> (16 * at)) & 0xffff) as u16;
        self.counts[way] = WIDE;
        let WideRef { index, stamp } = wide;
        self.slots[way] = [half(index, 0), half(index, 1), half(stamp, 0), half(stamp, 1), 0];
    }
}
