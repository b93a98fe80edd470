//! The scan's verdict is `serde_json`'s, whatever the bytes, and what it finds are whole values.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use sluice::json::{
    Bounds, Edits, Keys, Kind, ScanError, elements, scan_nested, scan_object, string_value,
    u64_value,
};

const KEYS: Keys<5> = Keys::new(["model", "stream", "messages", "stream_options", "n"]);
/// As deep as `serde_json` goes.
const BOUNDS: Bounds = Bounds { depth_max: 127 };

/// A key by which serde_json, built with `raw_value`, tells itself things: it reads its value as JSON.
const MAGIC: &[u8] = b"serde_json::private";

fuzz_target!(|body: &[u8]| {
    if body.windows(MAGIC.len()).any(|window| window == MAGIC) {
        return;
    }
    let reference = serde_json::from_slice::<Value>(body);
    match (scan_object(body, &Keys::new([]), &BOUNDS), &reference) {
        (Ok(_), Ok(value)) => assert!(value.is_object()),
        (Err(ScanError::NotAnObject), Ok(value)) => assert!(!value.is_object()),
        (Err(_), Err(_)) => {}
        (ours, theirs) => panic!("{ours:?} against {theirs:?}"),
    }
    let (Ok(found), Ok(reference)) = (scan_object(body, &KEYS, &BOUNDS), &reference) else {
        return;
    };
    for (i, name) in ["model", "stream", "messages", "stream_options", "n"].iter().enumerate() {
        let text = found.get(i).map(|value| &body[value.span.clone()]);
        let value = text.map(|text| serde_json::from_slice::<Value>(text).unwrap());
        assert_eq!(value.as_ref(), reference.get(name));
        let (Some(span), Some(value)) = (found.get(i), value) else { continue };
        match span.kind {
            Kind::String { .. } => assert_eq!(string_value(body, span), value.as_str().unwrap()),
            Kind::Number => assert_eq!(u64_value(body, span), value.as_u64()),
            Kind::Array => check_elements(body, span, &value),
            Kind::Object => {
                assert!(scan_nested(body, span.span.clone(), &Keys::new([]), &BOUNDS).is_ok())
            }
            Kind::Bool(bool) => assert_eq!(Some(bool), value.as_bool()),
            Kind::Null => assert!(value.is_null()),
        }
    }
    let mut edits = Edits::new();
    let member = if found.empty { b"\"new\":1".as_slice() } else { b"\"new\":1," };
    edits.insert(found.open, member).unwrap();
    let edited: Vec<u8> = edits.pieces(body).flatten().copied().collect();
    assert_eq!(edited.len(), edits.len_after(body.len()));
    assert!(serde_json::from_slice::<Value>(&edited).is_ok());
});

fn check_elements(body: &[u8], array: &sluice::json::Value, reference: &Value) {
    let values: Vec<Value> = elements(body, array.span.clone())
        .map(|element| serde_json::from_slice(&body[element.span]).unwrap())
        .collect();
    assert_eq!(&values, reference.as_array().unwrap());
}
