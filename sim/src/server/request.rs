//! Requests off the wire: heads by httparse, bodies by length or in chunks, `100-continue`.

use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::TcpStream;

const HEAD_BYTES_MAX: usize = 64 << 10;
const HEADERS_MAX: usize = 128;
const READ_BYTES: usize = 16 << 10;
/// Bytes of the next request that are taken in while this one is answered.
const EARLY_BYTES_MAX: usize = 256 << 10;

/// One request, body and all.
#[derive(Debug)]
pub struct Request {
    pub method: String,
    /// Without its query.
    pub path: String,
    pub http10: bool,
    /// The client wants the connection closed after the answer.
    pub close: bool,
    pub request_id: Option<String>,
    pub fault: Option<String>,
    bytes: Vec<u8>,
    body: Range<usize>,
}

impl Request {
    /// The body, decoded.
    pub fn body(&self) -> &[u8] {
        &self.bytes[self.body.clone()]
    }
}

/// Why there is no (further) request.
#[derive(Debug)]
pub enum NoRequest {
    /// The client closed, failed, or was idle for too long.
    Gone,
    /// What came is no request; the status to answer with.
    Bad(u16),
}

impl From<io::Error> for NoRequest {
    fn from(_: io::Error) -> Self {
        NoRequest::Gone
    }
}

/// How the body comes.
enum BodyKind {
    Length(usize),
    Chunked,
}

struct ParsedHead {
    request: Request,
    head_bytes: usize,
    body: BodyKind,
    expects: bool,
}

/// A client's socket and what was read from it.
pub struct Wire {
    pub socket: Rc<TcpStream>,
    read: Vec<u8>,
}

impl Wire {
    pub fn new(socket: TcpStream) -> Self {
        Self { socket: Rc::new(socket), read: Vec::new() }
    }

    /// The next request; `idle` bounds the wait for its first byte.
    pub async fn request(
        &mut self,
        idle: Option<Duration>,
        body_bytes_max: usize,
    ) -> Result<Request, NoRequest> {
        if let Some(idle) = idle.filter(|_| self.read.is_empty()) {
            let first = tokio::time::timeout(idle, self.fill()).await;
            first.map_err(|_| NoRequest::Gone)??;
        }
        let parsed = loop {
            if let Some(parsed) = parse_head(&self.read)? {
                break parsed;
            }
            self.fill().await?;
        };
        self.body(parsed, body_bytes_max).await
    }

    /// Comes back when the client has left; early bytes of its next request are kept.
    pub async fn gone(&mut self) {
        while self.read.len() < EARLY_BYTES_MAX {
            if self.fill().await.is_err() {
                return;
            }
        }
        std::future::pending().await
    }

    /// Reads what there is; an error when the client has left.
    async fn fill(&mut self) -> io::Result<()> {
        loop {
            self.socket.readable().await?;
            self.read.reserve(READ_BYTES);
            match self.socket.try_read_buf(&mut self.read) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => (),
                Err(error) => return Err(error),
            }
        }
    }

    async fn body(&mut self, parsed: ParsedHead, most: usize) -> Result<Request, NoRequest> {
        let ParsedHead { mut request, head_bytes, body, expects } = parsed;
        if expects && self.read.len() == head_bytes {
            self.say_continue()?;
        }
        match body {
            BodyKind::Length(bytes) if bytes > most => return Err(NoRequest::Bad(413)),
            BodyKind::Length(bytes) => {
                let end = head_bytes + bytes;
                self.read.reserve(end.saturating_sub(self.read.len()));
                while self.read.len() < end {
                    self.fill().await?;
                }
                let rest = self.read.split_off(end);
                request.bytes = std::mem::replace(&mut self.read, rest);
                request.body = head_bytes..end;
            }
            BodyKind::Chunked => {
                self.read.drain(..head_bytes);
                request.bytes = self.chunks(most).await?;
                request.body = 0..request.bytes.len();
            }
        }
        Ok(request)
    }

    fn say_continue(&self) -> io::Result<()> {
        self.socket.try_write(b"HTTP/1.1 100 Continue\r\n\r\n").map(|_| ())
    }

    /// Reads chunks up to the last one and its trailers.
    async fn chunks(&mut self, most: usize) -> Result<Vec<u8>, NoRequest> {
        let mut body = Vec::new();
        loop {
            let (line, size) = loop {
                match httparse::parse_chunk_size(&self.read) {
                    Ok(httparse::Status::Complete(found)) => break found,
                    Ok(httparse::Status::Partial) => self.fill().await?,
                    Err(_) => return Err(NoRequest::Bad(400)),
                }
            };
            let size = usize::try_from(size).unwrap_or(usize::MAX);
            if size == 0 {
                self.read.drain(..line);
                self.trailers().await?;
                return Ok(body);
            }
            if body.len().saturating_add(size) > most {
                return Err(NoRequest::Bad(413));
            }
            let end = line + size + 2;
            while self.read.len() < end {
                self.fill().await?;
            }
            if !self.read[..end].ends_with(b"\r\n") {
                return Err(NoRequest::Bad(400));
            }
            body.extend_from_slice(&self.read[line..line + size]);
            self.read.drain(..end);
        }
    }

    /// Skips lines up to the empty one.
    async fn trailers(&mut self) -> Result<(), NoRequest> {
        loop {
            let end = self.read.windows(2).position(|pair| pair == b"\r\n");
            match end {
                Some(end) => {
                    self.read.drain(..end + 2);
                    if end == 0 {
                        return Ok(());
                    }
                }
                None if self.read.len() > HEAD_BYTES_MAX => return Err(NoRequest::Bad(431)),
                None => self.fill().await?,
            }
        }
    }
}

/// A head, once it is whole.
fn parse_head(bytes: &[u8]) -> Result<Option<ParsedHead>, NoRequest> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut headers);
    match head.parse(bytes) {
        Ok(httparse::Status::Complete(head_bytes)) => read_head(&head, head_bytes).map(Some),
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_BYTES_MAX => Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => Err(NoRequest::Bad(431)),
        Err(_) => Err(NoRequest::Bad(400)),
    }
}

fn read_head(head: &httparse::Request<'_, '_>, head_bytes: usize) -> Result<ParsedHead, NoRequest> {
    let target = head.path.unwrap_or_default();
    let http10 = head.version == Some(0);
    let mut parsed = ParsedHead {
        request: Request {
            method: head.method.unwrap_or_default().to_string(),
            path: target.split('?').next().unwrap_or_default().to_string(),
            http10,
            close: http10,
            request_id: None,
            fault: None,
            bytes: Vec::new(),
            body: 0..0,
        },
        head_bytes,
        body: BodyKind::Length(0),
        expects: false,
    };
    for header in head.headers.iter() {
        read_header(header, &mut parsed)?;
    }
    Ok(parsed)
}

fn read_header(header: &httparse::Header<'_>, parsed: &mut ParsedHead) -> Result<(), NoRequest> {
    let value = std::str::from_utf8(header.value).unwrap_or_default().trim();
    let is = |name: &str| header.name.eq_ignore_ascii_case(name);
    if is("content-length") {
        parsed.body = BodyKind::Length(value.parse().map_err(|_| NoRequest::Bad(400))?);
    } else if is("transfer-encoding") {
        parsed.body = BodyKind::Chunked;
    } else if is("connection") {
        parsed.request.close |= value.eq_ignore_ascii_case("close");
    } else if is("expect") {
        parsed.expects = value.eq_ignore_ascii_case("100-continue");
    } else if is("x-request-id") {
        parsed.request.request_id = Some(value.to_string());
    } else if is("x-sim-fault") {
        parsed.request.fault = Some(value.to_string());
    }
    Ok(())
}
