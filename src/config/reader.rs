//! Reads the parsed TOML tree key by key and notes every fault instead of stopping at the first.
//!
//! The schema is the set of reads: a getter names its key, its default and its range in one line, and
//! whatever a table holds beyond the keys asked for is an unknown key. So the code that uses a setting
//! is the code that declares it. Getters always return something usable; whoever assembles the plan
//! asks [`Reader::faults`] at the end.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::Fault;
use super::suggest::nearest;

/// A value and the byte offset of its text in the file.
#[derive(Clone, Copy, Debug)]
pub struct At<T> {
    pub at: usize,
    pub value: T,
}

/// A key that some read asked for: the schema, as it is used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked {
    /// `server.tls`, `endpoints`; empty for the file's top level.
    pub table: String,
    pub key: &'static str,
    /// As TOML text; empty where there is none.
    pub default: String,
}

struct Unknown {
    at: usize,
    table: String,
    title: String,
    key: String,
}

/// Collects what one pass over a file finds out.
pub struct Reader<'e> {
    /// Relative paths start here.
    pub base_dir: &'e Path,
    pub env: &'e dyn Fn(&str) -> Option<String>,
    faults: RefCell<Vec<Fault>>,
    unknown: RefCell<Vec<Unknown>>,
    asked: RefCell<BTreeSet<Asked>>,
    /// The tables of which there may be several.
    lists: RefCell<BTreeSet<String>>,
    files: RefCell<BTreeSet<PathBuf>>,
    /// Searches for a near word that are still allowed: each costs a walk over all names, and a file of
    /// nothing but mistakes must not take minutes.
    searches: Cell<u32>,
}

impl<'e> Reader<'e> {
    pub fn new(base_dir: &'e Path, env: &'e dyn Fn(&str) -> Option<String>) -> Self {
        Self {
            base_dir,
            env,
            faults: RefCell::default(),
            unknown: RefCell::default(),
            asked: RefCell::default(),
            lists: RefCell::default(),
            files: RefCell::default(),
            searches: Cell::new(100),
        }
    }

    /// Notes a fault at a byte offset.
    pub fn fault(&self, at: usize, what: impl Into<String>, fix: impl Into<String>) {
        self.faults.borrow_mut().push(Fault { at, what: what.into(), fix: fix.into() });
    }

    /// The known word that `word` may have been meant to be.
    pub fn nearest<'c>(&self, word: &str, known: impl Iterator<Item = &'c str>) -> Option<&'c str> {
        let left = self.searches.get().checked_sub(1)?;
        self.searches.set(left);
        nearest(word, known)
    }

    /// Remembers a file that the plan depends on.
    pub fn depends_on(&self, path: &Path) {
        self.files.borrow_mut().insert(path.to_owned());
    }

    /// The files that were named, sorted.
    pub fn files(&self) -> Vec<PathBuf> {
        self.files.take().into_iter().collect()
    }

    /// Every fault so far, unknown keys included. Called once, after the whole tree was read, because
    /// only then all known keys are known.
    pub fn faults(&self) -> Vec<Fault> {
        for unknown in self.unknown.take() {
            let what = format!("unknown key `{}` in {}", unknown.key.escape_debug(), unknown.title);
            self.fault(unknown.at, what, self.hint(&unknown));
        }
        self.faults.take()
    }

    /// Every key of the schema that was asked for.
    #[cfg(test)]
    pub fn asked(&self) -> BTreeSet<Asked> {
        self.asked.take()
    }

    fn hint(&self, unknown: &Unknown) -> String {
        let asked = self.asked.borrow();
        let here = || asked.iter().filter(|a| a.table == unknown.table).map(|a| a.key);
        if let Some(near) = self.nearest(&unknown.key, here()) {
            return format!("did you mean `{near}`?");
        }
        let titled = |table: &str| match self.lists.borrow().contains(table) {
            true => format!("[[{table}]]"),
            false => format!("[{table}]"),
        };
        if let Some(other) = asked.iter().find(|a| a.key == unknown.key) {
            let Asked { table, key, .. } = other;
            return match table.is_empty() {
                true => format!("write {} as a table of its own", titled(key)),
                false => format!("`{key}` belongs in {}", titled(table)),
            };
        }
        let known: Vec<&str> = here().collect();
        format!("remove it; known keys: {}", known.join(", "))
    }
}

/// One table of the file, present or not.
pub struct Section<'a> {
    pub reader: &'a Reader<'a>,
    /// As in [`Asked::table`].
    table: String,
    /// As written in messages: `[server.tls]`, `[[endpoints]] "gpu-0"`.
    title: String,
    /// Where faults of the table as a whole are shown.
    pub at: usize,
    map: Option<&'a DeTable<'a>>,
    /// Something else stands in its place, which was called a fault: nothing in it is missing.
    misplaced: bool,
    asked: RefCell<Vec<&'static str>>,
}

impl<'a> Section<'a> {
    /// The file's top level.
    pub fn root(reader: &'a Reader<'a>, map: &'a DeTable<'a>) -> Self {
        let title = "the file's top level".to_owned();
        Section {
            reader,
            table: String::new(),
            title,
            at: 0,
            map: Some(map),
            misplaced: false,
            asked: RefCell::default(),
        }
    }

    pub fn title(&self) -> &str {
        &self.title
    }

    pub fn fault(&self, at: usize, what: impl Into<String>, fix: impl Into<String>) {
        self.reader.fault(at, what, fix);
    }

    fn value(&self, key: &'static str, default: impl Display) -> Option<At<&'a DeValue<'a>>> {
        let (table, default) = (self.table.clone(), default.to_string());
        self.reader.asked.borrow_mut().insert(Asked { table, key, default });
        self.asked.borrow_mut().push(key);
        self.map?.get(key).map(at)
    }

    /// Whether the file says something about `key`, and where.
    pub fn given(&self, key: &str) -> Option<usize> {
        self.map?.get(key).map(|value| value.span().start)
    }

    /// Whether the value of `key` was found faulty, so that a default stands for it.
    pub fn is_faulty(&self, key: &str) -> bool {
        let faults = self.reader.faults.borrow();
        self.given(key).is_some_and(|at| faults.iter().any(|fault| fault.at == at))
    }

    /// The text under `key` in each table of the list `list`, before they are read. `None`: there is none, or
    /// something else.
    pub fn glance(&self, list: &str, key: &str) -> Vec<Option<&'a str>> {
        let Some(list) = self.map.and_then(|map| map.get(list)) else { return Vec::new() };
        let Some(items) = list.get_ref().as_array() else { return vec![None] };
        let text = |item: &'a Spanned<DeValue<'a>>| item.get_ref().get(key)?.get_ref().as_str();
        items.iter().map(text).collect()
    }

    /// Whether the list `key` is absent or empty (anything but a list is neither).
    pub fn is_empty(&self, key: &str) -> bool {
        match self.map.and_then(|map| map.get(key)).map(Spanned::get_ref) {
            None => true,
            Some(value) => value.as_array().is_some_and(|items| items.is_empty()),
        }
    }

    fn wrong_type(&self, key: &str, found: At<&DeValue<'_>>, expected: &str, fix: &str) {
        let what =
            format!("`{}` must be {expected}, not {}", key.escape_debug(), kind(found.value));
        self.fault(found.at, what, fix);
    }

    /// A whole number within `range`.
    pub fn whole(&self, key: &'static str, default: u64, range: RangeInclusive<u64>) -> u64 {
        let Some(found) = self.value(key, default) else { return default };
        let DeValue::Integer(_) = found.value else {
            let fix = format!("write a plain number, e.g. {key} = {default}");
            self.wrong_type(key, found, "a whole number", &fix);
            return default;
        };
        let fix = format!("use {} to {} (default {default})", range.start(), range.end());
        self.number(key, found, range, fix).unwrap_or(default)
    }

    fn number(
        &self,
        key: &str,
        found: At<&DeValue<'_>>,
        range: RangeInclusive<u64>,
        fix: String,
    ) -> Option<u64> {
        let text = found.value.as_integer()?;
        let number = u64::from_str_radix(text.as_str(), text.radix()).ok();
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            self.fault(found.at, format!("`{key}` is out of range"), fix);
        }
        number
    }

    /// [`Section::whole`] for sizes and counts that index memory.
    pub fn size(&self, key: &'static str, default: u64, range: RangeInclusive<u64>) -> usize {
        usize::try_from(self.whole(key, default, range)).unwrap_or(usize::MAX)
    }

    /// A whole number within `range`, or "auto" (the default): `None`.
    pub fn whole_or_auto(&self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let found = self.value(key, "\"auto\"")?;
        let fix = format!("use {} to {} or \"auto\" (default)", range.start(), range.end());
        match found.value {
            DeValue::Integer(_) => return self.number(key, found, range, fix),
            DeValue::String(word) if &**word == "auto" => {}
            _ => {
                let what = format!("`{key}` is neither a whole number nor \"auto\"");
                self.fault(found.at, what, fix);
            }
        }
        None
    }

    /// A span of time, in seconds, with or without a fraction.
    pub fn seconds(&self, key: &'static str, default: f64, range: RangeInclusive<f64>) -> Duration {
        let Some(found) = self.value(key, default) else {
            return Duration::from_secs_f64(default);
        };
        let number = match found.value {
            DeValue::Integer(text) => i64::from_str_radix(text.as_str(), text.radix())
                .map_or(f64::INFINITY, |whole| whole as f64),
            DeValue::Float(text) => text.as_str().parse().unwrap_or(f64::INFINITY),
            _ => {
                let fix = format!("write plain seconds, e.g. {key} = {default}");
                self.wrong_type(key, found, "a number of seconds", &fix);
                default
            }
        };
        if range.contains(&number) {
            return Duration::from_secs_f64(number);
        }
        let (low, high) = range.into_inner();
        let fix = format!("use {low} to {high} seconds (default {default})");
        self.fault(found.at, format!("`{key}` is out of range"), fix);
        Duration::from_secs_f64(default)
    }

    /// `true` or `false`.
    pub fn switch(&self, key: &'static str, default: bool) -> bool {
        match self.value(key, default) {
            None => default,
            Some(At { value: DeValue::Boolean(on), .. }) => *on,
            Some(found) => {
                self.wrong_type(key, found, "true or false", "write it without quotes");
                default
            }
        }
    }

    /// A text without control characters; `default` is documentation only.
    pub fn text(&self, key: &'static str, default: &str) -> Option<At<&'a str>> {
        let default = if default.is_empty() { String::new() } else { format!("{default:?}") };
        let found = self.value(key, default)?;
        let DeValue::String(text) = found.value else {
            self.wrong_type(key, found, "a text", "write it in double quotes");
            return None;
        };
        if text.chars().any(char::is_control) {
            let what = format!("`{key}` holds a control character");
            self.fault(found.at, what, "remove line breaks, tabs and other control characters");
            return None;
        }
        Some(At { at: found.at, value: text })
    }

    /// A text that must be there.
    pub fn required(&self, key: &'static str, example: &str) -> Option<At<&'a str>> {
        if self.given(key).is_none() {
            self.value(key, "");
            if !self.misplaced {
                let fix = format!("add {key} = {example:?}");
                self.fault(self.at, format!("{} has no `{key}`", self.title), fix);
            }
            return None;
        }
        self.text(key, "")
    }

    /// One of a few words.
    pub fn choice<T: Copy>(
        &self,
        key: &'static str,
        default: &str,
        words: &[(&str, T)],
    ) -> Option<T> {
        match self.text(key, default) {
            Some(word) => self.pick(key, word, words),
            None => words.iter().find(|(word, _)| *word == default).map(|(_, value)| *value),
        }
    }

    /// The meaning of a word from a closed list.
    pub fn pick<T: Copy>(&self, key: &str, word: At<&str>, words: &[(&str, T)]) -> Option<T> {
        let hit = words.iter().find(|(known, _)| *known == word.value);
        if hit.is_none() {
            let fix = match self.reader.nearest(word.value, words.iter().map(|(known, _)| *known)) {
                Some(near) => format!("did you mean {near:?}?"),
                None => {
                    let all: Vec<String> = words.iter().map(|(w, _)| format!("{w:?}")).collect();
                    format!("use one of {}", all.join(", "))
                }
            };
            self.fault(word.at, format!("{:?} is not a known `{key}`", word.value), fix);
        }
        hit.map(|(_, value)| *value)
    }

    /// A list of texts. `None` if it is absent or no list.
    pub fn texts(&self, key: &'static str) -> Option<At<Vec<At<&'a str>>>> {
        let found = self.value(key, "")?;
        let DeValue::Array(items) = found.value else {
            self.wrong_type(key, found, "a list of texts", &format!("write {key} = [\"...\"]"));
            return None;
        };
        let mut texts = Vec::with_capacity(items.len());
        for item in items {
            match item.get_ref() {
                DeValue::String(text) => texts.push(At { at: item.span().start, value: &**text }),
                _ => self.wrong_type(key, at(item), "a list of texts", "put each in double quotes"),
            }
        }
        Some(At { at: found.at, value: texts })
    }

    /// A table with free keys (each `(key, value)` with the key's place).
    pub fn pairs(&self, key: &'static str) -> Vec<(At<&'a str>, At<&'a str>)> {
        let Some(found) = self.value(key, "") else { return Vec::new() };
        let DeValue::Table(map) = found.value else {
            self.wrong_type(
                key,
                found,
                "a table",
                &format!("write {key} = {{ name = \"value\" }}"),
            );
            return Vec::new();
        };
        let mut pairs = Vec::with_capacity(map.len());
        for (name, value) in map {
            match value.get_ref() {
                DeValue::String(text) => {
                    let name = At { at: name.span().start, value: &**name.get_ref() };
                    pairs.push((name, At { at: value.span().start, value: &**text }));
                }
                _ => self.wrong_type(name.get_ref(), at(value), "a text", "write it in quotes"),
            }
        }
        pairs
    }

    /// Reads a table, absent ones as if they were empty.
    pub fn table<T>(&self, key: &'static str, read: impl FnOnce(&Section<'a>) -> T) -> T {
        let table = self.path(key);
        let (mut place, mut map, mut misplaced) = (self.at, None, false);
        if let Some(found) = self.value(key, "") {
            place = found.at;
            map = found.value.as_table();
            misplaced = map.is_none();
            if misplaced {
                self.wrong_type(key, found, "a table", &format!("write [{table}] on its own line"));
            }
        }
        let title = format!("[{table}]");
        let asked = RefCell::default();
        Section { reader: self.reader, table, title, at: place, map, misplaced, asked }.finish(read)
    }

    /// Reads each table of a list of tables (`[[key]]`), in the file's order.
    pub fn tables<T>(&self, key: &'static str, read: impl Fn(&Section<'a>) -> T) -> Vec<T> {
        let table = self.path(key);
        self.reader.lists.borrow_mut().insert(table.clone());
        let Some(found) = self.value(key, "") else { return Vec::new() };
        let fix = format!("write [[{table}]] on its own line");
        let DeValue::Array(items) = found.value else {
            self.wrong_type(key, found, "a list of tables", &fix);
            return Vec::new();
        };
        let mut all = Vec::with_capacity(items.len());
        for item in items {
            let At { at, value } = at(item);
            let map = value.as_table();
            if map.is_none() {
                self.wrong_type(key, At { at, value }, "a list of tables", &fix);
                continue;
            }
            let name = value.get("name").and_then(|n| n.get_ref().as_str());
            let title = match name {
                Some(name) => format!("[[{table}]] {name:?}"),
                None => format!("[[{table}]]"),
            };
            let (reader, table, asked) = (self.reader, table.clone(), RefCell::default());
            let misplaced = false;
            all.push(Section { reader, table, title, at, map, misplaced, asked }.finish(&read));
        }
        all
    }

    fn path(&self, key: &str) -> String {
        if self.table.is_empty() { key.to_owned() } else { format!("{}.{key}", self.table) }
    }

    /// Reads the table, then calls everything in it that was not asked for unknown.
    pub fn finish<T>(self, read: impl FnOnce(&Self) -> T) -> T {
        let result = read(&self);
        let asked = self.asked.borrow();
        for (key, _) in self.map.into_iter().flatten() {
            if !asked.contains(&&**key.get_ref()) {
                self.reader.unknown.borrow_mut().push(Unknown {
                    at: key.span().start,
                    table: self.table.clone(),
                    title: self.title.clone(),
                    key: key.get_ref().to_string(),
                });
            }
        }
        result
    }
}

fn at<'a>(value: &'a Spanned<DeValue<'a>>) -> At<&'a DeValue<'a>> {
    At { at: value.span().start, value: value.get_ref() }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
