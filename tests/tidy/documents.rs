//! Documents that name files, metrics and each other name what is there.

use super::none;
use super::tree::{File, files, root};

/// Lines of a document, at most.
const LENGTHS: [(&str, usize); 2] = [("README.md", 220), ("ARCHITECTURE.md", 300)];

fn documents() -> Vec<File> {
    files(|path| path.ends_with(".md"))
}

#[test]
fn documents_are_short() {
    for (path, most) in LENGTHS {
        let document = files(|found| found == path);
        let lines = document[0].text.lines().count();
        assert!(lines <= most, "{path} has {lines} lines; {most} are enough");
    }
}

/// The targets of `[text](target)` that lead into the repository.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text.match_indices("](").map(|(at, _)| {
        let rest = &text[at + 2..];
        &rest[..rest.find(')').unwrap_or(rest.len())]
    });
    targets.filter(|target| !target.contains("://") && !target.starts_with('#'))
}

#[test]
fn links_lead_somewhere() {
    let mut faults = Vec::new();
    for document in documents() {
        let folder = root().join(&document.path).parent().expect("a file has a folder").to_owned();
        for link in links(&document.text) {
            let file = link.split('#').next().unwrap_or(link);
            if !folder.join(file).exists() {
                faults.push(format!("{}: {link}", document.path));
            }
        }
    }
    none(faults);
}

/// Words in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn source_files_that_documents_name_are_there() {
    let mut faults = Vec::new();
    for document in documents() {
        for name in quoted(&document.text) {
            let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "_./-".contains(c));
            let ours = ["src/", "tests/tidy", "sim/src/", "config/", "docs/"];
            let named = plain && ours.iter().any(|folder| name.starts_with(folder));
            let base = if document.path.starts_with("sim/") { root().join("sim") } else { root() };
            if named && !base.join(name).exists() && !root().join(name).exists() {
                faults.push(format!("{}: {name}", document.path));
            }
        }
    }
    none(faults);
}

#[test]
fn metrics_that_documents_name_are_exported() {
    let code: String = files(|path| {
        path.starts_with("src/telemetry/metrics") || path.starts_with("src/admin/metrics")
    })
    .into_iter()
    .map(|file| file.text)
    .collect();
    let mut faults = Vec::new();
    for document in documents().iter().filter(|document| !document.path.contains('/')) {
        for name in quoted(&document.text) {
            let name = name.split('{').next().unwrap_or(name);
            let metric = name.starts_with("sluice_") || name.starts_with("gen_ai_");
            let family = ["_bucket", "_count", "_sum"]
                .iter()
                .find_map(|suffix| name.strip_suffix(suffix))
                .unwrap_or(name);
            if metric && !code.contains(&format!("\"{family}\"")) {
                faults.push(format!("{}: {name}", document.path));
            }
        }
    }
    none(faults);
}
