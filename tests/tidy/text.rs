//! What must not stand anywhere in the repository.

use super::none;
use super::tree::{File, code, files, has_word, rust};

/// Where crates come from.
const CRATES: &str = "registry+https://github.com/rust-lang/crates.io-index";
/// Where Node's packages come from.
const PACKAGES: &str = "https://registry.npmjs.org/";

/// Begin absolute paths of somebody's own machine; in two halves, so that this file may hold them.
const MACHINE: [(&str, &str); 4] =
    [("/ho", "me/"), ("/ro", "ot/"), ("/Us", "ers/"), ("/wo", "rk/")];

fn text_files() -> Vec<File> {
    files(|_| true)
}

#[test]
fn nothing_is_left_undone() {
    let mut faults = Vec::new();
    for file in rust("").iter().filter(|file| !file.path.starts_with("tests/tidy/")) {
        for (at, line) in (1..).zip(file.text.lines()) {
            for word in ["todo!", "unimplemented!", "dbg!"] {
                let name = word.trim_end_matches('!');
                if code(line).contains(word) && has_word(code(line), name) {
                    faults.push(format!("{}:{at}: `{word}`", file.path));
                }
            }
        }
    }
    none(faults);
}

#[test]
fn no_path_of_somebodys_machine() {
    let mut faults = Vec::new();
    for file in text_files() {
        for (at, line) in (1..).zip(file.text.lines()) {
            for (first, second) in MACHINE {
                if begins_a_path(line, &format!("{first}{second}")) {
                    faults.push(format!("{}:{at}: {first}{second}…", file.path));
                }
            }
        }
    }
    none(faults);
}

/// Whether an absolute path with this beginning stands in `line`; not in the middle of a longer one.
fn begins_a_path(line: &str, beginning: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || "._-~*}>".contains(c);
    line.match_indices(beginning).any(|(at, _)| !line[..at].ends_with(inside))
}

#[test]
fn packages_come_from_the_public_registries() {
    let mut faults = Vec::new();
    for file in text_files() {
        let name = file.path.rsplit('/').next().unwrap_or_default().to_owned();
        for (at, line) in (1..).zip(file.text.lines().map(str::trim)) {
            let fault = match &*name {
                "Cargo.lock" => line.starts_with("source = ") && !line.contains(CRATES),
                "package-lock.json" => {
                    line.starts_with("\"resolved\"") && !line.contains(&format!("\"{PACKAGES}"))
                }
                ".npmrc" | "pip.conf" => line.contains("registry") || line.contains("index-url"),
                name if name.starts_with("requirements") => line.contains("index-url"),
                _ => false,
            };
            if fault {
                faults.push(format!("{}:{at}: {line}", file.path));
            }
        }
    }
    none(faults);
}
