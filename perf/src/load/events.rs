//! Server-sent events as they arrive: counted, and looked into no deeper than telling content, error and end.

use memchr::memmem;

/// Bytes of a line that are kept while it has not come whole; more are not looked at.
const LINE_BYTES_MAX: usize = 1 << 20;

/// Fields whose text is what the model says.
const CONTENT: [&[u8]; 4] =
    [b"\"content\":", b"\"reasoning_content\":", b"\"reasoning\":", b"\"text\":"];

/// What one stream has said so far.
#[derive(Default)]
pub struct Events {
    /// The beginning of a line whose end has not come.
    held: Vec<u8>,
    /// The present event has data.
    data: bool,
    /// An event with content has been begun.
    content: bool,
    /// It has ended, too.
    flowing: bool,
    /// `[DONE]` was said.
    pub done: bool,
    /// An event was an error.
    pub failed: bool,
}

/// What some bytes brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Came {
    /// Events that ended, `[DONE]` included.
    pub events: u64,
    /// The first event with content is among them.
    pub first: bool,
    /// Events behind that one, `[DONE]` not included: each has a gap before it.
    pub gaps: u64,
}

impl Events {
    /// Forgets the stream before.
    pub fn reset(&mut self) {
        self.held.clear();
        let held = std::mem::take(&mut self.held);
        *self = Self { held, ..Self::default() };
    }

    /// Takes bytes of the stream, cut anywhere, and adds what they brought to `came`.
    pub fn take(&mut self, mut bytes: &[u8], came: &mut Came) {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            let line = &bytes[..end];
            bytes = &bytes[end + 1..];
            if self.held.is_empty() {
                self.line(line, came);
            } else {
                let mut held = std::mem::take(&mut self.held);
                held.extend_from_slice(line);
                self.line(&held, came);
                held.clear();
                self.held = held;
            }
        }
        let room = LINE_BYTES_MAX.saturating_sub(self.held.len());
        self.held.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn line(&mut self, line: &[u8], came: &mut Came) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            return self.end(came);
        }
        let Some(data) = line.strip_prefix(b"data:") else { return };
        let data = data.strip_prefix(b" ").unwrap_or(data);
        self.data = true;
        match data {
            b"[DONE]" => self.done = true,
            _ if data.starts_with(b"{\"error\"") => self.failed = true,
            _ if !self.content => self.content = has_content(data),
            _ => {}
        }
    }

    fn end(&mut self, came: &mut Came) {
        // Comments alone make no event.
        if !std::mem::take(&mut self.data) {
            return;
        }
        came.events += 1;
        if self.flowing {
            came.gaps += u64::from(!self.done);
        } else if self.content {
            self.flowing = true;
            came.first = true;
        }
    }
}

/// Whether an event says something: text that is not empty, or a part of a call.
fn has_content(data: &[u8]) -> bool {
    let said =
        |name: &[u8]| memmem::find_iter(data, name).any(|at| begins_text(&data[at + name.len()..]));
    CONTENT.iter().any(|name| said(name)) || memmem::find(data, b"\"tool_calls\":[{").is_some()
}

fn begins_text(value: &[u8]) -> bool {
    let value = value.strip_prefix(b" ").unwrap_or(value);
    matches!(value, [b'"', next, ..] if *next != b'"')
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] = b": hello\n\n\
        data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n\
        data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\r\n\r\n\
        event: x\ndata: {\"choices\":[{\"delta\":{\"content\":\"b\"}}]}\n\n\
        : ping\n\n\
        data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n\
        data: [DONE]\n\n";

    #[test]
    fn events_are_told_apart_however_they_are_cut() {
        for first in 0..STREAM.len() {
            for second in first..STREAM.len() {
                let (mut events, mut came) = (Events::default(), Came::default());
                for part in [&STREAM[..first], &STREAM[first..second], &STREAM[second..]] {
                    events.take(part, &mut came);
                }
                assert_eq!(came, Came { events: 5, first: true, gaps: 2 }, "{first} {second}");
                assert!(events.done && !events.failed);
            }
        }
    }

    #[test]
    fn the_first_content_comes_with_its_event() {
        let content = memmem::find(STREAM, b"\"a\"").unwrap_or(0);
        let end = content + memmem::find(&STREAM[content..], b"\r\n\r\n").unwrap_or(0) + 4;
        let (mut events, mut came) = (Events::default(), Came::default());
        events.take(&STREAM[..end - 1], &mut came);
        assert_eq!(came, Came { events: 1, first: false, gaps: 0 });
        events.take(&STREAM[end - 1..end], &mut came);
        assert_eq!(came, Came { events: 2, first: true, gaps: 0 });
    }

    #[test]
    fn what_is_content() {
        for (data, said) in [
            ("{\"delta\":{\"content\":\"\"}}", false),
            ("{\"delta\":{\"content\":null}}", false),
            ("{\"delta\":{\"content\":\"x\"}}", true),
            ("{\"delta\": {\"content\": \"x\"}}", true),
            ("{\"delta\":{\"content\":\"\",\"reasoning_content\":\"x\"}}", true),
            ("{\"choices\":[{\"text\":\"x\"}]}", true),
            ("{\"delta\":{\"tool_calls\":[{\"index\":0}]}}", true),
            ("{\"delta\":{\"tool_calls\":[]}}", false),
        ] {
            assert_eq!(has_content(data.as_bytes()), said, "{data}");
        }
    }

    #[test]
    fn errors_are_seen_and_forgotten() {
        let (mut events, mut came) = (Events::default(), Came::default());
        events.take(
            b"data: {\"error\":{\"message\":\"gone\"}}\n\ndata: [DONE]\n\ndata: x",
            &mut came,
        );
        assert!(events.failed && events.done);
        assert_eq!(came, Came { events: 2, first: false, gaps: 0 });
        events.reset();
        events.take(b"\n\n", &mut came);
        assert!(!events.failed && !events.done && came.events == 2);
    }
}
