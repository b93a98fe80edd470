//! JSONTestSuite: `y_` is accepted, `n_` refused, `i_` either, and always as `serde_json` does.

use std::io::Read;

use super::check_verdict;

fn suite() -> Vec<(String, Vec<u8>)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/json/test_parsing.tar.gz");
    let archive = std::fs::File::open(path).unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(archive));
    let mut cases = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.path().unwrap().extension().is_some_and(|extension| extension == "json") {
            let name = entry.path().unwrap().file_name().unwrap().to_string_lossy().into_owned();
            let mut text = Vec::new();
            entry.read_to_end(&mut text).unwrap();
            cases.push((name, text));
        }
    }
    assert!(cases.len() > 300, "{}", cases.len());
    cases
}

#[test]
fn whole_bodies() {
    for (name, text) in suite() {
        let accepted = check_verdict(&text);
        assert!(!(accepted && name.starts_with("n_")), "{name}");
    }
}

#[test]
fn member_values() {
    for (name, text) in suite() {
        let body = [b"{\"x\":", text.as_slice(), b"}"].concat();
        let accepted = check_verdict(&body);
        match name.split_once('_').unwrap().0 {
            "y" => assert!(accepted, "{name}"),
            // Closing the brace changes what the text means in a few of them, never to valid JSON.
            "n" => assert!(!accepted, "{name}"),
            _ => {}
        }
    }
}

#[test]
fn array_elements() {
    for (_, text) in suite() {
        check_verdict(&[b"{\"x\" : [ 0, ", text.as_slice(), b" , {} ] }"].concat());
    }
}
