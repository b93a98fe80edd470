use std::fs;
use std::path::PathBuf;

use super::*;

/// A file with `text`, named after the test.
fn file(name: &str, text: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("sluice-{}-{name}", std::process::id()));
    fs::write(&path, text).unwrap();
    path
}

fn read(name: &str, text: &str) -> Result<Trace, String> {
    let path = file(name, text);
    let read = Trace::read(&path, usize::MAX).map_err(|failure| failure.to_string());
    fs::remove_file(path).unwrap();
    read
}

#[test]
fn mooncake_lines_become_pieces() {
    let text = "{\"timestamp\": 7, \"input_length\": 600, \"output_length\": 9, \
                \"hash_ids\": [4, 5], \"more\": 1}\n";
    let trace = read("mooncake.jsonl", text).unwrap();
    let ask = &trace.asks[0];
    assert_eq!((ask.at, ask.input_tokens(), ask.output_tokens), (7_000_000, 600, 9));
    assert_eq!(ask.pieces[1], Piece { seed: 5, tokens: 88, part: Part::Assistant });
}

#[test]
fn azure_lines_share_nothing() {
    let text = "TIMESTAMP,ContextTokens,GeneratedTokens\n\
                2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.9951690,396,109\n";
    let trace = read("azure.csv", text).unwrap();
    assert_eq!(trace.asks.len(), 2);
    assert_eq!(trace.asks[0].at, 0);
    assert!((trace.asks[1].at as f64 / 1e9 - 4.314_579).abs() < 1e-6);
    assert_ne!(trace.asks[0].pieces[0].seed, trace.asks[1].pieces[0].seed);
}

#[test]
fn own_lines_repeat_what_was_said() {
    let text = "{\"at_ms\":0,\"id\":\"a\",\"output_tokens\":5,\"parts\":[[\"user\",1,10]]}\n\
        {\"at_ms\":2.5,\"after\":\"a\",\"session\":3,\"output_tokens\":5,\
        \"parts\":[[\"user\",1,10],[\"spoken\",\"a\",5],[\"user\",2,4]]}\n";
    let trace = read("own.jsonl", text).unwrap();
    let (first, second) = (&trace.asks[0], &trace.asks[1]);
    assert_eq!((second.at, second.after, second.session), (2_500_000, Some(0), Some(3)));
    assert_eq!(Some(second.pieces[1].seed), first.voice);
}

#[test]
fn bad_lines_are_named() {
    let good = "{\"timestamp\":0,\"input_length\":5,\"output_length\":1,\"hash_ids\":[1]}\n";
    let few = "{\"timestamp\":0,\"input_length\":513,\"output_length\":1,\"hash_ids\":[1]}\n";
    let error = read("few.jsonl", &format!("{good}\n{few}")).unwrap_err();
    assert!(error.ends_with("few.jsonl:3: 513 tokens are 2 blocks, but there are 1 hash_ids"));
    let error = read("cut.jsonl", &format!("{good}{{\"timestamp\":")).unwrap_err();
    assert!(error.contains("cut.jsonl:2: EOF"), "{error}");
    let error = read("bad.csv", "TIMESTAMP,a,b\n2023-11-16 18:15:46,0,4\n").unwrap_err();
    assert!(error.ends_with("bad.csv:2: \"0\" is no count of tokens"), "{error}");
    let own = "{\"at_ms\":0,\"output_tokens\":5,\"parts\":[[\"spoken\",\"x\",10]]}";
    let error = read("own-bad.jsonl", own).unwrap_err();
    assert!(error.ends_with(":1: no request \"x\" above"), "{error}");
    assert!(read("none.jsonl", "\n").unwrap_err().ends_with("no requests"));
}
