//! What the generated bodies would seldom hit: block borders, every byte in every role, the accessors.

use super::super::scan::DEPTH_CEILING;
use super::*;

const KEYS: Keys<4> = Keys::new(["model", "stream", "n", "messages"]);

fn found(body: &str) -> Members<4> {
    scan(body.as_bytes(), &KEYS).unwrap()
}

fn text<'a>(body: &'a str, members: &Members<4>, i: usize) -> &'a str {
    &body[members.get(i).unwrap().span.clone()]
}

#[test]
fn members_and_places() {
    let body = r#" { "model" : "a/b" ,"x":{"model":1},"stream":true, "n":-0.5e3 } "#;
    let members = found(body);
    assert_eq!(text(body, &members, 0), r#""a/b""#);
    assert_eq!(text(body, &members, 1), "true");
    assert_eq!(text(body, &members, 2), "-0.5e3");
    assert_eq!(members.get(1).unwrap().kind, Kind::Bool(true));
    assert_eq!(members.key_at(0), Some(3));
    assert!(members.get(3).is_none() && members.get(4).is_none() && members.key_at(3).is_none());
    assert_eq!((members.open, &body[members.close..], members.empty), (2, "} ", false));
    let empty = found("{ }");
    assert_eq!((empty.open, empty.close, empty.empty), (1, 2, true));
}

#[test]
fn escaped_keys_are_the_same_keys() {
    let body = r#"{"mo\u0064el":"x","\u006E":1,"mod\\el":2}"#;
    let members = found(body);
    assert_eq!(text(body, &members, 0), r#""x""#);
    assert_eq!(text(body, &members, 2), "1");
    let twice = br#"{"model":"x","mo\u0064el":"y"}"#;
    let duplicate = ScanError::Duplicate { key: "model", at: 13 };
    assert_eq!(scan(twice, &KEYS).unwrap_err(), duplicate);
    assert!(scan(br#"{"other":1,"other":2,"x":{"n":1,"n":2}}"#, &KEYS).is_ok());
}

#[test]
fn errors_say_where() {
    let message = |body: &[u8]| scan(body, &KEYS).unwrap_err().to_string();
    assert_eq!(message(b""), "invalid JSON at byte 0: the body ends too early");
    assert_eq!(message(b" [1]"), "the body must be a JSON object");
    assert_eq!(message(b"{\"a\":1,}"), "invalid JSON at byte 7: expected a key in quotes");
    assert_eq!(message(b"{\"a\":[1}"), "invalid JSON at byte 7: expected ',' or ']'");
    assert_eq!(message(b"{\"a\":\"\xff\"}"), "the body is not valid UTF-8 at byte 6");
    assert_eq!(
        message(b"{\"a\":\"\n\"}"),
        "invalid JSON at byte 6: a raw control character in a string"
    );
    assert_eq!(message(b"{\"a\":\"b"), "invalid JSON at byte 7: the string does not end");
    assert_eq!(message(b"{} x"), "invalid JSON at byte 3: nothing may follow the object");
    assert_eq!(message(b"{\"a\":1e999}"), "invalid JSON at byte 5: the number is out of range");
    assert_eq!(message(b"{\"n\":1,\"n\":2}"), "the field 'n' stands twice, again at byte 7");
}

#[test]
fn depth_is_bounded() {
    let nested = |levels: usize, open: &str, close: &str| {
        format!("{{\"a\":{}1{}}}", open.repeat(levels - 1), close.repeat(levels - 1))
    };
    for (open, close) in [("[", "]"), ("{\"k\":", "}"), (" [ ", " ] ")] {
        for depth_max in [1, 2, 63, 64, 65, 127, 128] {
            let scan = |levels| {
                let body = nested(levels, open, close);
                scan_object(body.as_bytes(), &KEYS, &Bounds { depth_max }).map(|_| ())
            };
            assert_eq!(scan(depth_max), Ok(()));
            assert!(matches!(scan(depth_max + 1), Err(ScanError::TooDeep { .. })));
        }
    }
    let deep = nested(DEPTH_CEILING + 1, "[", "]");
    let answer = scan_object(deep.as_bytes(), &KEYS, &Bounds { depth_max: usize::MAX });
    assert!(matches!(answer, Err(ScanError::TooDeep { .. })));
    let flood = [b"{\"a\":".as_slice(), &b"[".repeat(1 << 20)].concat();
    assert!(matches!(scan(&flood, &KEYS), Err(ScanError::TooDeep { .. })));
    assert!(matches!(
        scan_object(b"{}", &KEYS, &Bounds { depth_max: 0 }),
        Err(ScanError::TooDeep { at: 0 })
    ));
}

/// Each piece at every offset to the blocks of 64 bytes, alone and after a long run.
#[test]
fn string_pieces_at_every_offset() {
    let pieces = [
        "\\n",
        "\\\\",
        "\\\"",
        "\\\\\\\"",
        "\\\\\\",
        "\\u0041",
        "\\ud83d\\ude00",
        "\\ud83d",
        "\\ude00",
        "\\ud83d\\u0041",
        "\\ud83d\\\\ude00",
        "\\ude00\\ud83d",
        "\\ud83d\\ud83d\\ude00",
        "\\u00g0",
        "\\u12",
        "\\u",
        "\\",
        "\\x",
        "\\\n",
        "\t",
        "\u{7f}",
        "é",
        "😀",
        "\"",
        "\\U0041",
        "\\uD800\\uDC00\\uDBFF\\uDFFF",
        "\\u d83",
        "\\u+123",
    ];
    for piece in pieces {
        for before in 0..140 {
            let run = "x".repeat(before);
            for after in ["", "y", "\\\\", "\",\"k\":\"v\\t"] {
                check_verdict(format!("{{\"a\":\"{run}{piece}{after}\"}}").as_bytes());
            }
            check_verdict(format!("{{\"a\":\"{run}{piece}").as_bytes());
            check_verdict(format!("{{\"{run}{piece}\":[\"{piece}\"]}}").as_bytes());
        }
    }
}

#[test]
fn runs_of_backslashes_of_every_length() {
    for before in 0..66 {
        for count in 0..140 {
            let (run, slashes) = ("x".repeat(before), "\\".repeat(count));
            check_verdict(format!("{{\"a\":\"{run}{slashes}\"}}").as_bytes());
            check_verdict(format!("{{\"a\":\"{run}{slashes}n\",\"b\":1}}").as_bytes());
        }
    }
}

#[test]
fn every_byte_in_every_role() {
    for byte in 0..=255u8 {
        for before in [0, 1, 31, 32, 33, 62, 63, 64] {
            let run = "x".repeat(before);
            for (head, tail) in [
                ("{\"a\":\"", "\"}"),
                ("{\"a\":\"\\", "\"}"),
                ("{\"a\":\"\\u00", "0\"}"),
                ("{\"a\":\"\\ud", "00\"}"),
                ("{", "\"a\":1}"),
                ("{\"a\":1", "}"),
                ("{\"a\":-", "}"),
                ("{\"a\":", "1}"),
                ("{\"a\":[1", "2]}"),
                ("{\"a\":1}", ""),
            ] {
                let padded = head.replace("\"a\"", &format!("\"{run}a\""));
                check_verdict(&[padded.as_bytes(), &[byte], tail.as_bytes()].concat());
                let inside = head.replace(":\"", &format!(":\"{run}"));
                check_verdict(&[inside.as_bytes(), &[byte], tail.as_bytes()].concat());
            }
        }
    }
}

#[test]
fn numbers_at_the_edge_of_f64() {
    let zeros = |count| "0".repeat(count);
    let mut numbers: Vec<String> = [
        "1e308",
        "1e309",
        "-1e309",
        "1.7976931348623157e308",
        "1.7976931348623159e308",
        "17976931348623157e292",
        "0e999999999999",
        "0.0e400",
        "1e-400",
        "1e-99999999999999999999",
        "1e99999999999999999999",
        "-0",
        "1e+0000000000000000000005",
        "1E0000000308",
        "0.1e309",
        "0.00001e313",
        "1e00",
        "1e99",
        "01",
        "-",
        "-01",
        "1.",
        ".5",
        "1e",
        "1e+",
        "+1",
        "1.e5",
        "0x1",
        "18446744073709551616",
        "-9223372036854775809",
        "Infinity",
        "NaN",
        "1_000",
        "1e1.0",
    ]
    .map(String::from)
    .to_vec();
    for digits in [198, 199, 200, 201, 307, 308, 309, 310, 1000] {
        numbers.push(format!("1{}", zeros(digits)));
        numbers.push(format!("1{}e99", zeros(digits)));
        numbers.push(format!("1{}e-99", zeros(digits)));
        numbers.push(format!("1{}e-1000", zeros(digits)));
        numbers.push(format!("0.{}1e{digits}", zeros(digits)));
        numbers.push(format!("{}.{}", "9".repeat(digits), "9".repeat(digits)));
    }
    for number in numbers {
        check_verdict(format!("{{\"a\":{number}}}").as_bytes());
        check_verdict(format!("{{\"a\":[{number} ]}}").as_bytes());
    }
}

#[test]
fn strings_read_as_they_mean() {
    let texts = [
        r#""""#,
        r#""plain""#,
        r#""a\"b\\c\/d\b\f\n\r\t""#,
        r#""\u0041\u00e9\u4e2d""#,
        r#""\ud83d\ude00!""#,
        r#""\u0000""#,
        r#""é中😀""#,
        r#""\\u0041""#,
        r#""x\uDBFF\uDFFFy""#,
    ];
    for text in texts {
        let body = format!("{{\"model\":{text}}}");
        let members = found(&body);
        let expected: String = serde_json::from_str(text).unwrap();
        let value = members.get(0).unwrap();
        assert_eq!(string_value(body.as_bytes(), value), expected);
        let borrowed =
            matches!(string_value(body.as_bytes(), value), std::borrow::Cow::Borrowed(_));
        assert_eq!(borrowed, value.kind == Kind::String { escaped: false });
    }
    let body = b"{\"model\": 12}";
    assert_eq!(string_value(body, scan(body, &KEYS).unwrap().get(0).unwrap()), "12");
}

#[test]
fn accessors_survive_foreign_values() {
    let escaped = Kind::String { escaped: true };
    let text = "\"\\u12\\ud83d\\ude\\x\\\u{e9}é\"\u{ff}".as_bytes();
    for start in 0..text.len() + 3 {
        for end in 0..text.len() + 3 {
            for kind in [escaped, Kind::Number, Kind::Array] {
                let value = Value { kind, span: start..end };
                string_value(text, &value);
                u64_value(text, &value);
                assert!(elements(text, start..end).count() < 2);
                let _ = scan_nested(text, start..end, &KEYS, &SERDE_BOUNDS);
            }
        }
    }
}

#[test]
fn whole_numbers() {
    let read = |text: &str| {
        let body = format!("{{\"n\":{text}}}");
        u64_value(body.as_bytes(), found(&body).get(2).unwrap())
    };
    assert_eq!(read("0"), Some(0));
    assert_eq!(read("18446744073709551615"), Some(u64::MAX));
    for other in ["18446744073709551616", "-1", "-0", "1.0", "1e3", "null", "true", "\"1\"", "[1]"]
    {
        assert_eq!(read(other), None, "{other}");
    }
}

#[test]
fn nested_objects_and_arrays() {
    let body = r#"{"x": {"a":1}, "messages": [ {"n": [7]} ,"s", 3,[],{} ], "stream": {} }"#;
    let members = found(body);
    let array = members.get(3).unwrap();
    let values: Vec<_> = elements(body.as_bytes(), array.span.clone()).collect();
    let texts: Vec<_> = values.iter().map(|value| &body[value.span.clone()]).collect();
    assert_eq!(texts, ["{\"n\": [7]}", "\"s\"", "3", "[]", "{}"]);
    assert_eq!(values[1].kind, Kind::String { escaped: false });

    let inner = scan_nested(body.as_bytes(), values[0].span.clone(), &KEYS, &SERDE_BOUNDS).unwrap();
    assert_eq!(text(body, &inner, 2), "[7]");
    assert_eq!(body.as_bytes()[inner.open - 1], b'{');
    assert_eq!(body.as_bytes()[inner.close], b'}');
    let number = scan_nested(body.as_bytes(), values[2].span.clone(), &KEYS, &SERDE_BOUNDS);
    assert_eq!(number.unwrap_err(), ScanError::NotAnObject);
    assert_eq!(elements(b"[]", 0..2).count(), 0);
    assert_eq!(elements(b"[ ]", 0..3).count(), 0);
    assert_eq!(elements(b"{}", 0..2).count(), 0);
}

#[test]
fn keys_of_any_length() {
    let long = "k".repeat(200);
    let keys =
        Keys::new(["", "é", "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"]);
    let body = format!("{{\"\":0,\"é\":1,\"{long}\":2,\"{}\":3}}", &long[..64]);
    let members = scan(body.as_bytes(), &keys).unwrap();
    let value = |i: usize| u64_value(body.as_bytes(), members.get(i).unwrap());
    assert_eq!([value(0), value(1), value(2)], [Some(0), Some(1), Some(3)]);
}
