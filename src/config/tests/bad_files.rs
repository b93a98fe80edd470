//! Bad files and the exact lines they are refused with.

use super::*;

fn refused(text: &str, expected: &[&str]) {
    let errors = parse_here(text).expect_err(text).to_string();
    assert_eq!(errors.lines().collect::<Vec<_>>(), expected, "\n--- of ---\n{text}");
}

#[test]
fn x() {
    refused("", &[]);
}
