//! Verdicts are compared with `serde_json`, and the SIMD scan with the portable one.

mod arbitrary;
mod cases;
mod edits;
mod suite;

use super::scan::scan_portable;
use super::*;

/// As deep as `serde_json` goes.
const SERDE_BOUNDS: Bounds = Bounds { depth_max: 127 };

/// Every scan's answer to `body`, which must not depend on the instructions used.
fn scan<const N: usize>(body: &[u8], keys: &Keys<N>) -> Result<Members<N>, ScanError> {
    let answer = scan_object(body, keys, &SERDE_BOUNDS);
    if !matches!(answer, Err(ScanError::NotUtf8 { .. })) {
        let portable = scan_portable(body, keys, &SERDE_BOUNDS);
        assert_eq!(format!("{answer:?}"), format!("{portable:?}"), "{body:?}");
    }
    answer
}

/// Asserts that the scan's verdict on `body` is `serde_json`'s; tells what it is.
fn check_verdict(body: &[u8]) -> bool {
    let ours = scan(body, &Keys::new([]));
    match serde_json::from_slice::<serde_json::Value>(body) {
        Ok(value) if value.is_object() => assert!(ours.is_ok(), "{ours:?} {}", shown(body)),
        Ok(_) => assert!(matches!(ours, Err(ScanError::NotAnObject)), "{ours:?} {}", shown(body)),
        Err(error) => assert!(ours.is_err(), "{error} {}", shown(body)),
    }
    ours.is_ok()
}

fn shown(body: &[u8]) -> String {
    body.escape_ascii().to_string()
}
