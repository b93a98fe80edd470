//! What is asked and when: traces from files and workloads made here, in one form.
//!
//! A prompt is a list of pieces, each a run of tokens whose content its seed decides. Equal seeds at equal
//! places mean equal content, whatever is made of it: block hashes for an engine in virtual time, or the
//! text of a real request body.

mod azure;
mod mooncake;
mod own;

use std::fs;
use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use sluice_sim::engine::Time;

use crate::Failure;

/// Where in a conversation a piece stands; each piece is one message (or one tool).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Tool,
    System,
    User,
    /// An answer that some other model gave.
    Assistant,
    /// An answer that the engine gave: its seed is the key of the engine's voice.
    Spoken,
}

/// A run of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    pub seed: u64,
    pub tokens: u32,
    pub part: Part,
}

/// One request of a trace.
#[derive(Clone, Debug)]
pub struct Ask {
    /// When it arrives, at the trace's own pace.
    pub at: Time,
    /// Added after the pace was changed: what follows its cause at a fixed distance.
    pub offset: Time,
    /// The request that must have ended before.
    pub after: Option<usize>,
    pub session: Option<u64>,
    pub pieces: Vec<Piece>,
    pub output_tokens: u32,
    /// Key of what it will say, if a later request repeats that.
    pub voice: Option<u64>,
}

impl Ask {
    /// Tokens of the prompt.
    pub fn input_tokens(&self) -> u32 {
        self.pieces.iter().map(|piece| piece.tokens).sum()
    }

    /// When it arrives at `pace` times the trace's own speed.
    pub fn due(&self, pace: f64) -> Time {
        (self.at as f64 / pace) as Time + self.offset
    }
}

/// Requests in the order of their times.
#[derive(Clone, Debug)]
pub struct Trace {
    pub name: String,
    pub asks: Vec<Ask>,
}

impl Trace {
    /// Requests per second at the trace's own pace.
    pub fn rate(&self) -> f64 {
        let first = self.asks.first().map_or(0, |ask| ask.at);
        let last = self.asks.last().map_or(0, |ask| ask.at);
        self.asks.len() as f64 / ((last - first) as f64 / 1e9).max(1e-9)
    }

    /// Reads a file in any of the formats, packed by gzip or not, and keeps `most` requests of it.
    ///
    /// # Errors
    /// The file's, or the first line that is no request: `file:line: why`.
    pub fn read(path: &Path, most: usize) -> Result<Self, Failure> {
        let text = text(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut asks = Vec::new();
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let mut format = None;
        for (at, line) in lines {
            let format = format.get_or_insert_with(|| Format::of(line));
            let ask = format
                .line(line, asks.len())
                .map_err(|why| format!("{}:{}: {why}", path.display(), at + 1))?;
            asks.extend(ask);
        }
        asks.sort_by_key(|ask: &Ask| ask.at);
        asks.truncate(most);
        if asks.is_empty() {
            return Err(format!("{}: no requests", path.display()).into());
        }
        Ok(Self { name: name(path), asks })
    }
}

fn name(path: &Path) -> String {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    file.split('.').next().unwrap_or_default().to_owned()
}

fn text(path: &Path) -> std::io::Result<String> {
    let bytes = fs::read(path)?;
    let mut text = String::new();
    match bytes.starts_with(&[0x1f, 0x8b]) {
        true => GzDecoder::new(&*bytes).read_to_string(&mut text)?,
        false => (&*bytes).read_to_string(&mut text)?,
    };
    Ok(text)
}

/// The formats, each known by its first line.
enum Format {
    Mooncake,
    Azure(azure::Reader),
    Own(own::Reader),
}

impl Format {
    fn of(first: &str) -> Self {
        if first.starts_with("TIMESTAMP,") {
            Self::Azure(azure::Reader::default())
        } else if first.contains("\"hash_ids\"") {
            Self::Mooncake
        } else {
            Self::Own(own::Reader::default())
        }
    }

    /// One line; `None` for a heading.
    fn line(&mut self, line: &str, count: usize) -> Result<Option<Ask>, String> {
        match self {
            Self::Mooncake => mooncake::line(line).map(Some),
            Self::Azure(reader) => reader.line(line, count as u64),
            Self::Own(reader) => reader.line(line).map(Some),
        }
    }
}

#[cfg(test)]
mod tests;
