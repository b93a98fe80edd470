//! A client's end: one request after the other, each as soon as the last is answered.

use memchr::memmem::Finder;

use super::peer::head;

/// What one client knows of its answer.
#[derive(Default)]
pub struct Client {
    /// A head that has not come whole.
    held: Vec<u8>,
    state: State,
}

#[derive(Default)]
enum State {
    #[default]
    Head,
    /// A whole answer, so many bytes of which are still to come.
    Whole(u64),
    /// A stream; whether the last byte so far was a line end.
    Stream(bool),
}

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Took {
    Part,
    Answer,
    Events(u64),
    /// Not the answer that was to come.
    Wrong,
}

impl Client {
    /// Takes what was read. `blank` finds the end of an event.
    pub fn take(&mut self, bytes: &[u8], streams: bool, blank: &Finder<'_>) -> Took {
        match self.state {
            State::Head => self.begin(bytes, streams, blank),
            State::Whole(left) => self.whole(left, bytes.len() as u64),
            State::Stream(after_line_end) => self.events(after_line_end, bytes, blank),
        }
    }

    fn begin(&mut self, bytes: &[u8], streams: bool, blank: &Finder<'_>) -> Took {
        let mut joined = std::mem::take(&mut self.held);
        let whole = if joined.is_empty() {
            bytes
        } else {
            joined.extend_from_slice(bytes);
            &joined
        };
        let Some((end, length)) = head(whole) else {
            self.held = whole.to_vec();
            return Took::Part;
        };
        if !whole.starts_with(b"HTTP/1.1 200") {
            return Took::Wrong;
        }
        match streams {
            true => self.events(false, &whole[end..], blank),
            false => self.whole(length, (whole.len() - end) as u64),
        }
    }

    fn whole(&mut self, left: u64, came: u64) -> Took {
        let (state, took) = match left.checked_sub(came) {
            Some(0) => (State::Head, Took::Answer),
            Some(left) => (State::Whole(left), Took::Part),
            None => (State::Head, Took::Wrong),
        };
        self.state = state;
        took
    }

    /// Only an event's end has two line ends in a row: JSON has none, chunk framing has carriage returns.
    fn events(&mut self, after_line_end: bool, bytes: &[u8], blank: &Finder<'_>) -> Took {
        let split = after_line_end && bytes.first() == Some(&b'\n');
        let found = blank.find_iter(bytes).count() as u64 + u64::from(split);
        self.state = State::Stream(bytes.last().is_some_and(|byte| *byte == b'\n'));
        Took::Events(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::payload;

    #[test]
    fn an_answer_is_counted_however_it_is_cut() {
        let answer = payload::answer();
        for cut in 1..answer.len() {
            let mut client = Client::default();
            let blank = Finder::new(b"\n\n");
            assert_eq!(client.take(&answer[..cut], false, &blank), Took::Part, "cut at {cut}");
            assert_eq!(client.take(&answer[cut..], false, &blank), Took::Answer, "cut at {cut}");
        }
    }

    #[test]
    fn events_are_counted_however_they_are_cut() {
        let stream = [&payload::stream_head()[..], &payload::burst(3)].concat();
        for cut in 1..stream.len() {
            let mut client = Client::default();
            let blank = Finder::new(b"\n\n");
            let count = |took| if let Took::Events(count) = took { count } else { 0 };
            let first = count(client.take(&stream[..cut], true, &blank));
            let rest = count(client.take(&stream[cut..], true, &blank));
            assert_eq!(first + rest, 3, "cut at {cut}");
        }
    }

    #[test]
    fn an_error_is_wrong() {
        let mut client = Client::default();
        let error = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(client.take(error, false, &Finder::new(b"\n\n")), Took::Wrong);
    }
}
