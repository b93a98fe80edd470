//! What is wrong with a configuration file, where, and how to put it right.
//!
//! Invariant: no message ever repeats a value that may be a secret; values are quoted only for keys
//! that cannot hold one (names, addresses, policies).

use std::fmt;

/// More faults than this are counted, not shown: the errors of a reload go to the log.
const PROBLEMS_MAX: usize = 1000;

/// One fault in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// 1-based.
    pub line: usize,
    /// 1-based, counted in characters.
    pub column: usize,
    pub what: String,
    pub fix: String,
}

/// Every fault of one file, in the file's order. `Display` writes one line for each:
/// `file:line:column: what is wrong: how to fix it`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors {
    pub file: String,
    /// Never empty.
    pub problems: Vec<Problem>,
}

impl Errors {
    /// The file as a whole cannot be used (unreadable, too big).
    pub fn whole_file(file: &str, what: impl Into<String>, fix: impl Into<String>) -> Self {
        let problem = Problem { line: 1, column: 1, what: what.into(), fix: fix.into() };
        Self { file: file.to_owned(), problems: vec![problem] }
    }

    /// Turns byte offsets into lines and columns.
    pub(super) fn locate(file: &str, text: &str, mut faults: Vec<Fault>) -> Self {
        faults.sort_by(|a, b| (a.at, &a.what).cmp(&(b.at, &b.what)));
        faults.dedup();
        if faults.len() > PROBLEMS_MAX {
            let what = format!("{} more faults", faults.len() - PROBLEMS_MAX);
            let fix = "correct those before it first".to_owned();
            let at = faults[PROBLEMS_MAX].at;
            faults.truncate(PROBLEMS_MAX);
            faults.push(Fault { at, what, fix });
        }
        let mut lines = Lines::new(text);
        let problems = faults.into_iter().map(|fault| lines.problem(fault)).collect();
        Self { file: file.to_owned(), problems }
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            let Problem { line, column, what, fix } = problem;
            write!(f, "{}:{line}:{column}: {what}: {fix}", self.file)?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}

/// A problem whose place is still a byte offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub at: usize,
    pub what: String,
    pub fix: String,
}

/// Walks the text once, forwards, while faults come in order.
struct Lines<'t> {
    text: &'t str,
    /// Everything before it is counted in `line` and `column`.
    at: usize,
    line: usize,
    column: usize,
}

impl<'t> Lines<'t> {
    fn new(text: &'t str) -> Self {
        Self { text, at: 0, line: 1, column: 1 }
    }

    fn problem(&mut self, fault: Fault) -> Problem {
        let to = self.text.floor_char_boundary(fault.at);
        for letter in self.text[self.at..to].chars() {
            (self.line, self.column) = match letter {
                '\n' => (self.line + 1, 1),
                _ => (self.line, self.column + 1),
            };
        }
        self.at = to;
        Problem { line: self.line, column: self.column, what: fault.what, fix: fault.fix }
    }
}
