use proptest::prelude::*;

use super::super::*;

fn edited(edits: &Edits, body: &[u8]) -> Vec<u8> {
    let pieces: Vec<_> = edits.pieces(body).collect();
    assert!(pieces.iter().all(|piece| !piece.is_empty()));
    let whole = pieces.concat();
    assert_eq!(whole.len(), edits.len_after(body.len()));
    whole
}

#[test]
fn splices_in_any_order() {
    let body = b"0123456789";
    let mut edits = Edits::new();
    assert!(edits.is_empty());
    assert_eq!(edited(&edits, body), body);
    edits.replace(6..8, b"six").unwrap();
    edits.insert(0, b"<").unwrap();
    edits.insert(10, b">".to_vec()).unwrap();
    edits.replace(2..3, b"").unwrap();
    edits.insert(6, b"|").unwrap();
    edits.insert(8, b"!").unwrap();
    edits.insert(8, b"?").unwrap();
    assert!(!edits.is_empty());
    assert_eq!(edited(&edits, body), b"<01345|six!?89>");
}

#[test]
fn refuses_overlap_and_too_many() {
    let mut edits = Edits::new();
    edits.replace(2..5, b"x").unwrap();
    for range in [1..3, 4..6, 2..5, 0..9, 3..4, 3..3] {
        assert_eq!(edits.replace(range, b""), Err(EditError::Overlap));
    }
    for at in 0..EDIT_COUNT_MAX - 1 {
        edits.insert(10 + at, b"y").unwrap();
    }
    assert_eq!(edits.insert(30, b"z"), Err(EditError::Full));
}

#[test]
fn members_are_inserted_without_reading_the_rest() {
    for body in ["{}", " { } ", "{\"a\":1}", "{ \"a\" : {} }"] {
        let members =
            scan_object(body.as_bytes(), &Keys::new([]), &Bounds { depth_max: 8 }).unwrap();
        let comma = if members.empty { "" } else { "," };
        for (at, text) in [
            (members.open, format!("\"new\":true{comma}")),
            (members.close, format!("{comma}\"new\":true")),
        ] {
            let mut edits = Edits::new();
            edits.insert(at, text.into_bytes()).unwrap();
            let value: serde_json::Value =
                serde_json::from_slice(&edited(&edits, body.as_bytes())).unwrap();
            assert_eq!(value["new"], true);
        }
    }
}

proptest! {
    /// The pieces are what naive splicing, last edit first, would give.
    #[test]
    fn equals_naive_splicing(
        body in proptest::collection::vec(any::<u8>(), 0..40),
        wanted in proptest::collection::vec(
            (0usize..50, 0usize..10, proptest::collection::vec(any::<u8>(), 0..5)), 0..12),
    ) {
        let mut edits = Edits::new();
        let mut taken = Vec::new();
        for (order, (start, len, bytes)) in wanted.into_iter().enumerate() {
            if edits.replace(start..start + len, bytes.clone()).is_ok() {
                taken.push((start, start + len, order, bytes));
            }
        }
        taken.sort();
        let mut naive = body.clone();
        for (start, end, _, bytes) in taken.into_iter().rev() {
            naive.splice(start.min(body.len())..end.min(body.len()), bytes);
        }
        prop_assert_eq!(edited(&edits, &body), naive);
    }
}
