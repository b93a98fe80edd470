//! The fields of one event, and writing one.

use memchr::memchr2;

/// An event's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data<'a> {
    /// No data field: a comment, or other fields only. Clients see nothing of such an event.
    None,
    /// One data line.
    One(&'a [u8]),
    /// Several, joined with LF.
    Joined(Vec<u8>),
}

impl Data<'_> {
    /// The bytes; none if there is no data field.
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::None => None,
            Self::One(bytes) => Some(bytes),
            Self::Joined(bytes) => Some(bytes),
        }
    }
}

/// The data of a complete event as a [`super::Splitter`] gives it. A byte order mark at its start
/// is skipped.
#[inline]
pub fn data_of(event: &[u8]) -> Data<'_> {
    let mut data = Data::None;
    for value in fields(event, b"data") {
        data = match data {
            Data::None => Data::One(value),
            Data::One(first) => Data::Joined([first, value].join(&b'\n')),
            Data::Joined(mut all) => {
                all.push(b'\n');
                all.extend_from_slice(value);
                Data::Joined(all)
            }
        };
    }
    data
}

/// The name of an event, if it has one that is not empty. Of several the last counts.
#[inline]
pub fn event_name(event: &[u8]) -> Option<&[u8]> {
    fields(event, b"event").last().filter(|name| !name.is_empty())
}

/// Appends one event. Each line of `data` becomes a data line; a name ends at its first line end.
pub fn write_event(out: &mut Vec<u8>, name: Option<&str>, data: &[u8]) {
    if let Some(name) = name {
        write_field(out, b"event: ", Lines(Some(name.as_bytes())).next().unwrap_or_default());
    }
    for line in Lines(Some(data)) {
        write_field(out, b"data: ", line);
    }
    out.push(b'\n');
}

fn write_field(out: &mut Vec<u8>, field: &[u8], value: &[u8]) {
    out.extend_from_slice(field);
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// The values of the fields called `name`, in order.
#[inline]
fn fields<'a>(event: &'a [u8], name: &'static [u8]) -> impl Iterator<Item = &'a [u8]> {
    let event = event.strip_prefix(b"\xef\xbb\xbf").unwrap_or(event);
    Lines(Some(event)).filter_map(move |line| {
        let rest = line.strip_prefix(name)?;
        match rest.split_first() {
            None => Some(rest),
            Some((b':', value)) => Some(value.strip_prefix(b" ").unwrap_or(value)),
            Some(_) => None,
        }
    })
}

/// Lines without their ends: LF, CRLF or CR. Text after the last line end is a line too.
struct Lines<'a>(Option<&'a [u8]>);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let text = self.0?;
        let Some(len) = memchr2(b'\n', b'\r', text) else {
            self.0 = None;
            return Some(text);
        };
        let end = if let [b'\r', b'\n', ..] = text[len..] { len + 2 } else { len + 1 };
        self.0 = Some(&text[end..]);
        Some(&text[..len])
    }
}
