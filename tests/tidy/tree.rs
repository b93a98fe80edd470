//! The repository's files, and Rust text without its comments.

use std::path::{Path, PathBuf};

/// What is not the repository's own text: builds, caches, and recorded or generated inputs.
const SKIPPED: [&str; 9] = [
    ".git",
    ".cache",
    ".venv",
    "__pycache__",
    "artifacts",
    "corpus",
    "node_modules",
    "runs",
    "target",
];
/// A larger file is data.
const TEXT_BYTES_MAX: u64 = 1 << 20;

/// A text file.
pub struct File {
    /// From the root, with slashes.
    pub path: String,
    pub text: String,
}

/// The repository's root.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every text file whose path satisfies `wanted`, in order.
pub fn files(wanted: impl Fn(&str) -> bool) -> Vec<File> {
    let mut found = Vec::new();
    walk(&root(), "", &wanted, &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!found.is_empty(), "no such files: the walk is wrong");
    found
}

/// Every Rust file under `folder`, a path from the root.
pub fn rust(folder: &str) -> Vec<File> {
    files(|path| path.starts_with(folder) && path.ends_with(".rs"))
}

fn walk(folder: &Path, at: &str, wanted: &impl Fn(&str) -> bool, found: &mut Vec<File>) {
    for entry in std::fs::read_dir(folder).expect("a folder can be read") {
        let entry = entry.expect("an entry can be read");
        let name = entry.file_name().into_string().expect("file names are UTF-8");
        let path = format!("{at}{name}");
        let kind = entry.file_type().expect("an entry has a type");
        if SKIPPED.contains(&&*name) {
            continue;
        }
        if kind.is_dir() {
            walk(&entry.path(), &format!("{path}/"), wanted, found);
        } else if kind.is_file() && wanted(&path) {
            found.extend(read(&entry.path(), path));
        }
    }
}

fn read(from: &Path, path: String) -> Option<File> {
    let small = std::fs::metadata(from).is_ok_and(|about| about.len() <= TEXT_BYTES_MAX);
    let text = small.then(|| std::fs::read_to_string(from).ok()).flatten()?;
    Some(File { path, text })
}

/// A line without its comment. A `//` behind an odd number of quotes is taken for a string's.
pub fn code(line: &str) -> &str {
    let comment =
        line.match_indices("//").find(|(at, _)| line[..*at].matches('"').count().is_multiple_of(2));
    comment.map_or(line, |(at, _)| &line[..at])
}

/// Whether `line` holds `word` as a word of its own.
pub fn has_word(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(part) && !line[at + word.len()..].starts_with(part))
}

#[test]
fn comments_and_words_are_told_apart() {
    assert_eq!(code("let a = 1; // b"), "let a = 1; ");
    assert_eq!(code("let url = \"http://x\";"), "let url = \"http://x\";");
    assert!(has_word("unsafe { x }", "unsafe") && !has_word("unsafe_code", "unsafe"));
}
