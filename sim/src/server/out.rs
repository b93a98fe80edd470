//! The way out of one response: a socket that is written at once, what the kernel would not take,
//! and the faults that strike at a byte.
//!
//! Bytes go straight to the socket from wherever they are made; only what it refuses is kept, and
//! the connection's task sends it on when there is room. What is kept is bounded by one answer.

use crate::fault::Ending;
use std::io;
use std::rc::Rc;
use tokio::net::TcpStream;

/// A response on its way.
pub struct Out {
    socket: Rc<TcpStream>,
    kept: Vec<u8>,
    /// Bytes of `kept` that are sent already.
    sent: usize,
    /// Bytes that may still be accepted before the cut.
    until_cut: Option<u64>,
    cut: Option<Ending>,
    split: usize,
    broken: bool,
}

impl Out {
    pub fn new(socket: Rc<TcpStream>, cut: Option<(u64, Ending)>, split: usize) -> Self {
        Self {
            socket,
            kept: Vec::new(),
            sent: 0,
            until_cut: cut.map(|(bytes, _)| bytes),
            cut: cut.map(|(_, ending)| ending),
            split,
            broken: false,
        }
    }

    /// Sends `bytes`, in one write if the socket takes them.
    pub fn push(&mut self, bytes: &[u8]) {
        let bytes = self.before_cut(bytes);
        if !self.kept.is_empty() {
            self.kept.extend_from_slice(bytes);
            return;
        }
        let done = self.write(bytes);
        self.kept.extend_from_slice(&bytes[done..]);
    }

    /// Sends on what was kept.
    pub fn flush(&mut self) {
        let kept = std::mem::take(&mut self.kept);
        self.sent += self.write(&kept[self.sent..]);
        if self.sent < kept.len() && !self.broken {
            self.kept = kept;
        } else {
            self.sent = 0;
        }
    }

    /// Whether bytes wait for room in the socket.
    pub fn is_waiting(&self) -> bool {
        !self.kept.is_empty() && !self.broken
    }

    /// The ending that is due: the cut was reached and everything before it is sent.
    pub fn due_cut(&self) -> Option<Ending> {
        self.cut.filter(|_| self.until_cut == Some(0) && !self.is_waiting())
    }

    /// Whether the socket failed.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    fn before_cut<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        match &mut self.until_cut {
            None => bytes,
            Some(left) => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= taken as u64;
                &bytes[..taken]
            }
        }
    }

    /// Writes until the socket is full; how many bytes it took.
    fn write(&mut self, bytes: &[u8]) -> usize {
        let mut done = 0;
        while done < bytes.len() && !self.broken {
            let end = match self.split {
                0 => bytes.len(),
                split => bytes.len().min(done + split),
            };
            match self.socket.try_write(&bytes[done..end]) {
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => self.broken = true,
            }
        }
        done
    }
}
