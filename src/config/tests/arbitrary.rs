//! Whatever the bytes: a plan or errors that point into the file, and never a panic.

use proptest::prelude::*;

use super::*;

const REFERENCE: &str = include_str!("../../../config/sluice.toml");

/// Words that mean something to some part of the reader.
const WORDS: [&str; 24] = [
    "[server]\n",
    "[[endpoints]]\n",
    "[[models]]\n",
    "[server.tls]\n",
    "listen = ",
    "endpoints = ",
    "url = ",
    "headers = ",
    "name = ",
    "secret = ",
    "\"env:GOOD\"",
    "\"file:/dev/zero\"",
    "\"gpu\"",
    "\"https://[::1]/v1\"",
    "\"a\\u0000b\"",
    "[\"gpu\", 1]",
    "{ a = 1 }",
    "1e400",
    "-1",
    "0x7f",
    "\n",
    "1979-05-27",
    "nan",
    "99999999999999999999",
];

fn check(text: &str) {
    let Err(errors) = parse_here(text) else { return };
    assert!(!errors.problems.is_empty());
    let lines = text.split('\n').count();
    for problem in &errors.problems {
        assert!((1..=lines).contains(&problem.line), "{errors}");
        assert!(problem.column >= 1 && !problem.what.is_empty() && !problem.fix.is_empty());
        assert!(!problem.what.contains('\n') && !problem.fix.contains('\n'), "{errors}");
    }
    assert!(!errors.to_string().contains("sk-good"), "{errors}");
}

proptest! {
    #[test]
    fn any_text(text in "\\PC{0,200}") {
        check(&text);
    }

    #[test]
    fn any_words(words in prop::collection::vec(prop::sample::select(&WORDS[..]), 0..40)) {
        check(&words.concat());
    }

    #[test]
    fn a_good_file_damaged(
        at in 0..REFERENCE.len(),
        len in 0..40usize,
        word in prop::sample::select(&WORDS[..]),
    ) {
        let start = REFERENCE.floor_char_boundary(at);
        let end = REFERENCE.floor_char_boundary(at.saturating_add(len)).max(start);
        check(&format!("{}{word}{}", &REFERENCE[..start], &REFERENCE[end..]));
    }

    #[test]
    fn a_good_file_with_one_value_replaced(
        line in 0..15usize,
        word in prop::sample::select(&WORDS[..]),
    ) {
        let mut lines: Vec<String> = LEAST.lines().map(str::to_owned).collect();
        if let Some((key, _)) = lines[line].clone().split_once(" = ") {
            lines[line] = format!("{key} = {word}");
        }
        check(&lines.join("\n"));
    }
}

#[test]
fn deep_nesting_is_refused() {
    for (open, close) in [("[", "]"), ("{a=", "}")] {
        let deep = format!("a = {}{}", open.repeat(100_000), close.repeat(100_000));
        check(&deep);
    }
    check(&format!("[{}]", vec!["a"; 100_000].join(".")));
}

/// What costs a walk over everything for each mistake would take minutes here.
#[test]
fn a_big_file_of_nothing_but_mistakes_is_refused_in_no_time() {
    let count = 50_000;
    let keys: String = (0..count).map(|i| format!("key_{i} = 1\n")).collect();
    let names = (0..count).map(|i| format!("\"gpv-{i}\", \"gpu\"")).collect::<Vec<_>>().join(", ");
    let endpoints: String = (0..5000).map(|i| GPU.replace("gpu", &format!("gpu-{i}"))).collect();
    let model = MODEL.replace("\"gpu\"", &names);
    let text = format!("[server]\nlisten = \"127.0.0.1:80\"\n{keys}{endpoints}{model}");
    let errors = parse_here(&text).expect_err("bad");
    assert_eq!(errors.problems.len(), 1001);
    assert!(errors.to_string().ends_with(" more faults: correct those before it first"));
}
