//! The two legs of a request that one server prefills and another decodes.
//!
//! vLLM (NIXL): the first leg is the client's request cut down to one token, with `kv_transfer_params` that
//! ask for its blocks to be kept; its answer says where they are, and those words go into the second leg as
//! they came. SGLang: both legs are the client's request, with the place where its two servers meet.
//!
//! Invariants: a leg's body is the client's, byte for byte, but for the members named here; a member that is
//! put in does not stand in the client's body already, or stands there once, as `null`, and is replaced.
//! What the servers tell each other is not the client's to say: it would name machines to fetch from.

use std::ops::Range;

use crate::api::fault::Fault;
use crate::api::operation::Operation;
use crate::json::{
    Bounds, EditError, Edits, Keys, Kind, Members, Value, elements, scan_object, u64_value,
};

/// Bytes of the place of blocks, at most: some 60,000 of them.
pub const HANDOFF_BYTES_MAX: usize = 512 * 1024;

const KEYS: Keys<14> = Keys::new([
    "kv_transfer_params",
    "bootstrap_host",
    "bootstrap_port",
    "bootstrap_room",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "min_tokens",
    "n",
    "best_of",
    "echo",
    "prompt_logprobs",
    "prompt",
]);
const HANDED: Name = Name { at: 0, name: "kv_transfer_params" };
const HOST: Name = Name { at: 1, name: "bootstrap_host" };
const PORT: Name = Name { at: 2, name: "bootstrap_port" };
const ROOM: Name = Name { at: 3, name: "bootstrap_room" };
const STREAM: usize = 4;
const STREAM_OPTIONS: usize = 5;
const MAX_TOKENS: usize = 6;
const MAX_COMPLETION_TOKENS: usize = 7;
const MIN_TOKENS: usize = 8;
const N: usize = 9;
const BEST_OF: usize = 10;
const ECHO: usize = 11;
const PROMPT_LOGPROBS: usize = 12;
const PROMPT: usize = 13;

/// What the first server is told: keep the blocks, and say where they are.
const KEEP: &str = "{\"do_remote_decode\":true,\"do_remote_prefill\":false,\
                    \"remote_engine_id\":null,\"remote_block_ids\":null,\
                    \"remote_host\":null,\"remote_port\":null}";

#[derive(Clone, Copy)]
struct Name {
    at: usize,
    name: &'static str,
}

/// A request's body, as far as its legs differ from it.
#[derive(Clone, Debug)]
pub struct Asked {
    members: Members<14>,
    /// One answer to one prompt, of which nothing but new tokens is wanted.
    pub splittable: bool,
}

/// Where SGLang's two servers meet for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meeting<'a> {
    /// A host name or an address, without brackets.
    pub host: &'a str,
    pub port: u16,
    /// Below 2⁶³.
    pub room: u64,
}

/// Reads a body of `op`, which was scanned before.
///
/// # Errors
/// It holds what only the gateway may say to servers.
pub fn read(op: Operation, body: &[u8], bounds: &Bounds) -> Result<Asked, Fault> {
    let members = scan_object(body, &KEYS, bounds)?;
    for Name { at, name } in [HANDED, HOST, PORT, ROOM] {
        if members.get(at).is_some_and(|value| value.kind != Kind::Null) {
            return Err(Fault::InvalidField { field: name, expected: "absent" });
        }
    }
    let splittable = matches!(op, Operation::Chat | Operation::Completions)
        && [N, BEST_OF].iter().all(|at| is_one(body, members.get(*at)))
        && [ECHO, PROMPT_LOGPROBS].iter().all(|at| is_off(members.get(*at)))
        && members.get(PROMPT).is_none_or(|prompt| is_single(body, prompt));
    Ok(Asked { members, splittable })
}

fn is_one(body: &[u8], value: Option<&Value>) -> bool {
    value.is_none_or(|value| value.kind == Kind::Null || u64_value(body, value) == Some(1))
}

fn is_off(value: Option<&Value>) -> bool {
    value.is_none_or(|value| matches!(value.kind, Kind::Null | Kind::Bool(false)))
}

/// A text, or a list of tokens.
fn is_single(body: &[u8], prompt: &Value) -> bool {
    let first = || elements(body, prompt.span.clone()).next();
    prompt.kind != Kind::Array || first().is_some_and(|first| first.kind == Kind::Number)
}

impl Asked {
    /// vLLM's first leg: one token, whole, and its blocks are kept.
    pub fn prefill(&self, edits: &mut Edits) -> Result<(), EditError> {
        self.put(edits, HANDED, KEEP.as_bytes().to_vec())?;
        let present = [
            (STREAM, "false"),
            (STREAM_OPTIONS, "null"),
            (MAX_COMPLETION_TOKENS, "1"),
            (MIN_TOKENS, "0"),
        ];
        for (at, text) in present {
            if let Some(value) = self.members.get(at) {
                edits.replace(value.span.clone(), text.as_bytes())?;
            }
        }
        match self.members.get(MAX_TOKENS) {
            Some(value) => edits.replace(value.span.clone(), &b"1"[..]),
            None => edits.insert(self.members.open, &b"\"max_tokens\":1,"[..]),
        }
    }

    /// vLLM's second leg: the place of the blocks, as the first server told it.
    pub fn decode(&self, edits: &mut Edits, handoff: &[u8]) -> Result<(), EditError> {
        self.put(edits, HANDED, handoff.to_vec())
    }

    /// Either of SGLang's legs.
    pub fn meet(&self, edits: &mut Edits, meeting: &Meeting<'_>) -> Result<(), EditError> {
        let host = serde_json::Value::from(meeting.host).to_string().into_bytes();
        self.put(edits, HOST, host)?;
        self.put(edits, PORT, meeting.port.to_string().into_bytes())?;
        self.put(edits, ROOM, meeting.room.to_string().into_bytes())
    }

    /// Puts a member in front, or in the place of its `null`. The body has other members.
    fn put(&self, edits: &mut Edits, member: Name, json: Vec<u8>) -> Result<(), EditError> {
        match self.members.get(member.at) {
            Some(null) => edits.replace(null.span.clone(), json),
            None => {
                let mut text = format!("\"{}\":", member.name).into_bytes();
                text.extend_from_slice(&json);
                text.push(b',');
                edits.insert(self.members.open, text)
            }
        }
    }
}

/// Where the blocks are, in the first leg's `answer`: a JSON object's place in it. `None`: nothing was kept.
pub fn handoff(answer: &[u8], bounds: &Bounds) -> Option<Range<usize>> {
    let keys = Keys::new(["kv_transfer_params"]);
    let members = scan_object(answer, &keys, bounds).ok()?;
    let params = members.get(0).filter(|value| value.kind == Kind::Object)?;
    (params.span.len() <= HANDOFF_BYTES_MAX).then(|| params.span.clone())
}

#[cfg(test)]
mod tests;
