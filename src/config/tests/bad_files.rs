//! `bad_files.txt`: bad files and the exact lines they are refused with.

use super::*;

const CASES: &str = include_str!("bad_files.txt");

struct Case {
    title: &'static str,
    text: String,
    expected: Vec<&'static str>,
}

fn cases() -> Vec<Case> {
    let blocks = CASES.split("=== ").skip(1);
    let case = |block: &'static str| {
        let (title, rest) = block.split_once('\n').expect("a title");
        let (text, expected) = rest.split_once("---\n").expect("what is expected");
        let text = text.replace("<gpu>\n", GPU).replace("<model>\n", MODEL);
        Case { title, text, expected: expected.lines().collect() }
    };
    blocks.map(case).collect()
}

#[test]
fn bad_files_are_refused_with_every_fault_its_place_and_its_remedy() {
    for Case { title, text, expected } in cases() {
        let refused = match parse_here(&text) {
            Ok(_) => "accepted".to_owned(),
            Err(errors) => errors.to_string(),
        };
        assert_eq!(refused.lines().collect::<Vec<_>>(), expected, "{title}\n{text}");
    }
}
