//! Reading callgrind's profiles: which function executed how many instructions itself.

use std::collections::HashMap;

/// What one thread executed.
#[derive(Debug, Default)]
pub struct Profile {
    /// As callgrind numbers it; the first is 1.
    pub thread: String,
    pub total: u64,
    /// Instructions of each function itself, most first.
    pub functions: Vec<(String, u64)>,
}

/// Reads a profile (callgrind format 1, positions by line, one event).
pub fn read(text: &str) -> Profile {
    let mut profile = Profile::default();
    let mut names: HashMap<&str, &str> = HashMap::new();
    let mut costs: HashMap<&str, u64> = HashMap::new();
    let (mut function, mut callee_next) = ("", false);
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("thread: ") {
            profile.thread = rest.to_owned();
        } else if let Some(rest) = line.strip_prefix("fn=") {
            function = named(rest, &mut names);
        } else if let Some(rest) = line.strip_prefix("cfn=") {
            named(rest, &mut names);
        } else if line.starts_with("calls=") {
            // The cost on the next line is the callee's, and stands there too.
            callee_next = true;
        } else if let Some(cost) = cost(line)
            && !std::mem::take(&mut callee_next)
        {
            *costs.entry(function).or_default() += cost;
        }
    }
    profile.total = costs.values().sum();
    profile.functions = costs
        .into_iter()
        .map(|(id, cost)| (names.get(id).copied().unwrap_or(id).to_owned(), cost))
        .collect();
    profile.functions.sort_by_key(|(_, cost)| std::cmp::Reverse(*cost));
    profile
}

/// `(12) name` the first time, `(12)` after that; gives the `(12)`.
fn named<'t>(text: &'t str, names: &mut HashMap<&'t str, &'t str>) -> &'t str {
    match text.split_once(' ') {
        Some((id, name)) if id.starts_with('(') => {
            names.insert(id, name);
            id
        }
        _ => text,
    }
}

/// The cost on a line `POSITION COST`, whose position may be relative.
fn cost(line: &str) -> Option<u64> {
    let (position, cost) = line.split_once(' ')?;
    let digits = position.trim_start_matches(['+', '-', '*']);
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| cost.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn calls_are_the_callees() {
        let text = "version: 1\nthread: 3\nevents: Ir\nfl=(1) a.rs\nfn=(1) outer\n5 10\n+1 2\n\
            cfn=(2) inner\ncalls=1 9\n* 100\n\nfn=(2)\n9 100\nfn=(1)\n-3 1\n\ntotals: 113\n";
        let profile = read(text);
        assert_eq!((profile.thread.as_str(), profile.total), ("3", 113));
        assert_eq!(profile.functions, [("inner".to_owned(), 100), ("outer".to_owned(), 13)]);
    }
}
