//! One connection of the traffic, either end.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::rc::Rc;

/// A nonblocking connection with at most one message on its way out.
pub struct Peer {
    pub stream: TcpStream,
    /// What the kernel did not take yet, and from where on.
    rest: Option<(Rc<[u8]>, usize)>,
}

impl Peer {
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

    /// Sends a message; what does not fit now leaves by [`Peer::flush`].
    ///
    /// # Errors
    /// The connection is broken.
    pub fn send(&mut self, message: &Rc<[u8]>) -> io::Result<()> {
        self.send_from(message.clone(), 0)
    }

    /// Goes on with a message that did not fit.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn flush(&mut self) -> io::Result<()> {
        match self.rest.take() {
            Some((message, from)) => self.send_from(message, from),
            None => Ok(()),
        }
    }

    fn send_from(&mut self, message: Rc<[u8]>, mut from: usize) -> io::Result<()> {
        while from < message.len() {
            match self.stream.write(&message[from..]) {
                Ok(n) => from += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.rest = Some((message, from));
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
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
