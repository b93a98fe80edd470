//! Sluice's own format: a JSON object per line.
//!
//! ```json
//! {"at_ms": 120, "id": "b", "after": "a", "session": 7, "output_tokens": 90,
//!  "parts": [["tool", 11, 4000], ["system", 12, 900], ["user", 13, 250], ["spoken", "a", 80]]}
//! ```
//!
//! A part is (`tool` | `system` | `user` | `assistant`, seed, tokens): equal seeds mean equal text. The
//! part `spoken` repeats what the request of that id said. `id`, `after` (the request that must have ended
//! before) and `session` may be missing; an id must stand above what names it.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

use super::{Ask, Part, Piece};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    at_ms: f64,
    id: Option<String>,
    after: Option<String>,
    session: Option<u64>,
    output_tokens: u32,
    parts: Vec<(String, Value, u32)>,
}

/// Reads lines and knows the ids so far.
#[derive(Default)]
pub struct Reader {
    ids: HashMap<String, usize>,
    count: usize,
    last_ms: f64,
}

impl Reader {
    /// One line.
    pub fn line(&mut self, line: &str) -> Result<Ask, String> {
        let line: Line = serde_json::from_str(line).map_err(|error| error.to_string())?;
        if !(self.last_ms..=1e12).contains(&line.at_ms) {
            return Err(format!("at_ms {} is before the line above", line.at_ms));
        }
        self.last_ms = line.at_ms;
        let pieces = line.parts.iter().map(|part| self.piece(part)).collect::<Result<_, _>>()?;
        let after = line.after.as_deref().map(|id| self.known(id)).transpose()?;
        let ask = Ask {
            at: (line.at_ms * 1e6) as u64,
            offset: 0,
            after,
            session: line.session,
            pieces,
            output_tokens: line.output_tokens.max(1),
            voice: Some(voice(self.count)),
        };
        if ask.input_tokens() == 0 {
            return Err("a request needs a part with tokens".into());
        }
        if let Some(id) = line.id {
            self.ids.insert(id, self.count);
        }
        self.count += 1;
        Ok(ask)
    }

    fn known(&self, id: &str) -> Result<usize, String> {
        self.ids.get(id).copied().ok_or(format!("no request {id:?} above"))
    }

    fn piece(&self, (part, seed, tokens): &(String, Value, u32)) -> Result<Piece, String> {
        let number = || seed.as_u64().ok_or(format!("{seed} is no seed"));
        let (part, seed) = match part.as_str() {
            "tool" => (Part::Tool, number()?),
            "system" => (Part::System, number()?),
            "user" => (Part::User, number()?),
            "assistant" => (Part::Assistant, number()?),
            "spoken" => {
                let id = seed.as_str().ok_or(format!("{seed} is no id"))?;
                (Part::Spoken, voice(self.known(id)?))
            }
            other => return Err(format!("no part is called {other:?}")),
        };
        Ok(Piece { seed, tokens: *tokens, part })
    }
}

fn voice(count: usize) -> u64 {
    0x5eed_0000_0000 + count as u64
}
