//! Pooled I/O buffers. The permit lives inside the buffer, so the ledger follows the memory: a buffer that
//! the kernel still owns is still counted.

use std::cell::RefCell;
use std::rc::Rc;

use crate::lifecycle::ledger::Ledgers;
use crate::lifecycle::permit::{Permit, StreamBuffer};

/// Capacity of the buffer that waits where nothing should come, bytes: the smallest there is.
pub const TINY_BYTES: usize = 1024;
/// Capacity of the buffer that waits for a head or for a paced event, bytes.
pub const SMALL_BYTES: usize = 4 * 1024;
/// Capacity of the buffer that waits for a head with a body behind it, bytes.
pub const MEDIUM_BYTES: usize = 16 * 1024;
/// Capacity of the buffer for bulk reads, bytes.
pub const LARGE_BYTES: usize = 64 * 1024;
/// Largest size class that is kept for reuse, bytes.
const CLASS_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Size classes: powers of two from `TINY_BYTES` to `CLASS_BYTES_MAX`.
const CLASSES: usize = (CLASS_BYTES_MAX / TINY_BYTES).ilog2() as usize + 1;
/// Bytes kept for reuse per class; a class always keeps at least one buffer.
const KEPT_BYTES_PER_CLASS: usize = 4 * 1024 * 1024;

/// A shard's buffer pool.
#[derive(Clone)]
pub struct Pool {
    inner: Rc<Inner>,
}

struct Inner {
    ledgers: Rc<Ledgers>,
    #[allow(clippy::vec_box, reason = "what is kept is handed out as it is")]
    free: RefCell<[Vec<Box<Memory>>; CLASSES]>,
}

/// Bytes that are read into at the end and consumed from the front. One word, because it changes hands
/// several times for each read.
pub struct Buf(Option<Box<Memory>>);

/// What a buffer that is not without memory has.
struct Memory {
    data: Vec<u8>,
    start: usize,
    /// Read no further than this, bytes from the beginning of `data`.
    end: usize,
    /// `None` while nobody uses it.
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
        let capacity = bytes.max(TINY_BYTES).next_power_of_two();
        let mut memory = self.reuse(capacity).unwrap_or_else(|| {
            let capacity = if capacity > CLASS_BYTES_MAX { bytes } else { capacity };
            let data = Vec::with_capacity(capacity);
            Box::new(Memory { data, start: 0, end: 0, home: None })
        });
        memory.end = memory.data.capacity();
        let permit = self.inner.ledgers.take::<StreamBuffer>(memory.end as u64);
        memory.home = permit.map(|permit| (self.inner.clone(), permit));
        Buf(Some(memory))
    }

    /// A buffer for heads and for paced events.
    pub fn small(&self) -> Buf {
        self.take(SMALL_BYTES)
    }

    fn reuse(&self, capacity: usize) -> Option<Box<Memory>> {
        self.inner.free.borrow_mut().get_mut(class_of(capacity))?.pop()
    }
}

fn class_of(capacity: usize) -> usize {
    (capacity / TINY_BYTES).ilog2() as usize
}

impl Inner {
    fn put_back(&self, mut memory: Box<Memory>) {
        let capacity = memory.data.capacity();
        if !capacity.is_power_of_two() || !(TINY_BYTES..=CLASS_BYTES_MAX).contains(&capacity) {
            return;
        }
        memory.clear();
        let free = &mut self.free.borrow_mut()[class_of(capacity)];
        if free.is_empty() || (free.len() + 1) * capacity <= KEPT_BYTES_PER_CLASS {
            free.push(memory);
        }
    }
}

impl Memory {
    fn clear(&mut self) {
        self.data.clear();
        self.start = 0;
    }
}

impl Buf {
    /// A buffer without memory, to leave in the place of one that was taken out.
    pub const fn empty() -> Self {
        Self(None)
    }

    /// What was read and not consumed.
    pub fn filled(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |memory| &memory.data[memory.start..])
    }

    /// Whether nothing is unconsumed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Unconsumed bytes.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |memory| memory.data.len() - memory.start)
    }

    /// Bytes that can still be read in without moving anything.
    pub fn room(&self) -> usize {
        self.0.as_ref().map_or(0, |memory| memory.end - memory.data.len())
    }

    /// Never takes more than `bytes` in all: what follows them belongs to somebody else.
    pub fn limit(&mut self, bytes: usize) {
        if let Some(memory) = &mut self.0 {
            let (least, most) = (memory.data.len(), memory.data.capacity());
            memory.end = (memory.start + bytes).clamp(least, most);
        }
    }

    /// Whole capacity, bytes.
    pub fn capacity(&self) -> usize {
        self.0.as_ref().map_or(0, |memory| memory.data.capacity())
    }

    /// Marks the first `n` unconsumed bytes as used up.
    pub fn consume(&mut self, n: usize) {
        assert!(n <= self.len(), "consumed more than was read");
        if let Some(memory) = &mut self.0 {
            memory.start += n;
            if memory.start == memory.data.len() {
                memory.clear();
            }
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        if let Some(memory) = &mut self.0 {
            memory.clear();
        }
    }

    /// Whether it is as full as its limit lets it be.
    pub fn is_full(&self) -> bool {
        self.room() == 0
    }

    /// Keeps only the first `n` unconsumed bytes.
    pub fn truncate(&mut self, n: usize) {
        if let Some(memory) = &mut self.0 {
            memory.data.truncate(memory.start + n);
        }
    }

    /// Moves the unconsumed bytes to the front, to make all the room there is.
    pub fn compact(&mut self) {
        if let Some(memory) = &mut self.0
            && memory.start > 0
        {
            memory.data.drain(..memory.start);
            memory.start = 0;
        }
    }

    /// Appends a copy of as many of `bytes` as there is room for; says how many.
    pub fn append(&mut self, bytes: &[u8]) -> usize {
        let Some(memory) = &mut self.0 else { return 0 };
        let n = bytes.len().min(memory.end - memory.data.len());
        memory.data.extend_from_slice(&bytes[..n]);
        n
    }
}

impl Drop for Buf {
    #[inline]
    fn drop(&mut self) {
        // Most have none: it was taken out.
        if let Some(memory) = self.0.take() {
            give_back(memory);
        }
    }
}

fn give_back(mut memory: Box<Memory>) {
    if let Some((home, _permit)) = memory.home.take() {
        home.put_back(memory);
    }
}

mod ring {
    #![allow(unsafe_code)]
    use super::Buf;

    // SAFETY: the pointer is to the vector's heap block, which does not move while the `Buf` does and is
    // neither grown nor freed while an operation owns the `Buf` by value; `bytes_total` is exactly the
    // spare capacity behind the pointer, and zero for a `Buf` without memory.
    unsafe impl monoio::buf::IoBufMut for Buf {
        fn write_ptr(&mut self) -> *mut u8 {
            match &mut self.0 {
                Some(memory) => memory.data.spare_capacity_mut().as_mut_ptr().cast(),
                None => std::ptr::dangling_mut(),
            }
        }

        fn bytes_total(&mut self) -> usize {
            self.room()
        }

        unsafe fn set_init(&mut self, read: usize) {
            assert!(read <= self.room(), "the kernel wrote past the buffer");
            if let Some(memory) = &mut self.0 {
                // SAFETY: the caller (a completed read) wrote `read` bytes at `write_ptr`.
                unsafe { memory.data.set_len(memory.data.len() + read) }
            }
        }
    }
}
