//! The upstream's end: swallows requests, answers each alike.

use memchr::memmem;

use super::peer::head;

/// What the upstream knows of one connection.
#[derive(Default)]
pub struct Upstream {
    /// A head that has not come whole.
    held: Vec<u8>,
    /// Bytes of the body that are still to come.
    body_left: u64,
    reading_body: bool,
    asked: Option<Asked>,
}

/// A whole request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A probe of the proxy's own.
    Health,
    /// A request, and the client it came from, where that could be told.
    Client(Option<usize>),
}

impl Upstream {
    /// Takes what was read; the request that is whole with it. Nobody pipelines here.
    pub fn take(&mut self, bytes: &[u8]) -> Option<Asked> {
        if self.reading_body {
            self.body_left = self.body_left.saturating_sub(bytes.len() as u64);
            return self.done();
        }
        if self.held.is_empty() {
            return self.begin(bytes);
        }
        let mut whole = std::mem::take(&mut self.held);
        whole.extend_from_slice(bytes);
        self.begin(&whole)
    }

    fn begin(&mut self, bytes: &[u8]) -> Option<Asked> {
        let found = head(bytes);
        let Some((end, length)) = found else {
            self.held = bytes.to_vec();
            return None;
        };
        self.asked = Some(match bytes.starts_with(b"GET ") {
            true => Asked::Health,
            false => Asked::Client(client_of(&bytes[end..])),
        });
        self.body_left = length.saturating_sub((bytes.len() - end) as u64);
        self.reading_body = true;
        self.done()
    }

    fn done(&mut self) -> Option<Asked> {
        if self.body_left > 0 {
            return None;
        }
        self.reading_body = false;
        self.asked.take()
    }
}

fn client_of(body: &[u8]) -> Option<usize> {
    let front = &body[..body.len().min(256)];
    let at = memmem::find(front, b"\"user\":\"")? + 8;
    std::str::from_utf8(front.get(at..at + 5)?).ok()?.parse().ok()
}
