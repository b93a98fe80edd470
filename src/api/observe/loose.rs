//! Reading an answer's JSON without demanding anything of it: a value of an unexpected type is
//! unknown, not an error. Endpoints differ, and an odd value must not cost the ones beside it.
//!
//! serde_json with borrowed structs reads these events, rather than simd-json: the events that are
//! parsed have a few hundred bytes and a handful of wanted members. simd-json would need a private
//! copy to unescape in place and a tape for the whole event to find them. Measured: 0.5 to 0.7 µs for
//! a usage event of 300 bytes, once in most streams.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Any JSON value, as far as an observer cares.
#[derive(Debug, Default)]
pub enum Any<'a> {
    /// null, a boolean, a number that counts nothing, or an empty array or object; also: absent.
    #[default]
    Nothing,
    Count(u64),
    Text(Cow<'a, str>),
    /// An array or object with something in it.
    Items,
}

impl Any<'_> {
    /// The count, where this is one.
    pub fn count(&self) -> Option<u64> {
        match self {
            Any::Count(count) => Some(*count),
            _ => None,
        }
    }

    /// The text, where this is one; it may be empty.
    pub fn text(&self) -> Option<&str> {
        match self {
            Any::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A text, array or object that is not empty.
    pub fn filled(&self) -> bool {
        match self {
            Any::Text(text) => !text.is_empty(),
            Any::Items => true,
            Any::Nothing | Any::Count(_) => false,
        }
    }
}

struct AnyVisitor;

impl<'de> Visitor<'de> for AnyVisitor {
    type Value = Any<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Any<'de>, E> {
        Ok(Any::Nothing)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Any<'de>, E> {
        Ok(Any::Nothing)
    }

    fn visit_u64<E>(self, value: u64) -> Result<Any<'de>, E> {
        Ok(Any::Count(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Any<'de>, E> {
        Ok(u64::try_from(value).map_or(Any::Nothing, Any::Count))
    }

    /// Some servers count in floats; a float is a count if it is whole and fits 53 bits.
    fn visit_f64<E>(self, value: f64) -> Result<Any<'de>, E> {
        let whole = value.fract() == 0.0 && (0.0..=9e15).contains(&value);
        Ok(if whole { Any::Count(value as u64) } else { Any::Nothing })
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Any<'de>, E> {
        Ok(Any::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Any<'de>, E> {
        Ok(Any::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Any<'de>, A::Error> {
        let mut any = Any::Nothing;
        while seq.next_element::<IgnoredAny>()?.is_some() {
            any = Any::Items;
        }
        Ok(any)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Any<'de>, A::Error> {
        let mut any = Any::Nothing;
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            any = Any::Items;
        }
        Ok(any)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Any<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Any<'a>, D::Error> {
        deserializer.deserialize_any(AnyVisitor)
    }
}

/// Reads `data` as a `T`. Err: it is not JSON. Ok with the default: it is, in some other shape
/// (also one that says a wanted member twice).
pub fn read<'a, T: Deserialize<'a> + Default>(data: &'a [u8]) -> Result<T, NotJson> {
    match serde_json::from_slice(data) {
        Ok(value) => Ok(value),
        Err(_) if serde_json::from_slice::<IgnoredAny>(data).is_ok() => Ok(T::default()),
        Err(_) => Err(NotJson),
    }
}

/// The text is not one JSON value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotJson;
