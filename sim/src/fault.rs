//! Misbehaviour on command.
//!
//! A fault is written `kind[:argument]`, several are joined with `;`. It comes with one request
//! (header `x-sim-fault`), or as the server's default (`--fault`, `POST /sim/fault`).
//!
//! | fault | what happens |
//! |---|---|
//! | `refuse[:rst]` | the request is read, then the connection closes (or resets) without an answer |
//! | `429[:S]` | 429 with `Retry-After: S` (default 1) |
//! | `status:N` | N (400–599) with an error body |
//! | `oom` | 500 with CUDA's out-of-memory message |
//! | `html` | 200 with an HTML page |
//! | `delay:MS` | everything begins so many milliseconds later |
//! | `hang` | not one byte is answered; the connection stays open |
//! | `hang-head` | the 200 head is sent, then nothing |
//! | `rst:N`, `fin:N` | connection reset, or closed, after N bytes of the response (head included) |
//! | `stall:N` | silence after N events |
//! | `truncate:N` | after N events the body ends cleanly: no finish reason, no `[DONE]` |
//! | `malformed:N` | event N (from 0) loses its second half |
//! | `error:N` | after N events an error event, `[DONE]` and a clean end, as when an engine dies |
//! | `slow:X` | one token every X steps |
//! | `nofinish` | the finish reason is left out |
//! | `loop[:K]` | the first K words (default 4) over and over, up to the token limit |
//! | `eof` | no length and no chunks: the body ends with the connection |
//! | `close` | `Connection: close`, and the connection closes |
//! | `interim[:K]` | K (default 1) interim responses (102, 103) come first |
//! | `split[:K]` | writes of K bytes (default 1) |
//!
//! Without an argument N is 0. On an answer that is not streamed, the body counts as one event:
//! `stall`, `truncate` and `malformed` break it in the middle, `error` puts an error in its place.

use std::fmt::{self, Display, Formatter};

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// FIN.
    Close,
    /// RST.
    Reset,
}

/// An answer given in place of the real one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Substitute {
    /// An error with this status, and seconds for `Retry-After`.
    Status(u16, Option<u32>),
    OutOfMemory,
    Html,
}

/// Where an answer stops for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hang {
    BeforeHead,
    AfterHead,
}

/// Everything that can be wrong with one answer; `Default` is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    pub refuse: Option<Ending>,
    pub substitute: Option<Substitute>,
    pub delay_ms: u64,
    pub hang: Option<Hang>,
    /// After so many bytes of the response.
    pub cut: Option<(u64, Ending)>,
    pub events: EventFaults,
    /// Steps per token; 0 and 1 are normal.
    pub slow: u32,
    pub no_finish: bool,
    /// Words of a looped phrase; 0 is none.
    pub loop_words: u32,
    pub until_close: bool,
    pub close: bool,
    pub interim: u32,
    /// Bytes of each write; 0 is as many as there are.
    pub split: usize,
}

/// Faults that strike at an event, by its number from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventFaults {
    pub stall: Option<u32>,
    pub truncate: Option<u32>,
    pub malformed: Option<u32>,
    pub error: Option<u32>,
}

/// A fault that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadFault(String);

impl Display for BadFault {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "no such fault: {:?} (see the table in the sim's README)", self.0)
    }
}

impl std::error::Error for BadFault {}

impl Faults {
    /// Reads `kind[:argument][;…]`.
    pub fn parse(text: &str) -> Result<Self, BadFault> {
        let mut faults = Self::default();
        for one in text.split(';').map(str::trim).filter(|one| !one.is_empty()) {
            let (kind, argument) = match one.split_once(':') {
                Some((kind, argument)) => (kind.trim(), Some(argument.trim())),
                None => (one, None),
            };
            faults.add(kind, argument).ok_or_else(|| BadFault(one.to_string()))?;
        }
        Ok(faults)
    }

    /// Adds one fault; `None` where the kind is unknown or the argument does not fit.
    fn add(&mut self, kind: &str, argument: Option<&str>) -> Option<()> {
        let number = |default: u64| argument.map_or(Some(default), |text| text.parse().ok());
        let small = |default: u32| argument.map_or(Some(default), |text| text.parse().ok());
        match kind {
            "refuse" => self.refuse = Some(ending(argument)?),
            "429" => self.substitute = Some(Substitute::Status(429, Some(small(1)?))),
            "status" => self.substitute = Some(Substitute::Status(status(argument)?, None)),
            "oom" => self.substitute = Some(Substitute::OutOfMemory),
            "html" => self.substitute = Some(Substitute::Html),
            "delay" => self.delay_ms = argument?.parse().ok()?,
            "hang" => self.hang = Some(Hang::BeforeHead),
            "hang-head" => self.hang = Some(Hang::AfterHead),
            "rst" => self.cut = Some((number(0)?, Ending::Reset)),
            "fin" => self.cut = Some((number(0)?, Ending::Close)),
            "stall" => self.events.stall = Some(small(0)?),
            "truncate" => self.events.truncate = Some(small(0)?),
            "malformed" => self.events.malformed = Some(small(0)?),
            "error" => self.events.error = Some(small(0)?),
            "slow" => self.slow = argument?.parse().ok()?,
            "nofinish" => self.no_finish = true,
            "loop" => self.loop_words = small(4)?.max(1),
            "eof" => self.until_close = true,
            "close" => self.close = true,
            "interim" => self.interim = small(1)?.min(INTERIM_MAX),
            "split" => self.split = number(1)?.max(1) as usize,
            _ => return None,
        }
        Some(())
    }
}

/// Interim responses before one answer.
const INTERIM_MAX: u32 = 1_000;

fn ending(argument: Option<&str>) -> Option<Ending> {
    match argument {
        None | Some("fin") => Some(Ending::Close),
        Some("rst") => Some(Ending::Reset),
        Some(_) => None,
    }
}

fn status(argument: Option<&str>) -> Option<u16> {
    argument?.parse().ok().filter(|status| (400..600).contains(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_faults_combine() {
        let faults = Faults::parse("slow:3; rst:100;split").unwrap();
        assert_eq!(faults.slow, 3);
        assert_eq!(faults.cut, Some((100, Ending::Reset)));
        assert_eq!(faults.split, 1);
        assert_eq!(Faults::parse(" ").unwrap(), Faults::default());
    }

    #[test]
    fn every_kind_in_the_table_is_known() {
        let source = include_str!("fault.rs");
        let rows = source.lines().filter(|line| line.starts_with("//! | `"));
        let mut seen = 0;
        for row in rows {
            let cell = row.split('|').nth(1).unwrap();
            for one in cell.split('`').skip(1).step_by(2) {
                let example = one.replace("[:rst]", ":rst").replace(['[', ']'], "");
                let example = example.replace(":S", ":3").replace(":MS", ":3").replace(":K", ":3");
                let example = example.replace(":N", ":503").replace(":X", ":3");
                assert_ne!(Faults::parse(&example).unwrap(), Faults::default(), "{example}");
                seen += 1;
            }
            let readme = include_str!("../README.md");
            assert!(readme.contains(&row["//! ".len()..]), "{row}");
        }
        assert_eq!(seen, 21);
    }

    #[test]
    fn what_is_not_a_fault_is_refused() {
        for wrong in ["bang", "status:99", "status", "rst:x", "slow", "delay:-1", "refuse:maybe"] {
            assert!(Faults::parse(wrong).is_err(), "{wrong}");
        }
    }
}
