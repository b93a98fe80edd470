//! An HTTP/1.1 answer as it arrives, cut anywhere: its head by httparse, its body by length, by chunks or by
//! the end of the connection. What does not belong to an answer is an error, never skipped over.

use httparse::Status;

use super::events::{Came, Events};

/// Bytes of a head at most, all interim answers before it included.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Headers at most.
const HEADERS_MAX: usize = 100;
/// Digits of a chunk's size at most.
const SIZE_DIGITS_MAX: u32 = 15;

/// One answer after the other.
#[derive(Default)]
pub struct Answer {
    /// A head that has not come whole.
    held: Vec<u8>,
    state: State,
    pub status: u16,
    /// The body is a stream of events.
    pub streams: bool,
    /// The connection serves another request after this one.
    pub keeps: bool,
    pub events: Events,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Head,
    /// So many bytes are still to come.
    Length(u64),
    /// Until the connection ends.
    Unbounded,
    /// In the digits of a chunk's size.
    Size {
        size: u64,
        digits: u32,
    },
    /// Behind them, up to the line's end: an extension.
    Extension {
        size: u64,
    },
    /// The line feed after a size.
    SizeEnd {
        size: u64,
    },
    Chunk(u64),
    /// The line end after a chunk; whether its carriage return came.
    ChunkEnd {
        carriage: bool,
    },
    /// A trailer, or the last empty line: bytes of the line so far, without carriage returns.
    Trailer {
        bytes: u32,
    },
    Done,
}

/// How far an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    More,
    /// The answer came whole.
    Done,
    /// This is no answer.
    Wrong,
}

impl Answer {
    /// Makes ready for the next answer.
    pub fn reset(&mut self) {
        self.held.clear();
        self.state = State::Head;
        self.status = 0;
        self.streams = false;
        self.events.reset();
    }

    /// Whether nothing of it has come.
    pub fn is_unbegun(&self) -> bool {
        self.state == State::Head && self.held.is_empty() && self.status == 0
    }

    /// Takes what was read, and adds the events in it to `came`.
    pub fn take(&mut self, bytes: &[u8], came: &mut Came) -> Step {
        if self.state != State::Head {
            return self.body(bytes, came);
        }
        if self.held.is_empty() {
            return self.head(bytes, came);
        }
        let mut whole = std::mem::take(&mut self.held);
        whole.extend_from_slice(bytes);
        self.head(&whole, came)
    }

    /// The connection ended: whether the answer is whole with that.
    pub fn end(&mut self) -> Step {
        if self.state == State::Unbounded { Step::Done } else { Step::Wrong }
    }

    fn head(&mut self, mut bytes: &[u8], came: &mut Came) -> Step {
        loop {
            let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
            let mut response = httparse::Response::new(&mut headers);
            let length = match response.parse(bytes) {
                Ok(Status::Complete(length)) => length,
                Ok(Status::Partial) if bytes.len() < HEAD_BYTES_MAX => {
                    self.held.extend_from_slice(bytes);
                    return Step::More;
                }
                _ => return Step::Wrong,
            };
            let Some(state) = self.understand(&response) else { return Step::Wrong };
            bytes = &bytes[length..];
            // Another one comes after an interim answer.
            if state != State::Head {
                self.state = state;
                return self.body(bytes, came);
            }
        }
    }

    /// How the body is framed; [`State::Head`] after an interim answer, `None` where it contradicts itself.
    fn understand(&mut self, response: &httparse::Response<'_, '_>) -> Option<State> {
        self.status = response.code?;
        self.keeps = response.version == Some(1);
        let (mut length, mut chunked) = (None, false);
        for header in response.headers.iter() {
            let value = header.value.trim_ascii();
            if header.name.eq_ignore_ascii_case("content-length") {
                let said = std::str::from_utf8(value).ok()?.parse::<u64>().ok()?;
                if length.is_some_and(|length| length != said) {
                    return None;
                }
                length = Some(said);
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                chunked = value.eq_ignore_ascii_case(b"chunked") && !chunked;
                if !chunked {
                    return None;
                }
            } else if header.name.eq_ignore_ascii_case("connection") {
                self.keeps = match () {
                    () if value.eq_ignore_ascii_case(b"close") => false,
                    () => self.keeps || value.eq_ignore_ascii_case(b"keep-alive"),
                };
            } else if header.name.eq_ignore_ascii_case("content-type") {
                self.streams =
                    value.len() >= 17 && value[..17].eq_ignore_ascii_case(b"text/event-stream");
            }
        }
        match (self.status, length, chunked) {
            (101, ..) | (_, Some(_), true) => None,
            (100..=199, ..) => Some(State::Head),
            (204 | 304, ..) => Some(State::Done),
            (_, Some(length), _) => Some(State::Length(length)),
            (.., true) => Some(State::Size { size: 0, digits: 0 }),
            (.., None, false) => {
                self.keeps = false;
                Some(State::Unbounded)
            }
        }
    }

    fn body(&mut self, mut bytes: &[u8], came: &mut Came) -> Step {
        loop {
            let (state, used) = match (self.state, bytes.first()) {
                (State::Length(0), _) => (State::Done, 0),
                (State::Done, None) => return Step::Done,
                (State::Done, Some(_)) => return Step::Wrong,
                (_, None) => return Step::More,
                (State::Length(left), _) => {
                    let part = self.part(bytes, left, came);
                    (State::Length(left - part), part as usize)
                }
                (State::Chunk(left), _) => {
                    let part = self.part(bytes, left, came);
                    let state = if part == left {
                        State::ChunkEnd { carriage: false }
                    } else {
                        State::Chunk(left - part)
                    };
                    (state, part as usize)
                }
                (State::Unbounded, _) => {
                    let part = self.part(bytes, u64::MAX, came);
                    (State::Unbounded, part as usize)
                }
                (state, Some(byte)) => match framing(state, *byte) {
                    Some(state) => (state, 1),
                    None => return Step::Wrong,
                },
            };
            self.state = state;
            bytes = &bytes[used..];
        }
    }

    /// Takes content; how much of it there was.
    fn part(&mut self, bytes: &[u8], left: u64, came: &mut Came) -> u64 {
        let part = left.min(bytes.len() as u64);
        if self.streams {
            self.events.take(&bytes[..part as usize], came);
        }
        part
    }
}

/// The next byte of what stands between chunks; `None` where it must not.
fn framing(state: State, byte: u8) -> Option<State> {
    match (state, byte) {
        (State::Size { size, digits }, _) if byte.is_ascii_hexdigit() => {
            let digit = char::from(byte).to_digit(16)?;
            let size = size * 16 + u64::from(digit);
            (digits < SIZE_DIGITS_MAX).then_some(State::Size { size, digits: digits + 1 })
        }
        (State::Size { digits: 0, .. }, _) => None,
        (State::Size { size, .. } | State::Extension { size }, b'\r') => {
            Some(State::SizeEnd { size })
        }
        (State::Size { size, .. }, b';' | b' ' | b'\t') => Some(State::Extension { size }),
        (State::Extension { .. }, b'\n') => None,
        (State::Extension { size }, _) => Some(State::Extension { size }),
        (State::SizeEnd { size: 0 }, b'\n') => Some(State::Trailer { bytes: 0 }),
        (State::SizeEnd { size }, b'\n') => Some(State::Chunk(size)),
        (State::ChunkEnd { carriage: false }, b'\r') => Some(State::ChunkEnd { carriage: true }),
        (State::ChunkEnd { carriage: true }, b'\n') => Some(State::Size { size: 0, digits: 0 }),
        (State::Trailer { bytes: 0 }, b'\n') => Some(State::Done),
        (State::Trailer { .. }, b'\n') => Some(State::Trailer { bytes: 0 }),
        (State::Trailer { bytes }, b'\r') => Some(State::Trailer { bytes }),
        (State::Trailer { bytes }, _) => {
            (bytes < HEAD_BYTES_MAX as u32).then_some(State::Trailer { bytes: bytes + 1 })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::payload;

    const CHUNKED: &str = "HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\nHTTP/1.1 200 OK\r\n\
        Content-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n\
        29;x=y\r\ndata: {\"choices\":[{\"delta\":{\"content\":\"a\"\r\n\
        f\r\n}}]}\n\ndata: {}\n\r\n\
        f\r\n\ndata: [DONE]\n\n\r\n0\r\nx-trailer: 1\r\n\r\n";

    fn taken(parts: &[&[u8]]) -> (Step, Came, Answer) {
        let (mut answer, mut came) = (Answer::default(), Came::default());
        let mut step = Step::More;
        for part in parts {
            assert_eq!(step, Step::More, "it ended early");
            step = answer.take(part, &mut came);
        }
        (step, came, answer)
    }

    #[test]
    fn a_whole_answer_is_read_at_every_split() {
        let bytes = payload::answer();
        for cut in 1..bytes.len() {
            let (step, came, answer) = taken(&[&bytes[..cut], &bytes[cut..]]);
            assert_eq!((step, answer.status, came.events), (Step::Done, 200, 0), "cut at {cut}");
            assert!(answer.keeps && !answer.streams);
        }
    }

    #[test]
    fn a_chunked_stream_is_read_at_every_split() {
        let bytes = CHUNKED.as_bytes();
        for cut in 1..bytes.len() {
            let (step, came, answer) = taken(&[&bytes[..cut], &bytes[cut..]]);
            assert_eq!(step, Step::Done, "cut at {cut}");
            assert_eq!(came, Came { events: 3, first: true, gaps: 1 }, "cut at {cut}");
            assert!(answer.keeps && answer.streams && answer.events.done);
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(taken(&single).0, Step::Done);
    }

    #[test]
    fn one_answer_follows_another() {
        let (mut answer, mut came) = (Answer::default(), Came::default());
        for bytes in [CHUNKED.as_bytes(), &payload::answer()[..], CHUNKED.as_bytes()] {
            assert!(answer.is_unbegun());
            assert_eq!(answer.take(bytes, &mut came), Step::Done);
            answer.reset();
        }
        assert_eq!(came.events, 6);
    }

    #[test]
    fn broken_bytes_mean_the_same_however_they_are_cut() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut wrong = 0;
        for _ in 0..20_000 {
            let mut bytes = CHUNKED.as_bytes().to_vec();
            for _ in 0..random.usize(1..3) {
                let at = random.usize(..bytes.len());
                bytes[at] = random.choice(*b"\r\n 0fF;:x\0\xff").unwrap();
            }
            let (mut whole, mut came) = (Answer::default(), Came::default());
            let step = whole.take(&bytes, &mut came);
            let (mut cut, mut cut_came, mut cut_step) =
                (Answer::default(), Came::default(), Step::More);
            for part in bytes.chunks(random.usize(1..40)) {
                if cut_step != Step::Wrong {
                    // What follows an answer is wrong, as it is when it comes together.
                    cut_step = cut.take(part, &mut cut_came);
                }
            }
            assert_eq!(cut_step, step, "{:?}", String::from_utf8_lossy(&bytes));
            assert!(step == Step::Wrong || cut_came == came);
            wrong += usize::from(step == Step::Wrong);
        }
        assert!((1_000..19_000).contains(&wrong), "{wrong} of them were wrong");
    }

    #[test]
    fn the_end_of_the_connection_ends_what_has_no_length() {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
        let (step, came, mut answer) = taken(&[head.as_bytes(), b"data: [DONE]\n\n"]);
        assert_eq!((step, came.events, answer.end()), (Step::More, 1, Step::Done));
        assert!(!answer.keeps);
        let (_, _, mut cut) = taken(&[b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\na"]);
        assert_eq!(cut.end(), Step::Wrong);
    }

    #[test]
    fn closing_and_old_versions_are_heard() {
        for (head, keeps) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n", true),
            ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nConnection: Close\r\n", false),
            ("HTTP/1.0 200 OK\r\ncontent-length: 0\r\n", false),
            ("HTTP/1.0 200 OK\r\ncontent-length: 0\r\nconnection: keep-alive\r\n", true),
            ("HTTP/1.1 204 No Content\r\n", true),
        ] {
            let (step, _, answer) = taken(&[head.as_bytes(), b"\r\n"]);
            assert_eq!((step, answer.keeps), (Step::Done, keeps), "{head}");
        }
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n";
        for wrong in [
            "SSH-2.0-OpenSSH_9.2\r\n\r\n".to_owned(),
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nmore".to_owned(),
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n".to_owned(),
            "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n".to_owned(),
            "HTTP/1.1 101 Switching\r\n\r\n".to_owned(),
            format!("{chunked}content-length: 1\r\n\r\n"),
            format!("{chunked}transfer-encoding: gzip\r\n\r\n"),
            format!("{chunked}\r\n\r\n"),
            format!("{chunked}\r\n1\nab"),
            format!("{chunked}\r\n1\r\nab"),
            format!("{chunked}\r\nffffffffffffffff\r\n"),
            format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(HEAD_BYTES_MAX)),
        ] {
            assert_eq!(taken(&[wrong.as_bytes()]).0, Step::Wrong, "{wrong:.80}");
        }
    }
}
