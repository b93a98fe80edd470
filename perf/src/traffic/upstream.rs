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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::payload::{Text, request};

    #[test]
    fn a_request_is_whole_however_it_is_cut() {
        for text in [Text::Plain, Text::Escaped] {
            let request = request(7, 1024, text, true);
            assert!(request.ends_with(b"\"}]}"));
            for cut in 1..request.len() {
                let mut upstream = Upstream::default();
                assert_eq!(upstream.take(&request[..cut]), None, "cut at {cut}");
                assert!(matches!(upstream.take(&request[cut..]), Some(Asked::Client(_))));
            }
            let mut upstream = Upstream::default();
            assert_eq!(upstream.take(&request), Some(Asked::Client(Some(7))));
        }
    }

    #[test]
    fn bodies_have_the_size_and_are_json() {
        for (text, bytes) in [(Text::Plain, 1024), (Text::Escaped, 8192), (Text::Escaped, 8193)] {
            let request = request(0, bytes, text, false);
            let (end, length) = head(&request).unwrap_or_default();
            assert_eq!((request.len() - end, length), (bytes, bytes as u64));
            assert!(serde_json::from_slice::<serde_json::Value>(&request[end..]).is_ok());
        }
    }

    #[test]
    fn probes_are_told_apart() {
        let probe = b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n";
        assert_eq!(Upstream::default().take(probe), Some(Asked::Health));
    }
}
