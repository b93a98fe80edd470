//! Azure's LLM inference traces of 2023: `TIMESTAMP,ContextTokens,GeneratedTokens`.
//!
//! They tell nothing of content: no two prompts share anything.

use super::{Ask, Part, Piece};

/// Reads lines after the heading.
#[derive(Default)]
pub struct Reader {
    first: Option<u64>,
}

impl Reader {
    /// One line; `None` for the heading. `seed` makes its content its own.
    pub fn line(&mut self, line: &str, seed: u64) -> Result<Option<Ask>, String> {
        if line.starts_with("TIMESTAMP") {
            return Ok(None);
        }
        let mut fields = line.trim().split(',');
        let mut field = || fields.next().ok_or("expected timestamp,input,output");
        let (time, input, output) = (field()?, field()?, field()?);
        let tokens = |text: &str| match text.parse::<u32>() {
            Ok(0) | Err(_) => Err(format!("{text:?} is no count of tokens")),
            Ok(tokens) => Ok(tokens),
        };
        let at = nanoseconds(time).ok_or(format!("{time:?} is no time"))?;
        let first = *self.first.get_or_insert(at);
        Ok(Some(Ask {
            at: at.saturating_sub(first),
            offset: 0,
            after: None,
            session: None,
            pieces: vec![Piece { seed, tokens: tokens(input)?, part: Part::User }],
            output_tokens: tokens(output)?,
            voice: None,
        }))
    }
}

/// `YYYY-MM-DD hh:mm:ss.fraction` as nanoseconds since a day that all lines share; a trace stays within
/// one month.
fn nanoseconds(text: &str) -> Option<u64> {
    let (date, time) = text.split_once(' ')?;
    let day: u64 = date.rsplit('-').next()?.parse().ok()?;
    let mut parts = time.splitn(3, ':');
    let mut part = || parts.next();
    let (hours, minutes): (u64, u64) = (part()?.parse().ok()?, part()?.parse().ok()?);
    let seconds: f64 = part()?.trim_end_matches("+00").parse().ok()?;
    let whole = day * 86_400 + hours * 3_600 + minutes * 60;
    (0.0..61.0).contains(&seconds).then(|| whole * 1_000_000_000 + (seconds * 1e9) as u64)
}
