//! The file → a validated, immutable [`Plan`].
//!
//! One pass reads the parsed TOML key by key ([`reader`]), one module for each group of tables, and
//! notes every fault with its place; a plan exists only if there are none. Nothing here runs on a
//! shard except [`Plan::authenticate`].
//!
//! Invariants: no key is ignored; no secret stands in the file, in a message or in a description;
//! every limit and timeout has its unit in its name; a bad file never panics, hangs or half-applies.

mod ability;
mod aliases;
mod endpoints;
mod error;
mod headers;
mod index;
mod isolation;
mod keys;
mod kv_events;
mod listeners;
mod models;
mod names;
mod notes;
mod pairs;
pub mod plan;
mod reader;
mod reference;
mod report;
mod routing;
pub mod secret;
mod served;
mod settings;
mod shadows;
mod splits;
mod suggest;
mod tls;
mod traits;
mod url;

#[cfg(test)]
mod tests;

use std::path::Path;

use toml::de::DeTable;

pub use error::{Errors, Problem};
pub use isolation::{Isolation, SALT_DIGITS};
pub use keys::{Digests, PRESENTED_BYTES_MAX};
pub use listeners::OPEN_ACCESS;
pub use models::policy_name;
pub use plan::Plan;
pub use report::{describe, restart_needed};

use error::Fault;
use reader::{Reader, Section};

/// A thousand endpoints and ten thousand keys fit into this; more is the wrong file.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Reads, validates and compiles a file; secrets come from the process's environment and from files.
/// Blocks on the disk: for the control plane and the command line.
pub fn load(path: &Path, generation: u64) -> Result<Plan, Errors> {
    let file = path.display().to_string();
    let bytes = reference::read_file(path, FILE_BYTES_MAX)
        .map_err(|(what, fix)| Errors::whole_file(&file, format!("the file {what}"), fix))?;
    let text = std::str::from_utf8(&bytes).map_err(|e| not_utf8(&file, &bytes, e.valid_up_to()))?;
    let base_dir = path.parent().unwrap_or(Path::new(""));
    parse(text, &file, base_dir, &|name| std::env::var(name).ok(), generation)
}

fn not_utf8(file: &str, bytes: &[u8], at: usize) -> Errors {
    let text = String::from_utf8_lossy(&bytes[..at]);
    let (what, fix) = ("the file is not UTF-8".to_owned(), "save it as UTF-8".to_owned());
    Errors::locate(file, &text, vec![Fault { at, what, fix }])
}

/// Compiles a configuration text. `file` is its name in messages; relative paths in it start at
/// `base_dir`; `env` answers `env:NAME` references. Reads only the files that the text names.
pub fn parse(
    text: &str,
    file: &str,
    base_dir: &Path,
    env: &dyn Fn(&str) -> Option<String>,
    generation: u64,
) -> Result<Plan, Errors> {
    let reader = Reader::new(base_dir, env);
    parse_with(&reader, text, generation).map_err(|faults| Errors::locate(file, text, faults))
}

fn parse_with(reader: &Reader<'_>, text: &str, generation: u64) -> Result<Plan, Vec<Fault>> {
    let (root, broken) = DeTable::parse_recoverable(text);
    if !broken.is_empty() {
        // What a broken file means is a guess: report its syntax alone.
        return Err(broken.iter().map(syntax_fault).collect());
    }
    let plan = Section::root(reader, root.get_ref()).finish(|root| compile(root, generation));
    match (plan, reader.faults()) {
        (Some(plan), faults) if faults.is_empty() => Ok(plan),
        (_, faults) => Err(faults),
    }
}

fn syntax_fault(error: &toml::de::Error) -> Fault {
    let at = error.span().map_or(0, |span| span.start);
    let message = error.message();
    let fix = match message {
        "duplicate key" => "keep one of them",
        _ => "correct the TOML (texts need double quotes, tables stand in [brackets])",
    };
    Fault { at, what: message.replace('\n', " "), fix: fix.to_owned() }
}

/// Reads every table. `None` only after a fault.
fn compile(root: &Section<'_>, generation: u64) -> Option<Plan> {
    let (ground, routing) =
        root.table("routing", |s| (isolation::Ground::of(root, s), routing::read(s)));
    let keys = keys::read(root, ground);
    let has_keys = !root.is_empty("keys");
    let server = root.table("server", |s| listeners::read_server(s, has_keys));
    let has_admin = root.given("admin").is_some();
    let admin = root.table("admin", |s| listeners::read_admin(s, has_admin));
    let runtime = root.table("runtime", settings::read_runtime);
    let limits = root.table("limits", settings::read_limits);
    let timeouts = root.table("timeouts", settings::read_timeouts);
    let log = root.table("log", settings::read_log);
    let listening = server.iter().map(|server| server.listen);
    let listening = listening.chain(admin.iter().map(|admin| admin.listen)).collect();
    let endpoints = endpoints::read(root, listening);
    let mut models = models::read(root, &endpoints, ground);
    isolation::check_keys(root, keys.isolated_at, &models, &endpoints);
    pairs::read(root, &endpoints, &mut models);
    let models::Models { list: mut models, mut index, .. } = models;
    let mut other_names = Vec::new();
    let splits = splits::read(root, &mut index, &mut other_names);
    let aliases = aliases::read(root, &mut index, &mut other_names);
    let shadows = shadows::read(root, &endpoints, &mut models, &index);
    let keys = keys.list;
    let isolates = keys.iter().any(|key| key.isolate) || models.iter().any(|model| model.isolate);
    let server = server?;
    if let Some(admin) = &admin {
        listeners::check_apart(root, &server, admin);
    }
    Some(Plan {
        generation,
        server,
        admin,
        runtime,
        limits,
        timeouts,
        log,
        routing,
        endpoints: endpoints.list,
        models,
        shadows,
        splits,
        aliases,
        other_names,
        model_index: index.into_sound(),
        isolates,
        digests: Digests::of(&keys),
        keys,
        files: root.reader.files(),
    })
}
