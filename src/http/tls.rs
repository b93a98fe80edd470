//! rustls, sans I/O: records in, records out. The shell ([`super::wire::Wire`]) moves the bytes.

use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection, IoState, ServerConfig, ServerConnection};

use crate::runtime::buf::{Buf, LARGE_BYTES, Pool, SMALL_BYTES};
use crate::runtime::socket::Socket;

/// Plain bytes encrypted ahead of what the socket takes, at most; with it a slow peer holds little.
const AHEAD_BYTES_MAX: usize = 64 * 1024;

/// One TLS connection's state.
pub struct Tls {
    connection: Connection,
    /// Records that the socket has not taken yet.
    sending: Vec<u8>,
    sent: usize,
    /// Raw bytes that rustls has not taken: it takes none while decrypted bytes wait to be read.
    undigested: Buf,
    /// Bytes the last raw read brought: how large the next read should be.
    last_raw_bytes: usize,
    ended: bool,
    records: Records,
    /// Nothing more can be sent.
    closed: bool,
}

impl Tls {
    /// The server side.
    ///
    /// # Errors
    /// rustls's, for an unusable configuration.
    pub fn server(config: Arc<ServerConfig>) -> io::Result<Self> {
        let connection = ServerConnection::new(config).map_err(io::Error::other)?;
        Ok(Self::new(connection.into()))
    }

    /// The client side.
    ///
    /// # Errors
    /// rustls's, for an unusable configuration.
    pub fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> io::Result<Self> {
        let connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
        Ok(Self::new(connection.into()))
    }

    fn new(mut connection: Connection) -> Self {
        connection.set_buffer_limit(Some(AHEAD_BYTES_MAX));
        let undigested = Buf::empty();
        Self {
            connection,
            sending: Vec::new(),
            sent: 0,
            undigested,
            last_raw_bytes: 0,
            ended: false,
            records: Records::default(),
            closed: false,
        }
    }

    pub(super) fn established(&self) -> bool {
        !self.connection.is_handshaking()
    }

    /// Whether the connection ended before the handshake did.
    pub(super) fn ended_early(&self) -> bool {
        self.ended && !self.established()
    }

    /// A buffer for the next raw read.
    pub(super) fn raw(&self, pool: &Pool) -> Buf {
        if self.last_raw_bytes >= SMALL_BYTES { pool.take(LARGE_BYTES) } else { pool.small() }
    }

    /// Takes in what a raw read brought, when nothing of the last one is left.
    pub(super) fn feed(&mut self, raw: Buf, result: io::Result<usize>) -> io::Result<()> {
        self.last_raw_bytes = result?;
        self.ended |= self.last_raw_bytes == 0;
        self.records.pass(raw.filled());
        self.undigested = raw;
        self.digest().map(drop)
    }

    /// Whether a record has begun to come and is not all there.
    pub(super) fn inside_a_record(&self) -> bool {
        self.records.header_bytes > 0 || self.records.body_bytes_left > 0
    }

    /// Decrypts until there is something to read, or all is taken in; its buffer then goes back to the pool.
    fn digest(&mut self) -> io::Result<IoState> {
        loop {
            let state = self.connection.process_new_packets().map_err(invalid)?;
            if self.undigested.is_empty() || state.plaintext_bytes_to_read() > 0 {
                return Ok(state);
            }
            let taken = self.connection.read_tls(&mut self.undigested.filled())?;
            self.undigested.consume(taken);
            // Nothing is taken after close_notify.
            if taken == 0 || self.undigested.is_empty() {
                self.undigested = Buf::empty();
            }
        }
    }

    /// Moves decrypted bytes to `input`: how many, 0 at the end of the peer's side, `None` when more
    /// records are needed first.
    pub(super) fn read_plain(&mut self, input: &mut Buf, pool: &Pool) -> io::Result<Option<usize>> {
        let state = self.digest()?;
        let waiting = state.plaintext_bytes_to_read();
        if waiting > 0 {
            return self.move_plain(input, pool, waiting).map(Some);
        }
        if state.peer_has_closed() {
            return Ok(Some(0));
        }
        if self.ended {
            // The connection ended without close_notify: not an honest end.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(None)
    }

    fn move_plain(&mut self, input: &mut Buf, pool: &Pool, waiting: usize) -> io::Result<usize> {
        input.compact();
        if input.capacity() == 0 || input.room() == 0 {
            let mut larger = pool.take((input.len() + waiting).clamp(SMALL_BYTES, LARGE_BYTES));
            if larger.room() <= input.len() {
                larger = pool.take(input.len() + waiting);
            }
            larger.append(input.filled());
            *input = larger;
        }
        let mut moved = 0;
        let mut chunk = [0u8; SMALL_BYTES];
        while moved < waiting && input.room() > 0 {
            let want = chunk.len().min(input.room());
            let n = self.connection.reader().read(&mut chunk[..want])?;
            input.append(&chunk[..n]);
            moved += n;
        }
        Ok(moved)
    }

    /// Encrypts and sends; how many plain bytes were taken.
    pub(super) fn send(&mut self, bytes: &[u8], socket: &Socket) -> io::Result<usize> {
        if self.closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if !self.flush(socket)? || !self.established() {
            return Ok(0);
        }
        let taken = self.connection.writer().write(bytes)?;
        self.flush(socket)?;
        Ok(taken)
    }

    pub(super) fn flushed(&self) -> bool {
        self.closed || self.sent == self.sending.len() && !self.connection.wants_write()
    }

    /// Sends waiting records; whether all of them left. What did not before the end never will.
    pub(super) fn flush(&mut self, socket: &Socket) -> io::Result<bool> {
        while !self.closed {
            while self.sent < self.sending.len() {
                match socket.try_send(&self.sending[self.sent..]) {
                    Ok(n) => self.sent += n,
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                    Err(e) => return Err(e),
                }
            }
            self.sending.clear();
            self.sent = 0;
            if !self.connection.wants_write() {
                self.sending.shrink_to(SMALL_BYTES);
                return Ok(true);
            }
            self.connection.write_tls(&mut self.sending)?;
        }
        Ok(true)
    }

    /// Sends close_notify, as far as it fits, and nothing from then on: reads may still go on.
    pub(super) fn close(&mut self, socket: &Socket) {
        self.connection.send_close_notify();
        let _ = self.flush(socket);
        self.closed = true;
    }
}

/// How far the peer's records have come (RFC 8446, section 5.1: type, version, two bytes of length).
#[derive(Default)]
struct Records {
    /// Bytes of a header that is not whole.
    header_bytes: usize,
    length: [u8; 2],
    body_bytes_left: usize,
}

impl Records {
    fn pass(&mut self, mut bytes: &[u8]) {
        while let [first, rest @ ..] = bytes {
            if self.body_bytes_left > 0 {
                let taken = self.body_bytes_left.min(bytes.len());
                self.body_bytes_left -= taken;
                bytes = &bytes[taken..];
                continue;
            }
            self.length = [self.length[1], *first];
            self.header_bytes = (self.header_bytes + 1) % 5;
            if self.header_bytes == 0 {
                self.body_bytes_left = usize::from(u16::from_be_bytes(self.length));
            }
            bytes = rest;
        }
    }
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
