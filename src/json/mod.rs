//! JSON bodies read in place: where the wanted members stand, what they say, and splice edits.
//!
//! Owns: the span scan of request bodies ([`scan_object`], [`scan_nested`], [`elements`]), the
//! accessors over what it found ([`string_value`], [`u64_value`]) and [`Edits`]. Nothing here
//! copies a body or builds a tree, and nothing here does I/O.
//!
//! Invariants:
//! - `scan_object` accepts exactly the objects that `serde_json` reads as a `Value` (UTF-8 throughout,
//!   paired surrogates, numbers within f64), up to `Bounds::depth_max` levels, and no others.
//! - A wanted key, compared after unescaping, stands at most once in an accepted object.
//! - Every span given out lies within the body and holds one whole JSON value.
//! - No input makes it recurse, panic, or spend more than time linear in the body.

mod edits;
mod lanes;
mod scan;
#[cfg(target_arch = "x86_64")]
mod simd;
mod strings;
mod value;

#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;

pub use edits::{EDIT_COUNT_MAX, EditError, Edits};
pub use scan::{DEPTH_CEILING, scan_nested, scan_object};
pub use value::{Elements, elements, string_value, u64_value};

/// What a body may be, besides valid. (Its size is bounded where it is read.)
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Levels of nesting, the outermost object being the first; more than [`DEPTH_CEILING`] means it.
    pub depth_max: usize,
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number, not yet read: see [`u64_value`].
    Number,
    /// A string; `escaped` if it holds at least one escape sequence.
    String {
        /// Whether the text differs from what it means.
        escaped: bool,
    },
    /// An array: see [`elements`].
    Array,
    /// An object: see [`scan_nested`].
    Object,
}

/// One value of a scanned body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// What it is.
    pub kind: Kind,
    /// Where its whole text stands in the body, quotes or brackets included.
    pub span: Range<usize>,
}

/// The member names a caller wants to know of, in the order it will ask for them.
#[derive(Clone, Copy, Debug)]
pub struct Keys<const N: usize> {
    names: [&'static str; N],
    /// Bit n: some name is n bytes long (63 stands for all longer ones).
    lengths: u64,
}

impl<const N: usize> Keys<N> {
    /// Names as they read after unescaping. A name given twice is found at its first place only.
    pub const fn new(names: [&'static str; N]) -> Self {
        let (mut lengths, mut i) = (0, 0);
        while i < N {
            lengths |= 1 << length_class(names[i].len());
            i += 1;
        }
        Self { names, lengths }
    }

    /// The place of `name` (unescaped) among the wanted ones.
    #[inline]
    fn find(&self, name: &[u8]) -> Option<usize> {
        if self.lengths & (1 << length_class(name.len())) == 0 {
            return None;
        }
        self.names.iter().position(|wanted| wanted.as_bytes() == name)
    }
}

const fn length_class(len: usize) -> u32 {
    if len < 63 { len as u32 } else { 63 }
}

/// What a scan found: the wanted members, and where the object opens and closes.
#[derive(Clone, Debug)]
pub struct Members<const N: usize> {
    found: [Option<Member>; N],
    /// Offset just after the object's `{`: a member can be inserted here.
    pub open: usize,
    /// Offset of the object's `}`: a member can be inserted here too.
    pub close: usize,
    /// The object has no members at all, so an inserted one needs no comma.
    pub empty: bool,
}

#[derive(Clone, Debug)]
struct Member {
    key_at: usize,
    value: Value,
}

impl<const N: usize> Members<N> {
    /// The value of the `i`th wanted key, if the object has it.
    pub fn get(&self, i: usize) -> Option<&Value> {
        self.found.get(i)?.as_ref().map(|member| &member.value)
    }

    /// Offset of the opening quote of the `i`th wanted key, if the object has it.
    pub fn key_at(&self, i: usize) -> Option<usize> {
        self.found.get(i)?.as_ref().map(|member| member.key_at)
    }
}

/// Why a body was refused. Offsets are bytes from the start of the body. Always the client's fault,
/// never worth a retry, status 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanError {
    /// Not JSON.
    Syntax {
        /// Where reading stopped.
        at: usize,
        /// What is wrong there.
        what: &'static str,
    },
    /// Not UTF-8.
    NotUtf8 {
        /// The first byte that is not part of a valid sequence.
        at: usize,
    },
    /// The outermost value is something else than an object.
    NotAnObject,
    /// Nested deeper than allowed.
    TooDeep {
        /// The bracket that went too deep.
        at: usize,
    },
    /// A wanted key stands twice.
    Duplicate {
        /// Its name.
        key: &'static str,
        /// The second one's opening quote.
        at: usize,
    },
}

impl fmt::Display for ScanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax { at, what } => write!(f, "invalid JSON at byte {at}: {what}"),
            Self::NotUtf8 { at } => write!(f, "the body is not valid UTF-8 at byte {at}"),
            Self::NotAnObject => f.write_str("the body must be a JSON object"),
            Self::TooDeep { at } => write!(f, "the JSON is nested too deeply at byte {at}"),
            Self::Duplicate { key, at } => {
                write!(f, "the field '{key}' stands twice, again at byte {at}")
            }
        }
    }
}

impl std::error::Error for ScanError {}
