//! `config/sluice.toml` is the reference: it loads, names every key, and tells the real defaults.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::config::reader::Asked;

const TEXT: &str = include_str!("../../../config/sluice.toml");

/// One setting of the reference: where it stands, its value's text, and whether it is commented out.
struct Shown {
    table: String,
    key: String,
    value: String,
    active: bool,
}

/// `#key = value` and `#[table]` without the mark; prose ("# ...") and blank lines are dropped.
fn setting(line: &str) -> Option<(&str, bool)> {
    match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c == '[' || c.is_ascii_lowercase()) => {
            Some((rest, false))
        }
        Some(_) => None,
        None => Some((line, true)).filter(|_| !line.is_empty()),
    }
}

fn shown() -> Vec<Shown> {
    let mut table = String::new();
    let mut all = Vec::new();
    for (line, active) in TEXT.lines().filter_map(setting) {
        if let Some(header) = line.strip_prefix('[') {
            table = header.trim_matches(['[', ']']).to_owned();
            let (parent, key) = table.rsplit_once('.').unwrap_or(("", &table));
            let (parent, key) = (parent.to_owned(), key.to_owned());
            all.push(Shown { table: parent, key, value: String::new(), active });
        } else {
            let (key, value) = line.split_once(" = ").expect("a setting");
            let (table, key) = (table.clone(), key.to_owned());
            all.push(Shown { table, key, value: value.to_owned(), active });
        }
    }
    all
}

/// Everything switched on, except what would contradict the keys.
fn all_on() -> String {
    let lines = TEXT.lines().filter_map(setting).map(|(line, _)| line);
    lines.filter(|line| !line.starts_with("open_access")).collect::<Vec<_>>().join("\n")
}

fn schema() -> BTreeSet<Asked> {
    let nothing = |_: &str| None;
    let reader = Reader::new(Path::new("/nonexistent"), &nothing);
    drop(parse_with(&reader, &all_on(), 1));
    reader.asked()
}

#[test]
fn it_works_as_it_stands_and_says_what_the_least_file_says() {
    let plan = parse_here(TEXT).unwrap_or_else(|errors| panic!("{errors}"));
    let least = LEAST.replace("policy = \"round-robin\"", "");
    let least = parse_here(&least).expect("valid");
    assert_eq!(describe(&plan), describe(&least));
}

#[test]
fn it_works_with_every_setting_switched_on() {
    let dir = tempdir();
    let own = rcgen::generate_simple_self_signed(vec!["a".to_owned()]).expect("made");
    std::fs::write(dir.join("tls.crt"), own.cert.pem()).expect("written");
    std::fs::write(dir.join("ca.pem"), own.cert.pem()).expect("written");
    std::fs::write(dir.join("tls.key"), own.signing_key.serialize_pem()).expect("written");
    let env = |name: &str| Some(format!("secret-of-{name}"));
    let plan = parse(&all_on(), "f", &dir, &env, 1).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!((plan.endpoints.len(), plan.models.len(), plan.keys.len()), (3, 2, 1));
    assert_eq!(plan.files.len(), 3);
    std::fs::remove_dir_all(dir).expect("removed");
}

#[test]
fn it_names_every_key() {
    let shown = shown();
    for asked in schema() {
        let here = shown.iter().any(|s| s.table == asked.table && s.key == asked.key);
        assert!(here, "config/sluice.toml does not show `{}` of [{}]", asked.key, asked.table);
    }
}

#[test]
fn its_commented_values_are_the_defaults() {
    let defaults: BTreeMap<_, _> =
        schema().into_iter().map(|a| ((a.table, a.key.to_owned()), a.default)).collect();
    let mut compared = 0;
    for s in shown().into_iter().filter(|s| !s.active) {
        let default = &defaults.get(&(s.table.clone(), s.key.clone())).expect("a known key");
        if !default.is_empty() && !s.value.is_empty() {
            assert_eq!(s.value, **default, "default of `{}` in [{}]", s.key, s.table);
            compared += 1;
        }
    }
    assert!(compared >= 30, "only {compared} defaults were compared");
}

/// Keys whose prose says "(restart)".
fn marked_restart() -> BTreeSet<String> {
    let (mut table, mut marked, mut all) = ("", false, BTreeSet::new());
    for line in TEXT.lines() {
        match setting(line) {
            None => marked |= line.contains("(restart)"),
            Some((header, _)) if header.starts_with('[') => {
                (table, marked) = (header.trim_matches(['[', ']']), false);
            }
            Some((line, _)) => {
                let key = line.split(' ').next().unwrap_or_default();
                if std::mem::take(&mut marked) {
                    all.insert(format!("{table}.{key}"));
                }
            }
        }
    }
    all
}

#[test]
fn it_marks_what_needs_a_restart() {
    let changed = LEAST
        .replace("8080", "8081")
        .replace("9090", "9091")
        .replace("shards = 1 ", "shards = 2 ")
        .replace(
            "driver = \"auto\"",
            "driver = \"uring\"\nring_entries = 128\npin = false\ntick_milliseconds = 20",
        )
        .replace(
            "[runtime]",
            "[log]\nqueue_rows_max = 64\n[routing]\nprefix_table_mib = 8\n[runtime]",
        );
    let (old, new) = (parse_here(LEAST).expect("valid"), parse_here(&changed).expect("valid"));
    let named = restart_needed(&old, &new);
    let named: BTreeSet<String> =
        named.iter().filter_map(|text| Some(text.split_once(' ')?.0.to_owned())).collect();
    assert_eq!(named, marked_restart());
}
