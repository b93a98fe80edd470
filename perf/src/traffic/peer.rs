//! One connection of the traffic, either end.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::rc::Rc;

/// Bytes to be sent, which may lie in several places.
pub trait Message: Clone {
    /// How many there are.
    fn bytes(&self) -> usize;

    /// Writes once, from the byte `from` on; how many the kernel took.
    ///
    /// # Errors
    /// The connection's.
    fn write(&self, from: usize, to: &mut TcpStream) -> io::Result<usize>;
}

impl Message for Rc<[u8]> {
    fn bytes(&self) -> usize {
        self.len()
    }

    fn write(&self, from: usize, to: &mut TcpStream) -> io::Result<usize> {
        to.write(&self[from..])
    }
}

/// A nonblocking connection with at most one message on its way out.
pub struct Peer<M = Rc<[u8]>> {
    pub stream: TcpStream,
    /// What the kernel did not take yet, and from where on.
    rest: Option<(M, usize)>,
}

impl<M: Message> Peer<M> {
    /// # Errors
    /// The kernel's.
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, rest: None })
    }

    /// Whether the last message has not left yet.
    pub fn is_stuck(&self) -> bool {
        self.rest.is_some()
    }

    /// Sends a message, and says how much of it the kernel took; what does not fit now leaves by
    /// [`Peer::flush`].
    ///
    /// # Errors
    /// The connection is broken.
    pub fn send(&mut self, message: &M) -> io::Result<usize> {
        self.send_from(message.clone(), 0)
    }

    /// Goes on with a message that did not fit, and says how much more of it the kernel took.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn flush(&mut self) -> io::Result<usize> {
        match self.rest.take() {
            Some((message, from)) => self.send_from(message, from),
            None => Ok(0),
        }
    }

    fn send_from(&mut self, message: M, began: usize) -> io::Result<usize> {
        let mut from = began;
        while from < message.bytes() {
            match message.write(from, &mut self.stream) {
                Ok(n) => from += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.rest = Some((message, from));
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(from - began)
    }

    /// Reads once: `None` when there was nothing.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn read(&mut self, buf: &mut [u8]) -> io::Result<Option<usize>> {
        match self.stream.read(buf) {
            Ok(n) => Ok(Some(n)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The length of a head at the front of `bytes`, its blank line included, and of the body behind it.
pub fn head(bytes: &[u8]) -> Option<(usize, u64)> {
    let end = memchr::memmem::find(bytes, b"\r\n\r\n")? + 4;
    // The name's first letter may be capital; nobody here sends the field twice.
    let at = memchr::memmem::find(&bytes[..end], b"ontent-length: ");
    let digits = at.map_or(&bytes[..0], |at| &bytes[at + 15..end]);
    let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
    Some((end, digits.fold(0, |n, digit| n * 10 + u64::from(digit - b'0'))))
}
