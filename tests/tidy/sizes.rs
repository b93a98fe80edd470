//! Files of one idea each, and lines that fit beside each other.

use super::none;
use super::tree::{code, rust};

/// Lines of a file without tests, and of one with them or of a test.
const LINES_MAX: usize = 500;
const LINES_WITH_TESTS_MAX: usize = 800;
/// Characters of a line of code. Text in quotes may be longer: shapes of the API are kept whole.
const WIDTH_MAX: usize = 100;
/// Characters of a line of comment.
const COMMENT_WIDTH_MAX: usize = 110;

/// Files that are longer today: (path, lines at most, why).
const LONGER: [(&str, usize, &str); 0] = [];

fn most(path: &str, text: &str) -> usize {
    let tests =
        path.contains("tests") || path.contains("benches/") || text.contains("#[cfg(test)]");
    if tests { LINES_WITH_TESTS_MAX } else { LINES_MAX }
}

#[test]
fn files_are_short() {
    let mut faults = Vec::new();
    for file in rust("") {
        let lines = file.text.lines().count();
        let most = most(&file.path, &file.text);
        match LONGER.iter().find(|(path, ..)| *path == file.path) {
            Some(_) if lines <= most => {
                faults.push(format!("{}: needs no exception any more", file.path));
            }
            Some((_, longer, _)) if lines <= *longer => {}
            _ if lines > most => faults.push(format!("{}: {lines} lines", file.path)),
            _ => {}
        }
    }
    none(faults);
}

#[test]
fn lines_are_short() {
    let mut faults = Vec::new();
    for file in rust("") {
        for (at, line) in (1..).zip(file.text.lines()) {
            let comment = line.trim_start().starts_with("//");
            let most = if comment { COMMENT_WIDTH_MAX } else { WIDTH_MAX };
            let quotes = !comment && code(line).contains('"');
            let width = line.chars().count();
            if width > most && !quotes && !in_a_string(&file.text, line) {
                faults.push(format!("{}:{at}: {width} characters", file.path));
            }
        }
    }
    none(faults);
}

/// A line of a string that began above it: it opens with what no code opens with.
fn in_a_string(text: &str, line: &str) -> bool {
    let begun = line.trim_start().starts_with('\\');
    begun && text.contains("\\\n")
}
