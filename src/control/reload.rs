//! From a changed file to a new plan, or to the reason why not.

use std::path::{Path, PathBuf};

use super::watch::{Reader, Snapshot};
use crate::config::{self, Errors, Plan};

/// What becomes of a freshly read file.
#[derive(Debug)]
pub enum Decision {
    /// It is in force from now on.
    Publish(Box<Plan>),
    /// The old plan stays: the file has faults.
    Invalid(Errors),
    /// The old plan stays: these settings change only with a restart.
    NeedsRestart(Vec<String>),
}

/// Judges a file that was read. `restart_needed` names what a plan would change that cannot be
/// changed while running.
pub fn decide(
    loaded: Result<Plan, Errors>,
    restart_needed: impl FnOnce(&Plan) -> Vec<String>,
) -> Decision {
    let plan = match loaded {
        Ok(plan) => plan,
        Err(errors) => return Decision::Invalid(errors),
    };
    let changes = restart_needed(&plan);
    match changes.is_empty() {
        true => Decision::Publish(Box::new(plan)),
        false => Decision::NeedsRestart(changes),
    }
}

/// The files that a plan is made from, the configuration first.
pub fn watched(config: &Path, plan: &Plan) -> Vec<PathBuf> {
    std::iter::once(config.to_owned()).chain(plan.files.iter().cloned()).collect()
}

/// Where a plan came from.
#[derive(Debug)]
pub struct Origin {
    pub path: PathBuf,
    /// What its files held then.
    pub snapshot: Snapshot,
}

impl Origin {
    /// Reads a process's first plan. Blocks on the disk.
    pub fn load(path: &Path) -> Result<(Plan, Origin), Errors> {
        let Loaded { plan, snapshot } = load(path, &[path.to_owned()], 1);
        Ok((plan?, Origin { path: path.to_owned(), snapshot }))
    }
}

/// A file as read, and what the files behind it held.
#[derive(Debug)]
pub struct Loaded {
    pub plan: Result<Plan, Errors>,
    /// Taken before the load, so that no later change is missed.
    pub snapshot: Snapshot,
}

/// Reads the configuration and everything behind it. Blocks on the disk.
pub fn load(config: &Path, old_files: &[PathBuf], generation: u64) -> Loaded {
    // A look in vain is made up for by the next: whatever it finds is news then.
    let look = |files: &[PathBuf]| Reader::default().look(files).unwrap_or_default();
    let before = look(old_files);
    let plan = config::load(config, generation);
    let snapshot = match &plan {
        Ok(plan) => {
            let files = watched(config, plan);
            before.restricted(&files, &look(&files))
        }
        Err(_) => before,
    };
    Loaded { plan, snapshot }
}

/// [`load`] on a thread where it may block.
pub async fn load_aside(config: PathBuf, old_files: Vec<PathBuf>, generation: u64) -> Loaded {
    let file = config.display().to_string();
    let work = move || load(&config, &old_files, generation);
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| {
        let errors = Errors::whole_file(&file, "reading it failed badly", "report this as a bug");
        Loaded { plan: Err(errors), snapshot: Snapshot::default() }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Plan, Errors> {
        config::parse(text, "t", Path::new("/"), &|_| None, 2)
    }

    const GOOD: &str = r#"
        [server]
        listen = "127.0.0.1:8080"
        [[endpoints]]
        name = "gpu-0"
        url = "http://127.0.0.1:9001"
        engine = "vllm"
        [[models]]
        name = "m"
        endpoints = ["gpu-0"]
    "#;

    #[test]
    fn the_table() {
        let restart = || vec!["server.listen".to_owned()];
        for (text, changes, wanted) in [
            (GOOD, Vec::new(), "publish"),
            (GOOD, restart(), "needs restart"),
            ("[server]\nlisten = 1", Vec::new(), "invalid"),
            ("[server]\nlisten = 1", restart(), "invalid"),
            ("not toml", Vec::new(), "invalid"),
        ] {
            let got = match decide(parse(text), |_| changes.clone()) {
                Decision::Publish(plan) if plan.generation == 2 => "publish",
                Decision::Publish(_) => "wrong generation",
                Decision::Invalid(errors) if !errors.problems.is_empty() => "invalid",
                Decision::Invalid(_) => "no reason",
                Decision::NeedsRestart(names) if names == changes => "needs restart",
                Decision::NeedsRestart(_) => "wrong names",
            };
            assert_eq!(got, wanted, "{text} {changes:?}");
        }
    }
}
