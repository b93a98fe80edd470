//! A shard's ledgers as other threads may read them.
//!
//! The shard publishes all kinds at once, at the end of an epoch; a reader gets the numbers of one
//! publication or none. Invariant of a healthy shard, in every publication and for every kind:
//! issued = returned + outstanding, the last counted on its own.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::lifecycle::kind::Kind;

/// How many ledgers a shard has.
pub const KINDS: usize = Kind::ALL.len();

/// One kind's numbers, in that kind's own unit (things, or bytes).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    pub issued: u64,
    pub returned: u64,
    pub outstanding: u64,
}

impl Entry {
    /// Whether nothing was lost and nothing given back twice.
    pub fn balanced(&self) -> bool {
        self.returned.checked_add(self.outstanding) == Some(self.issued)
    }

    /// The sum of two shards' entries.
    pub fn plus(&self, other: &Entry) -> Entry {
        Entry {
            issued: self.issued.saturating_add(other.issued),
            returned: self.returned.saturating_add(other.returned),
            outstanding: self.outstanding.saturating_add(other.outstanding),
        }
    }
}

/// The last published ledgers of one shard. One thread writes, any thread reads, neither waits.
#[derive(Debug, Default)]
pub struct Board {
    /// Odd while the shard is writing.
    version: AtomicU64,
    cells: [[AtomicU64; 3]; KINDS],
}

impl Board {
    /// Publishes all kinds, in the order of [`Kind::ALL`]. Only the owning shard calls this.
    pub fn publish(&self, entries: &[Entry; KINDS]) {
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        for (cells, entry) in self.cells.iter().zip(entries) {
            cells[0].store(entry.issued, Ordering::Relaxed);
            cells[1].store(entry.returned, Ordering::Relaxed);
            cells[2].store(entry.outstanding, Ordering::Relaxed);
        }
        self.version.store(version.wrapping_add(2), Ordering::Release);
    }

    /// The last publication; `None` if the shard kept writing through every try.
    pub fn read(&self) -> Option<[Entry; KINDS]> {
        const TRIES: usize = 64;
        (0..TRIES).find_map(|_| self.try_read())
    }

    fn try_read(&self) -> Option<[Entry; KINDS]> {
        let before = self.version.load(Ordering::Acquire);
        let mut entries = [Entry::default(); KINDS];
        for (cells, entry) in self.cells.iter().zip(&mut entries) {
            entry.issued = cells[0].load(Ordering::Relaxed);
            entry.returned = cells[1].load(Ordering::Relaxed);
            entry.outstanding = cells[2].load(Ordering::Relaxed);
        }
        fence(Ordering::Acquire);
        let unchanged = self.version.load(Ordering::Relaxed) == before;
        (unchanged && before.is_multiple_of(2)).then_some(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_reader_never_sees_half_a_publication() {
        let board = Arc::new(Board::default());
        let writer = {
            let board = Arc::clone(&board);
            std::thread::spawn(move || {
                for n in 0..20_000u64 {
                    let entry = Entry { issued: 3 * n, returned: 2 * n, outstanding: n };
                    board.publish(&[entry; KINDS]);
                }
            })
        };
        while !writer.is_finished() {
            if let Some(entries) = board.read() {
                assert!(entries.iter().all(|entry| entry.balanced() && *entry == entries[0]));
            }
        }
        writer.join().unwrap();
        assert_eq!(board.read().unwrap()[0].issued, 59_997);
    }

    #[test]
    fn a_thing_returned_twice_is_not_balanced() {
        assert!(!Entry { issued: 1, returned: 2, outstanding: 0 }.balanced());
        assert!(!Entry { issued: 2, returned: u64::MAX, outstanding: 3 }.balanced());
    }
}
