//! A client's reading of answers: simple, slow, and no part of the gateway.

/// One answer, or as much of it as came.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    /// Lower-case names.
    pub fields: Vec<(String, String)>,
    /// Without its framing.
    pub body: Vec<u8>,
    /// The framing says that nothing is missing.
    pub whole: bool,
}

impl Reply {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Whether the gateway said that the connection ends here.
    pub fn closes(&self) -> bool {
        self.field("connection") == Some("close")
    }
}

/// Takes the answer at the front of `got`; `None` while more is needed. After the end of the connection
/// whatever is there of one.
///
/// # Panics
/// When it is not lawful HTTP.
pub fn take(got: &mut Vec<u8>, ended: bool, bodiless: bool) -> Option<Reply> {
    loop {
        let head_end = find(got, b"\r\n\r\n")? + 4;
        let mut reply = head(&got[..head_end]);
        if (100..200).contains(&reply.status) {
            got.drain(..head_end);
            continue;
        }
        let rest = &got[head_end..];
        let used = body(&mut reply, rest, ended, bodiless);
        if !reply.whole && !ended {
            return None;
        }
        got.drain(..head_end + used);
        return Some(reply);
    }
}

fn head(bytes: &[u8]) -> Reply {
    let text = std::str::from_utf8(bytes).expect("a head is text");
    let mut lines = text.trim_end().split("\r\n");
    let status = lines.next().expect("a status line");
    assert!(status.starts_with("HTTP/1.1 "), "{status}");
    let status = status[9..12].parse().expect("a status");
    let fields = lines
        .map(|line| line.split_once(": ").expect("a field"))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    Reply { status, fields, body: Vec::new(), whole: false }
}

/// Reads the body into `reply`; how many bytes of `rest` it took.
fn body(reply: &mut Reply, rest: &[u8], ended: bool, bodiless: bool) -> usize {
    let length = reply.field("content-length").map(|n| n.parse::<usize>().expect("a length"));
    let chunked = reply.field("transfer-encoding").is_some();
    assert!(!(chunked && length.is_some()), "two framings: {:?}", reply.fields);
    // Of a head that never came whole the gateway does not know that it was a HEAD's.
    if bodiless && reply.status != 408 || matches!(reply.status, 204 | 304) {
        reply.whole = true;
        return 0;
    }
    if chunked {
        return chunks(reply, rest);
    }
    let used = length.unwrap_or(usize::MAX).min(rest.len());
    reply.body = rest[..used].to_vec();
    reply.whole = length.map_or(ended, |length| length == used);
    used
}

fn chunks(reply: &mut Reply, rest: &[u8]) -> usize {
    let mut at = 0;
    loop {
        let Some(line) = find(&rest[at..], b"\r\n") else { return rest.len() };
        let size = std::str::from_utf8(&rest[at..at + line]).expect("a chunk line is text");
        let size = usize::from_str_radix(size, 16).expect("a chunk line is a size");
        let data = at + line + 2;
        if size == 0 {
            if rest.len() < data + 2 {
                return rest.len();
            }
            assert_eq!(&rest[data..data + 2], b"\r\n", "after the last chunk");
            reply.whole = true;
            return data + 2;
        }
        let end = (data + size).min(rest.len());
        reply.body.extend_from_slice(&rest[data..end]);
        if rest.len() < data + size + 2 {
            return rest.len();
        }
        assert_eq!(&rest[end..end + 2], b"\r\n", "after a chunk");
        at = end + 2;
    }
}

pub fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, needle)
}
