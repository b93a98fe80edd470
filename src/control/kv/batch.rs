//! One message of an engine's KV events, decoded: msgpack as vLLM and SGLang write it, structures as arrays
//! (`["BlockStored", …]`) or as maps (`{"type": "BlockStored", …}`).
//!
//! Invariant: what is not understood is an error, never half an event; later fields that are not known are
//! passed over, since releases add to the end.

use rmpv::Value;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Events of one message, at most.
const EVENTS_MAX: usize = 65_536;

/// A block's name in the engine: its own hash, whatever its width.
pub type BlockHash = u64;

/// What an engine did with its cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Stored(Stored),
    Removed {
        blocks: Vec<BlockHash>,
    },
    /// Everything is gone.
    Cleared,
}

/// Blocks that were filled, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    pub blocks: Vec<BlockHash>,
    /// What stands before the first of them; `None`: the prompt begins there.
    pub parent: Option<BlockHash>,
    /// The tokens of all of them.
    pub tokens: Vec<u32>,
    pub block_tokens: u32,
    /// The adapter they are for, or 0: equal tokens under another adapter are other blocks.
    pub adapter: u64,
    /// What else parts each of them from blocks with the same tokens (a salt, images), or 0; empty where the
    /// engine does not tell.
    pub extras: Vec<u64>,
}

/// Decodes a message's payload.
///
/// # Errors
/// In words, for a log.
pub fn decode(payload: &[u8]) -> Result<Vec<Event>, String> {
    let mut rest = payload;
    let batch =
        rmpv::decode::read_value(&mut rest).map_err(|error| format!("no msgpack: {error}"))?;
    let events = match &batch {
        // [timestamp, events, data-parallel rank]
        Value::Array(fields) => fields.get(1).and_then(Value::as_array),
        Value::Map(_) => get(&batch, "events").and_then(Value::as_array),
        _ => None,
    };
    let events = events.ok_or("a batch without a list of events")?;
    if events.len() > EVENTS_MAX {
        return Err(format!("{} events in one batch", events.len()));
    }
    events.iter().filter_map(|one| event(one).transpose()).collect()
}

/// A structure's fields, by position or by name.
struct Fields<'a>(&'a Value);

impl<'a> Fields<'a> {
    fn at(&self, position: usize, name: &str) -> Option<&'a Value> {
        let found = match self.0 {
            Value::Array(fields) => fields.get(position),
            value => get(value, name),
        };
        found.filter(|value| !value.is_nil())
    }
}

fn get<'a>(map: &'a Value, name: &str) -> Option<&'a Value> {
    let named = |(key, _): &&(Value, Value)| key.as_str() == Some(name);
    map.as_map()?.iter().find(named).map(|(_, value)| value)
}

/// `None` for what happened elsewhere than in the GPU's memory: blocks that an engine puts aside are written
/// and dropped there under the same names, and often without their tokens.
fn event(value: &Value) -> Result<Option<Event>, String> {
    let fields = Fields(value);
    let tag = fields.at(0, "type").and_then(Value::as_str).ok_or("an event without a name")?;
    match tag {
        "BlockStored" if is_aside(fields.at(6, "medium")) => Ok(None),
        "BlockRemoved" if is_aside(fields.at(2, "medium")) => Ok(None),
        "BlockStored" => stored(&fields).map(|stored| Some(Event::Stored(stored))),
        "BlockRemoved" => {
            let blocks = hashes(fields.at(1, "block_hashes"))?;
            Ok(Some(Event::Removed { blocks }))
        }
        "AllBlocksCleared" => Ok(Some(Event::Cleared)),
        other => Err(format!("unknown event {:?}", other.chars().take(40).collect::<String>())),
    }
}

/// Older releases tell no medium, and know only one.
fn is_aside(medium: Option<&Value>) -> bool {
    medium.and_then(Value::as_str).is_some_and(|medium| medium != "GPU")
}

fn stored(fields: &Fields<'_>) -> Result<Stored, String> {
    let tokens = fields.at(3, "token_ids").and_then(Value::as_array).ok_or("no token_ids")?;
    let token = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    let tokens: Option<Vec<u32>> = tokens.iter().map(token).collect();
    let size = fields.at(4, "block_size").and_then(Value::as_u64);
    let stored = Stored {
        blocks: hashes(fields.at(1, "block_hashes"))?,
        parent: fields.at(2, "parent_block_hash").map(hash).transpose()?,
        tokens: tokens.ok_or("a token id that is no number")?,
        block_tokens: size.and_then(|n| u32::try_from(n).ok()).ok_or("no block_size")?,
        adapter: adapter(fields.at(7, "lora_name"), fields.at(5, "lora_id")),
        extras: fields.at(8, "extra_keys").map_or(Vec::new(), extras),
    };
    match stored.blocks.len() * stored.block_tokens as usize == stored.tokens.len() {
        true => Ok(stored),
        false => Err("blocks and tokens do not agree".to_owned()),
    }
}

/// By its name, which older releases do not tell; numbers change when adapters are loaded again.
fn adapter(name: Option<&Value>, id: Option<&Value>) -> u64 {
    let told = name.filter(|name| name.is_str()).or(id);
    told.map_or(0, |told| xxh3_64(told.to_string().as_bytes()).max(1))
}

/// vLLM's `extra_keys`: for each block a list, or nothing.
fn extras(value: &Value) -> Vec<u64> {
    let one = |keys: &Value| match keys.as_array() {
        Some(keys) => keys.iter().fold(0, |seed, key| match key.as_str() {
            Some(text) => extra(seed, text.as_bytes()),
            None => extra(seed, key.to_string().as_bytes()),
        }),
        None => 0,
    };
    value.as_array().map_or(Vec::new(), |blocks| blocks.iter().map(one).collect())
}

/// One more of a block's extra keys.
pub fn extra(seed: u64, key: &[u8]) -> u64 {
    xxh3_64_with_seed(key, seed)
}

fn hashes(value: Option<&Value>) -> Result<Vec<BlockHash>, String> {
    let list = value.and_then(Value::as_array).ok_or("no block_hashes")?;
    list.iter().map(hash).collect()
}

/// Numbers of either sign, or the bytes of a longer hash.
fn hash(value: &Value) -> Result<BlockHash, String> {
    match value {
        Value::Integer(number) => {
            let number = number.as_u64().or_else(|| number.as_i64().map(i64::cast_unsigned));
            number.ok_or_else(|| "a block hash out of range".to_owned())
        }
        Value::Binary(bytes) => Ok(xxh3_64(bytes)),
        Value::String(text) => Ok(xxh3_64(text.as_bytes())),
        _ => Err("a block hash that is none".to_owned()),
    }
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
