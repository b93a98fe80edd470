//! Pooled I/O buffers. The permit lives inside the buffer, so the ledger follows the memory: a buffer that
//! the kernel still owns is still counted.

use std::cell::RefCell;
use std::rc::Rc;

use crate::lifecycle::ledger::Ledgers;
use crate::lifecycle::permit::{Permit, StreamBuffer};

/// Capacity of the buffer that waits for a head or for a paced event, bytes.
pub const SMALL_BYTES: usize = 4 * 1024;
/// Capacity of the buffer for bulk reads, bytes.
pub const LARGE_BYTES: usize = 64 * 1024;
/// Largest size class that is kept for reuse, bytes.
const CLASS_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Size classes: powers of two from `SMALL_BYTES` to `CLASS_BYTES_MAX`.
const CLASSES: usize = (CLASS_BYTES_MAX / SMALL_BYTES).ilog2() as usize + 1;
/// Bytes kept for reuse per class; a class always keeps at least one buffer.
const KEPT_BYTES_PER_CLASS: usize = 4 * 1024 * 1024;

/// A shard's buffer pool.
#[derive(Clone)]
pub struct Pool {
    inner: Rc<Inner>,
}

struct Inner {
    ledgers: Rc<Ledgers>,
    free: RefCell<[Vec<Vec<u8>>; CLASSES]>,
}

/// Bytes that are read into at the end and consumed from the front.
pub struct Buf {
    data: Vec<u8>,
    start: usize,
    /// `None` in a buffer of no capacity.
    home: Option<(Rc<Inner>, Permit<StreamBuffer>)>,
}

impl Pool {
    /// A pool whose buffers are counted in `ledgers`, in bytes.
    pub fn new(ledgers: Rc<Ledgers>) -> Self {
        Self { inner: Rc::new(Inner { ledgers, free: RefCell::new(Default::default()) }) }
    }

    /// A buffer of at least `bytes` capacity (rounded up to a power of two up to 8 MiB).
    ///
    /// # Panics
    /// Never: buffer bytes are counted but not limited here; who takes buffers is.
    pub fn take(&self, bytes: usize) -> Buf {
        let capacity = bytes.max(SMALL_BYTES).next_power_of_two();
        let data = self.reuse(capacity).unwrap_or_else(|| {
            Vec::with_capacity(if capacity > CLASS_BYTES_MAX { bytes } else { capacity })
        });
        let home = self
            .inner
            .ledgers
            .take::<StreamBuffer>(data.capacity() as u64)
            .map(|permit| (self.inner.clone(), permit));
        Buf { data, start: 0, home }
    }

    /// A buffer for heads and paced events.
    pub fn small(&self) -> Buf {
        self.take(SMALL_BYTES)
    }

    fn reuse(&self, capacity: usize) -> Option<Vec<u8>> {
        self.inner.free.borrow_mut().get_mut(class_of(capacity))?.pop()
    }
}

fn class_of(capacity: usize) -> usize {
    (capacity / SMALL_BYTES).ilog2() as usize
}

impl Inner {
    fn put_back(&self, mut data: Vec<u8>) {
        let capacity = data.capacity();
        if !capacity.is_power_of_two() || !(SMALL_BYTES..=CLASS_BYTES_MAX).contains(&capacity) {
            return;
        }
        data.clear();
        let free = &mut self.free.borrow_mut()[class_of(capacity)];
        if free.is_empty() || (free.len() + 1) * capacity <= KEPT_BYTES_PER_CLASS {
            free.push(data);
        }
    }
}

impl Buf {
    /// A buffer without memory, to leave in the place of one that was taken out.
    pub fn empty() -> Self {
        Self { data: Vec::new(), start: 0, home: None }
    }

    /// What was read and not consumed.
    pub fn filled(&self) -> &[u8] {
        &self.data[self.start..]
    }

    /// Whether nothing is unconsumed.
    pub fn is_empty(&self) -> bool {
        self.start == self.data.len()
    }

    /// Unconsumed bytes.
    pub fn len(&self) -> usize {
        self.data.len() - self.start
    }

    /// Bytes that can still be read in without moving anything.
    pub fn room(&self) -> usize {
        self.data.capacity() - self.data.len()
    }

    /// Whole capacity, bytes.
    pub fn capacity(&self) -> usize {
        self.data.capacity()
    }

    /// Marks the first `n` unconsumed bytes as used up.
    pub fn consume(&mut self, n: usize) {
        self.start += n;
        assert!(self.start <= self.data.len(), "consumed more than was read");
        if self.start == self.data.len() {
            self.clear();
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.data.clear();
        self.start = 0;
    }

    /// Keeps only the first `n` unconsumed bytes.
    pub fn truncate(&mut self, n: usize) {
        self.data.truncate(self.start + n);
    }

    /// Moves the unconsumed bytes to the front, to make all the room there is.
    pub fn compact(&mut self) {
        if self.start > 0 {
            self.data.drain(..self.start);
            self.start = 0;
        }
    }

    /// Appends a copy of as many of `bytes` as there is room for; says how many.
    pub fn append(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(self.room());
        self.data.extend_from_slice(&bytes[..n]);
        n
    }
}

impl Drop for Buf {
    fn drop(&mut self) {
        if let Some((home, _permit)) = self.home.take() {
            home.put_back(std::mem::take(&mut self.data));
        }
    }
}

mod ring {
    #![allow(unsafe_code)]
    use super::Buf;

    // SAFETY: the pointer is to the vector's heap block, which does not move while the `Buf` does and is
    // neither grown nor freed while an operation owns the `Buf` by value; `bytes_total` is exactly the
    // spare capacity behind the pointer.
    unsafe impl monoio::buf::IoBufMut for Buf {
        fn write_ptr(&mut self) -> *mut u8 {
            self.data.spare_capacity_mut().as_mut_ptr().cast()
        }

        fn bytes_total(&mut self) -> usize {
            self.room()
        }

        unsafe fn set_init(&mut self, read: usize) {
            let len = self.data.len() + read;
            assert!(len <= self.data.capacity(), "the kernel wrote past the buffer");
            // SAFETY: the caller (a completed read) wrote `read` bytes at `write_ptr`.
            unsafe { self.data.set_len(len) }
        }
    }
}
