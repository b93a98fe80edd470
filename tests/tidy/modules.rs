//! Which module may use which: dependencies point one way, and the dangerous things stay in their corner.

use std::collections::BTreeSet;

use super::none;
use super::tree::{File, code, has_word, rust};

/// Every module of the library, and the modules it may use. The order is the architecture's, from the base
/// up: a module uses only those that stand above it here.
const MAY_USE: [(&str, &[&str]); 21] = [
    ("config", &[]),
    ("lifecycle", &[]),
    ("runtime", &["config", "lifecycle"]),
    ("http", &["runtime"]),
    ("json", &[]),
    ("sse", &[]),
    ("api", &["http", "json", "sse"]),
    ("dialect", &["json", "api"]),
    ("gate", &["config", "http", "api"]),
    ("telemetry", &["config", "lifecycle"]),
    ("route", &["config", "json", "api", "telemetry"]),
    ("upstream", &["config", "lifecycle", "runtime", "http", "json", "api", "telemetry"]),
    (
        "relay",
        &[
            "config",
            "lifecycle",
            "runtime",
            "http",
            "json",
            "sse",
            "api",
            "dialect",
            "gate",
            "route",
            "telemetry",
            "upstream",
        ],
    ),
    ("shard", &["config", "lifecycle", "runtime", "http", "api", "route", "telemetry", "relay"]),
    ("admin", &["config", "lifecycle", "http", "telemetry"]),
    ("control", &["config", "route", "telemetry", "shard", "admin"]),
    ("boot", &["config", "runtime", "route", "telemetry", "shard", "control"]),
    (
        "foretell",
        &["config", "http", "json", "api", "dialect", "gate", "route", "telemetry", "relay"],
    ),
    ("quickstart", &["config", "boot"]),
    ("main", &["config", "boot", "foretell", "quickstart"]),
    // Tests alone.
    (
        "simulation",
        &["config", "lifecycle", "runtime", "http", "route", "telemetry", "relay", "shard"],
    ),
];

/// Uses against that order: (module, what it uses, why).
const AGAINST: [(&str, &str, &str); 0] = [];

/// Modules that are functions of their arguments: nothing in them waits.
const PURE: [&str; 6] =
    ["src/json/", "src/sse/", "src/api/", "src/dialect/", "src/gate/", "src/route/"];
/// The codec is pure, too; these are the shell around it, and its test.
const SHELL: [&str; 3] = ["src/http/wire.rs", "src/http/tls.rs", "src/http/tests/tls.rs"];

/// Files that may hold `unsafe`, and what for.
const UNSAFE: [(&str, &str); 3] = [
    ("src/json/simd.rs", "AVX2, behind a proof that the processor has it"),
    ("src/runtime/buf.rs", "a buffer lent to the kernel"),
    ("src/runtime/sys.rs", "a stream shared with its armed read; TCP_INFO"),
];

/// What shards never do, by the word that would do it.
const BLOCKING: [&str; 6] = ["Mutex", "RwLock", "Condvar", "OnceLock", "LazyLock", "block_on"];
/// Where such a word stands for something else.
const NOT_BLOCKING: [(&str, &str); 11] = [
    ("src/api/media.rs", "a search that is built once, from a constant"),
    ("src/api/observe/prefilter.rs", "searches that are built once, from constants"),
    ("src/api/observe/tail.rs", "searches that are built once, from constants"),
    ("src/route/chain/volatile.rs", "searches that are built once, from constants"),
    ("src/config/secret.rs", "the salt of keys, drawn when the first plan is made"),
    ("src/config/tls.rs", "the system's certificates, read when a plan is made"),
    ("src/telemetry/say.rs", "the log's queue and its thread, made at the first line"),
    ("src/lifecycle/inject.rs", "panics on purpose, in test builds alone"),
    ("src/runtime/twin/", "the wakers of a world without threads, in test builds alone"),
    ("src/runtime/driver.rs", "the one place where a shard's runtime is run"),
    ("src/shard/run.rs", "calls it"),
];

/// `src/http/wire.rs` → `http`.
fn module(path: &str) -> &str {
    let inside = path.strip_prefix("src/").unwrap_or(path);
    inside.split(['/', '.']).next().unwrap_or(inside)
}

/// What `file` names behind `crate::` (in main, `sluice::`): two path segments, or one.
fn uses(file: &File) -> BTreeSet<String> {
    let from = if file.path == "src/main.rs" { "sluice::" } else { "crate::" };
    let text: String = file.text.lines().map(|line| format!("{}\n", code(line))).collect();
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices(from) {
        let rest = &text[at + from.len()..];
        match rest.strip_prefix('{') {
            Some(group) => found.extend(group_names(group)),
            None => found.extend(path_of(rest)),
        }
    }
    found
}

fn path_of(rest: &str) -> Option<String> {
    let part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let path = &rest[..rest.find(|c| !part(c)).unwrap_or(rest.len())];
    let mut parts = path.split("::").filter(|part| !part.is_empty());
    let (first, second) = (parts.next()?, parts.next());
    Some(second.map_or(first.to_owned(), |second| format!("{first}::{second}")))
}

/// The names at the top of `a, b::{c, d}, e}`.
fn group_names(group: &str) -> Vec<String> {
    let (mut depth, mut start, mut names) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            ',' | '}' if depth == 0 => {
                names.extend(path_of(group[start..at].trim()));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    names
}

fn may(from: &str, used: &str) -> bool {
    let to = used.split("::").next().unwrap_or(used);
    let table = MAY_USE.iter().find(|(module, _)| *module == from);
    table.is_some_and(|(_, allowed)| allowed.contains(&to))
        || AGAINST.iter().any(|(module, path, _)| *module == from && used.starts_with(path))
}

#[test]
fn dependencies_point_one_way() {
    let mut faults = Vec::new();
    for file in rust("src/").iter().filter(|file| file.path != "src/lib.rs") {
        let from = module(&file.path);
        if !MAY_USE.iter().any(|(module, _)| *module == from) {
            faults.push(format!("{}: say in MAY_USE what {from} may use", file.path));
            continue;
        }
        for used in uses(file) {
            let to = used.split("::").next().unwrap_or_default();
            if to != from && !may(from, &used) {
                faults.push(format!("{}: {from} must not use {used}", file.path));
            }
        }
    }
    none(faults);
}

#[test]
fn the_table_itself_points_one_way() {
    let place = |name: &str| MAY_USE.iter().position(|(module, _)| *module == name);
    for (module, allowed) in MAY_USE {
        for used in allowed {
            assert!(place(used) < place(module) && place(used).is_some(), "{module} → {used}");
        }
    }
}

#[test]
fn exceptions_are_still_needed() {
    let files = rust("src/");
    for (from, path, _) in AGAINST {
        let needed = files.iter().any(|file| {
            module(&file.path) == from && uses(file).iter().any(|u| u.starts_with(path))
        });
        assert!(needed, "{from} does not use {path} any more");
    }
    for (path, _) in UNSAFE {
        let file = files.iter().find(|file| file.path == path);
        let needed = file.is_some_and(|f| f.text.lines().any(|l| has_word(code(l), "unsafe")));
        assert!(needed, "{path} holds no unsafe any more");
    }
}

/// Lines of code of `files` with one of `words`, as faults.
fn named(files: &[File], words: &[&str], allowed: impl Fn(&str) -> bool) -> Vec<String> {
    let mut faults = Vec::new();
    for file in files.iter().filter(|file| !allowed(&file.path)) {
        for (at, line) in (1..).zip(file.text.lines()) {
            let found = words.iter().filter(|word| has_word(code(line), word));
            faults.extend(found.map(|word| format!("{}:{at}: `{word}`", file.path)));
        }
    }
    faults
}

#[test]
fn only_the_control_plane_names_hyper() {
    none(named(&rust("src/"), &["hyper"], |path| path == "src/control/client.rs"));
}

#[test]
fn only_the_runtime_names_monoio() {
    none(named(&rust("src/"), &["monoio"], |path| path.starts_with("src/runtime/")));
}

#[test]
fn only_the_control_plane_names_tokio() {
    let ours = ["src/control/", "src/admin/"];
    let words = ["tokio", "axum", "tokio_rustls"];
    none(named(&rust("src/"), &words, |path| ours.iter().any(|folder| path.starts_with(folder))));
}

#[test]
fn pure_modules_do_not_wait() {
    let words = ["await", "async"];
    let mut files = rust("src/http/");
    files.retain(|file| !SHELL.contains(&&*file.path));
    let mut faults = named(&files, &["await", "async", "runtime"], |_| false);
    for folder in PURE {
        faults.extend(named(&rust(folder), &words, |_| false));
    }
    none(faults);
}

#[test]
fn shards_take_no_locks() {
    let mut faults = Vec::new();
    // All that a shard's thread runs.
    let control = ["admin", "control", "boot", "foretell", "quickstart", "main", "simulation"];
    let run = MAY_USE.iter().filter(|(module, _)| !control.contains(module));
    for (module, _) in run {
        let folder = format!("src/{module}/");
        let excused =
            |path: &str| NOT_BLOCKING.iter().any(|(excused, _)| path.starts_with(excused));
        faults.extend(named(&rust(&folder), &BLOCKING, |path| {
            excused(path) || path.contains("tests")
        }));
    }
    none(faults);
}

#[test]
fn unsafe_stays_in_its_corner() {
    let allowed = |path: &str| UNSAFE.iter().any(|(known, _)| *known == path);
    none(named(&rust(""), &["unsafe"], |path| allowed(path) || path.starts_with("tests/tidy/")));
}

#[test]
fn every_unsafe_is_argued() {
    let mut faults = Vec::new();
    for (path, _) in UNSAFE {
        for file in rust(path) {
            let lines: Vec<&str> = file.text.lines().collect();
            for (at, line) in lines.iter().enumerate() {
                // An `unsafe fn` is argued where it is called; the trait says what it promises.
                let begins = code(line).contains("unsafe {") || code(line).contains("unsafe impl");
                let above = &lines[at.saturating_sub(4)..at];
                if begins && !above.iter().any(|line| line.contains("SAFETY:")) {
                    faults.push(format!("{path}:{}: no SAFETY comment", at + 1));
                }
            }
        }
    }
    none(faults);
}
