//! The unsafe corner: what no safe wrapper offers.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::rc::Rc;

use monoio::net::TcpStream;

/// A monoio stream shared between its one armed read, its write readiness and plain system calls.
#[derive(Clone)]
pub(super) struct SharedStream(Rc<UnsafeCell<TcpStream>>);

impl SharedStream {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self(Rc::new(UnsafeCell::new(stream)))
    }

    /// The cell, as monoio's own read half takes it.
    pub(super) fn cell(&self) -> Rc<UnsafeCell<TcpStream>> {
        self.0.clone()
    }

    /// The descriptor, for as long as the stream is borrowed.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor belongs to the stream, which lives as long as `self`; reading its
        // number does not touch what an in-flight operation uses.
        unsafe { BorrowedFd::borrow_raw((*self.0.get()).as_raw_fd()) }
    }

    /// Waits until the socket takes bytes again.
    pub(super) async fn writable(self) -> std::io::Result<()> {
        // SAFETY: `TcpStream::writable` takes `&self` and clones the descriptor's handle; the only other
        // access is the read half's, which monoio itself declares independent (`unsafe impl Split`).
        let stream = unsafe { &*self.0.get() };
        // Strict: on epoll, monoio remembers "writable" until one of its own writes fails, and ours do not
        // pass through it. A relaxed wait would be over at once, for ever.
        stream.writable(false).await
    }
}

/// Whether the peer of an established TCP connection is still there, as far as the kernel knows.
pub(super) fn tcp_established(fd: BorrowedFd<'_>) -> bool {
    const ESTABLISHED: u8 = 1;
    let mut info = std::mem::MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the buffer is as long as `length` says and any bit pattern is a valid `tcp_info`.
    let failed = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &mut length,
        )
    };
    // SAFETY: zeroed above, so initialised whatever the kernel wrote.
    failed == 0 && unsafe { info.assume_init() }.tcpi_state == ESTABLISHED
}
