//! Any text is a configuration or a list of errors that point into it; never a panic, a hang, or a
//! secret in a message. Seeds: `config/sluice.toml` and pieces of it.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;

/// Occurs in no message, or a secret leaked.
const SECRET: &str = "sk-must-never-be-shown";

fn env(name: &str) -> Option<String> {
    (name.len() < 8).then(|| format!("{SECRET}-{name}"))
}

fuzz_target!(|text: &str| {
    if text.contains(SECRET) {
        return;
    }
    match sluice::config::parse(text, "fuzz.toml", Path::new("/nonexistent"), &env, 1) {
        Ok(plan) => {
            assert!(!plan.endpoints.is_empty() && !plan.models.is_empty());
            for model in &plan.models {
                let known = |id: &sluice::config::plan::EndpointId| {
                    usize::from(id.0) < plan.endpoints.len()
                };
                assert!(!model.endpoints.is_empty() && model.endpoints.iter().all(known));
            }
            assert!(!sluice::config::describe(&plan).contains(SECRET));
            assert!(sluice::config::restart_needed(&plan, &plan).is_empty());
        }
        Err(errors) => {
            assert!(!errors.problems.is_empty());
            let lines = text.split('\n').count();
            assert!(errors.problems.iter().all(|p| p.line <= lines && !p.fix.is_empty()));
            assert!(!errors.to_string().contains(SECRET));
        }
    }
});
