//! Resolving endpoint names: what is asked when, and what an answer means.
//!
//! At most one question is under way for each name, because an unanswered one holds a thread. A
//! failed question leaves the last good addresses in use.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::plan::{Authority, Plan};

/// A name resolves to at most so many addresses; the rest is not used.
const ADDRESSES_MAX: usize = 64;

/// A host and a port.
pub type Name = (Box<str>, u16);

/// What came of a question: addresses, or why there are none.
#[derive(Debug)]
pub struct Answer {
    pub name: Name,
    pub result: Result<Vec<SocketAddr>, String>,
}

/// How often to ask.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// After an answer.
    pub refresh: Duration,
    /// After a failure.
    pub retry: Duration,
}

#[derive(Debug)]
struct Known {
    /// Sorted; empty if there never was an answer.
    addresses: Arc<[SocketAddr]>,
    asking: bool,
    failing: bool,
    due: Instant,
}

/// What an answer changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    None,
    Moved,
    /// Still on the last good addresses; told once.
    BeganToFail,
}

/// Every name of the present plan.
#[derive(Debug)]
pub struct Names {
    known: BTreeMap<Name, Known>,
    pace: Pace,
}

impl Names {
    /// No names yet.
    pub fn new(pace: Pace) -> Self {
        Self { known: BTreeMap::new(), pace }
    }

    /// Goes over to a plan's names; all are asked anew, none forgets its addresses.
    pub fn adopt(&mut self, plan: &Plan, now: Instant) {
        let mut old = std::mem::take(&mut self.known);
        for endpoint in &plan.endpoints {
            let Authority::Name { host, port } = &endpoint.authority else { continue };
            let name = (host.clone(), *port);
            let known = old.remove(&name).unwrap_or_else(|| Known {
                addresses: Arc::from([]),
                asking: false,
                failing: false,
                due: now,
            });
            self.known.entry(name).or_insert(Known { due: now, ..known });
        }
    }

    /// Names to be asked now. Each must be answered by [`Names::answered`].
    pub fn due(&mut self, now: Instant) -> Vec<Name> {
        let due = |(name, known): (&Name, &mut Known)| {
            let ask = !known.asking && known.due <= now;
            known.asking |= ask;
            ask.then(|| name.clone())
        };
        self.known.iter_mut().filter_map(due).collect()
    }

    /// Takes an answer in.
    pub fn answered(&mut self, answer: Answer, now: Instant) -> Change {
        let Some(known) = self.known.get_mut(&answer.name) else { return Change::None };
        known.asking = false;
        let addresses = answer.result.unwrap_or_default();
        if addresses.is_empty() {
            known.due = now + self.pace.retry;
            let first = !std::mem::replace(&mut known.failing, true);
            return if first { Change::BeganToFail } else { Change::None };
        }
        known.due = now + self.pace.refresh;
        known.failing = false;
        let addresses = in_order(addresses);
        if addresses == known.addresses {
            return Change::None;
        }
        known.addresses = addresses;
        Change::Moved
    }

    /// An endpoint's addresses; empty if its name has never been resolved.
    pub fn addresses(&self, authority: &Authority) -> Arc<[SocketAddr]> {
        match authority {
            Authority::Address(address) => Arc::from([*address]),
            Authority::Name { host, port } => {
                let known = self.known.get(&(host.clone(), *port));
                known.map_or_else(|| Arc::from([]), |known| Arc::clone(&known.addresses))
            }
        }
    }
}

/// Servers shuffle their answers: an order of our own keeps that from looking like a change.
fn in_order(mut addresses: Vec<SocketAddr>) -> Arc<[SocketAddr]> {
    addresses.sort_unstable();
    addresses.dedup();
    addresses.truncate(ADDRESSES_MAX);
    addresses.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const PACE: Pace = Pace { refresh: Duration::from_secs(30), retry: Duration::from_secs(2) };

    fn plan(hosts: &[&str]) -> Plan {
        let mut text = String::from("[server]\nlisten = \"127.0.0.1:8080\"\n");
        for host in hosts {
            text += &format!(
                "[[endpoints]]\nname = \"{host}\"\nurl = \"http://{host}\"\nengine = \"vllm\"\n"
            );
        }
        text += &format!("[[models]]\nname = \"m\"\nendpoints = {hosts:?}\n");
        crate::config::parse(&text, "t", Path::new("/"), &|_| None, 1).unwrap()
    }

    fn answer(name: &Name, addresses: &[&str]) -> Answer {
        let addresses: Vec<_> = addresses.iter().map(|one| one.parse().unwrap()).collect();
        let result = if addresses.is_empty() { Err("gone".into()) } else { Ok(addresses) };
        Answer { name: name.clone(), result }
    }

    #[test]
    fn one_question_at_a_time_and_the_last_good_answer_stays() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let plan = plan(&["gpu.test"]);
        let authority = &plan.endpoints[0].authority;
        let mut names = Names::new(PACE);
        names.adopt(&plan, at(0));
        let asked = names.due(at(0));
        assert_eq!(asked.len(), 1);
        let name = &asked[0];
        assert!(names.due(at(100)).is_empty(), "the first question is under way");

        let both = ["10.0.0.2:80", "10.0.0.1:80"];
        assert_eq!(names.answered(answer(name, &both), at(0)), Change::Moved);
        assert!(names.due(at(29)).is_empty());
        assert_eq!(names.due(at(30)).len(), 1);
        let shuffled = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.1:80"];
        assert_eq!(names.answered(answer(name, &shuffled), at(30)), Change::None);

        assert_eq!(names.due(at(60)).len(), 1);
        assert_eq!(names.answered(answer(name, &[]), at(60)), Change::BeganToFail);
        assert_eq!(names.due(at(62)).len(), 1);
        assert_eq!(names.answered(answer(name, &[]), at(62)), Change::None);
        assert_eq!(names.addresses(authority).len(), 2);
    }

    #[test]
    fn a_new_plan_asks_anew_and_keeps_what_is_known() {
        let now = Instant::now();
        let (old, new) = (plan(&["a.test", "b.test"]), plan(&["b.test", "c.test"]));
        let mut names = Names::new(PACE);
        names.adopt(&old, now);
        for name in names.due(now) {
            names.answered(answer(&name, &["10.0.0.1:80"]), now);
        }
        names.adopt(&new, now);
        let known: Vec<_> =
            new.endpoints.iter().map(|one| names.addresses(&one.authority).len()).collect();
        assert_eq!(known, [1, 0]);
        assert_eq!(names.due(now).len(), 2);
        let gone = ("a.test".into(), 80);
        assert_eq!(names.answered(answer(&gone, &["10.0.0.9:80"]), now), Change::None);
    }
}
