use rmpv::Value;

use super::{Event, Stored, decode, extra};

fn bytes(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    rmpv::encode::write_value(&mut out, value).unwrap();
    out
}

fn list<T: Into<Value>>(items: impl IntoIterator<Item = T>) -> Value {
    Value::Array(items.into_iter().map(Into::into).collect())
}

fn stored() -> Value {
    list([
        Value::from("BlockStored"),
        list([10u64, 11]),
        Value::from(9u64),
        list([1u64, 2, 3, 4]),
        Value::from(2),
        Value::Nil,
        Value::from("GPU"),
        Value::Nil,
        list([list(["salt"]), Value::Nil]),
        Value::from("a field of tomorrow"),
    ])
}

#[test]
fn arrays_as_vllm_writes_them() {
    let events = list([
        stored(),
        list([Value::from("BlockRemoved"), list([10u64])]),
        list([Value::from("AllBlocksCleared")]),
    ]);
    let batch = list([Value::from(1.5), events, Value::from(0)]);
    let blocks = Stored {
        blocks: vec![10, 11],
        parent: Some(9),
        tokens: vec![1, 2, 3, 4],
        block_tokens: 2,
        adapter: 0,
        extras: vec![extra(0, b"salt"), 0],
    };
    let expected = [Event::Stored(blocks), Event::Removed { blocks: vec![10] }, Event::Cleared];
    assert_eq!(decode(&bytes(&batch)).unwrap(), expected);
}

#[test]
fn what_happens_outside_of_the_gpu_s_memory_is_passed_over() {
    // As vLLM's offloading connectors write it: no tokens, but a block's size.
    let aside = list([
        Value::from("BlockStored"),
        list([10u64]),
        Value::Nil,
        Value::Array(Vec::new()),
        Value::from(16),
        Value::Nil,
        Value::from("CPU"),
    ]);
    let removed = |medium| list([Value::from("BlockRemoved"), list([10u64]), Value::from(medium)]);
    let events = list([aside, removed("CPU"), removed("GPU")]);
    let told = decode(&bytes(&list([Value::from(1.5), events]))).unwrap();
    assert_eq!(told, [Event::Removed { blocks: vec![10] }]);
}

/// The adapter of a stored block whose fields of that name and of that id are these.
fn adapter_of(id: Value, name: Value) -> u64 {
    let mut event = stored();
    if let Value::Array(fields) = &mut event {
        (fields[5], fields[7]) = (id, name);
    }
    match &decode(&bytes(&list([Value::from(1.0), list([event])]))).unwrap()[0] {
        Event::Stored(stored) => stored.adapter,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_adapter_is_told_by_its_name_or_by_its_number() {
    assert_eq!(adapter_of(Value::Nil, Value::Nil), 0);
    let all = [
        adapter_of(1.into(), Value::Nil),
        adapter_of(0.into(), Value::Nil),
        adapter_of(Value::Nil, "sql".into()),
        adapter_of(Value::Nil, "law".into()),
    ];
    let distinct: std::collections::BTreeSet<u64> = all.into_iter().chain([0]).collect();
    assert_eq!(distinct.len(), 5);
    // Numbers may change when an adapter is loaded again.
    assert_eq!(adapter_of(7.into(), "sql".into()), all[2]);
}

#[test]
fn maps_hashes_of_any_width_and_numbers_below_zero() {
    let pairs = |pairs: &[(&str, Value)]| {
        Value::Map(pairs.iter().map(|(key, value)| ((*key).into(), value.clone())).collect())
    };
    let event = pairs(&[
        ("type", "BlockRemoved".into()),
        ("block_hashes", list([Value::from(-1i64), Value::Binary(vec![7; 32])])),
    ]);
    let batch = pairs(&[("ts", 1.0.into()), ("events", list([event]))]);
    let Event::Removed { blocks } = &decode(&bytes(&batch)).unwrap()[0] else { panic!() };
    assert_eq!(blocks[0], u64::MAX);
    assert_eq!(blocks[1], xxhash_rust::xxh3::xxh3_64(&[7; 32]));
}

#[test]
fn what_is_not_understood_is_refused() {
    for wrong in [
        Value::from(1),
        list([Value::from(1.0)]),
        list([Value::from(1.0), list([list([Value::from("BlockMoved")])])]),
        list([Value::from(1.0), list([list([Value::from("BlockRemoved"), Value::from(1)])])]),
    ] {
        assert!(decode(&bytes(&wrong)).is_err(), "{wrong}");
    }
    let mut short = stored();
    if let Value::Array(fields) = &mut short {
        fields[3] = list([1u64, 2, 3]);
    }
    assert!(decode(&bytes(&list([Value::from(1.0), list([short])]))).is_err());
}

proptest::proptest! {
    #[test]
    fn nothing_makes_it_panic(
        payload in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
    ) {
        let _ = decode(&payload);
    }
}
