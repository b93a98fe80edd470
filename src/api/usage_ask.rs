//! Making a stream tell its usage: the smallest edits that turn `stream_options.include_usage` on.
//!
//! Invariant: after the edits the body says what it said before, `include_usage: true` aside,
//! except that `continuous_usage_stats`, which is without effect beside `include_usage: false`,
//! stays so.

use std::ops::Range;

use super::fault::Fault;
use crate::json::{Bounds, EditError, Edits, Keys, Kind, Members, ScanError, Value, scan_nested};

/// What must be done so that a stream tells its usage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UsageAsk {
    /// Nothing: the client asked for it, or the operation always tells, or it does not stream.
    AsSent,
    /// Make these replacements in the body, and withhold the usage-only event.
    Inject(UsageEdits),
}

/// One or two replacements, in no particular order; they do not overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageEdits {
    pub first: UsageEdit,
    pub second: Option<UsageEdit>,
}

/// A range of the body and what stands there instead; an empty range inserts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageEdit {
    pub range: Range<usize>,
    pub text: &'static str,
}

impl UsageAsk {
    /// Whether the usage-only event is withheld from the client.
    pub fn withholds(&self) -> bool {
        matches!(self, UsageAsk::Inject(_))
    }

    /// Adds the replacements, if any, to the edits of the body.
    pub fn splice(&self, edits: &mut Edits) -> Result<(), EditError> {
        let UsageAsk::Inject(usage) = self else { return Ok(()) };
        for edit in std::iter::once(&usage.first).chain(&usage.second) {
            edits.replace(edit.range.clone(), edit.text.as_bytes())?;
        }
        Ok(())
    }
}

const KEYS: Keys<2> = Keys::new(["include_usage", "continuous_usage_stats"]);
const INCLUDE: Flag = Flag { at: 0, name: "stream_options.include_usage" };
const CONTINUOUS: Flag = Flag { at: 1, name: "stream_options.continuous_usage_stats" };

#[derive(Clone, Copy)]
struct Flag {
    at: usize,
    name: &'static str,
}

/// What to do with the `stream_options` of a chat or text completion, and whether the client gets a
/// usage in every event. `open` is the offset just after the body's `{`; the body has other
/// members. Of a request that does not stream only the type is looked at.
pub fn usage_ask(
    body: &[u8],
    open: usize,
    stream: bool,
    options: Option<&Value>,
    bounds: &Bounds,
) -> Result<(UsageAsk, bool), Fault> {
    let insert = || edit(open..open, "\"stream_options\":{\"include_usage\":true},");
    let Some(options) = options else {
        return Ok((if stream { inject(insert()) } else { UsageAsk::AsSent }, false));
    };
    match options.kind {
        Kind::Null | Kind::Object if !stream => Ok((UsageAsk::AsSent, false)),
        Kind::Null => Ok((inject(edit(options.span.clone(), "{\"include_usage\":true}")), false)),
        Kind::Object => inside(&scan_options(body, options.span.clone(), bounds)?),
        _ => Err(Fault::InvalidField { field: "stream_options", expected: "an object" }),
    }
}

fn scan_options(body: &[u8], span: Range<usize>, bounds: &Bounds) -> Result<Members<2>, Fault> {
    scan_nested(body, span, &KEYS, bounds).map_err(|error| match error {
        ScanError::Duplicate { key: "include_usage", .. } => Fault::DuplicateField(INCLUDE.name),
        ScanError::Duplicate { .. } => Fault::DuplicateField(CONTINUOUS.name),
        other => other.into(),
    })
}

/// The case of an object: `include_usage` is turned on in its place, or put in front.
fn inside(options: &Members<2>) -> Result<(UsageAsk, bool), Fault> {
    let continuous = flag(options, CONTINUOUS)? == Some(true);
    let first = match (flag(options, INCLUDE)?, options.get(INCLUDE.at)) {
        (Some(true), _) => return Ok((UsageAsk::AsSent, continuous)),
        (_, Some(value)) => edit(value.span.clone(), "true"),
        (_, None) if options.empty => edit(options.open..options.open, "\"include_usage\":true"),
        (_, None) => edit(options.open..options.open, "\"include_usage\":true,"),
    };
    // Without include_usage the client gets no usage in its events; now they must not appear.
    let second = options.get(CONTINUOUS.at).filter(|_| continuous);
    let second = second.map(|value| edit(value.span.clone(), "false"));
    Ok((UsageAsk::Inject(UsageEdits { first, second }), false))
}

/// A boolean, or None where it is absent or null.
fn flag(options: &Members<2>, flag: Flag) -> Result<Option<bool>, Fault> {
    match options.get(flag.at).map(|value| value.kind) {
        None | Some(Kind::Null) => Ok(None),
        Some(Kind::Bool(on)) => Ok(Some(on)),
        Some(_) => Err(Fault::InvalidField { field: flag.name, expected: "a boolean" }),
    }
}

fn inject(first: UsageEdit) -> UsageAsk {
    UsageAsk::Inject(UsageEdits { first, second: None })
}

fn edit(range: Range<usize>, text: &'static str) -> UsageEdit {
    UsageEdit { range, text }
}
