//! The doorbell of a shard: an eventfd that any thread rings and one shard waits on.

use std::io;
use std::net::TcpStream as StdStream;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, eventfd};

/// Rings from any thread. Rings between two waits are one ring.
#[derive(Clone)]
pub struct Bell {
    inner: Arc<Inner>,
}

struct Inner {
    rung: AtomicBool,
    fd: OwnedFd,
}

/// The shard's end.
pub struct Listening {
    bell: Bell,
    watch: monoio::net::TcpStream,
}

impl Bell {
    /// A new, silent bell.
    ///
    /// # Errors
    /// The kernel's, when descriptors are out.
    pub fn new() -> io::Result<Self> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { inner: Arc::new(Inner { rung: AtomicBool::new(false), fd }) })
    }

    /// Wakes the shard; free while an earlier ring is unanswered.
    pub fn ring(&self) {
        if !self.inner.rung.swap(true, Ordering::AcqRel) {
            let _ = rustix::io::write(&self.inner.fd, &1u64.to_ne_bytes());
        }
    }

    /// A ring is answered. It takes part in the order of rings, so what was queued before a ring that found
    /// the bell rung is seen from here on.
    fn answer(&self) {
        self.inner.rung.swap(false, Ordering::AcqRel);
    }

    /// The waiting end, on the shard's own thread.
    ///
    /// # Errors
    /// The kernel's, when descriptors are out.
    pub fn listen(&self) -> io::Result<Listening> {
        // monoio can wait for readiness of any descriptor, but only through one of its stream types.
        let fd = self.inner.fd.try_clone()?;
        let watch = monoio::net::TcpStream::from_std(StdStream::from(fd))?;
        Ok(Listening { bell: self.clone(), watch })
    }
}

impl Listening {
    /// Waits for a ring. What was queued before the ring is visible after it.
    pub async fn rung(&self) {
        while self.watch.readable(false).await.is_ok() {
            let mut count = [0; 8];
            if rustix::io::read(&self.bell.inner.fd, &mut count).is_ok() {
                self.bell.answer();
                return;
            }
        }
        // The kernel refuses the wait: fall back on the tick.
        super::clock::sleep(std::time::Duration::from_millis(10)).await;
        self.bell.answer();
    }
}
