//! What can be tuned: keys of the configuration, and the values that are worth a try on this machine.

use toml::{Table, Value};

use super::site;

/// Where all of them stand.
pub const TABLE: &str = "runtime";

/// A key and a value to try for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub key: &'static str,
    pub value: Value,
}

impl Change {
    /// As the configuration writes it.
    pub fn line(&self) -> String {
        format!("{} = {}", self.key, self.value)
    }

    /// Puts it into a configuration.
    pub fn apply(&self, config: &mut Table) {
        site::set(config, TABLE, self.key, self.value.clone());
    }
}

/// Entries of a ring that are tried; each shard has one ring.
const RING_ENTRIES: [i64; 4] = [256, 1_024, 4_096, 16_384];

/// Every single change of `config` that is worth a try with so many CPUs. Buffers have no key: their sizes
/// follow from what is read. What the configuration has already, or by default, is no change.
pub fn changes(config: &Table, cpus: usize) -> Vec<Change> {
    let knobs: [(&'static str, Value, Vec<Value>); 4] = [
        ("shards", "auto".into(), shards(cpus)),
        ("driver", "auto".into(), vec!["uring".into(), "epoll".into()]),
        ("ring_entries", Value::Integer(4_096), RING_ENTRIES.map(Value::from).into()),
        ("pin", Value::Boolean(true), vec![true.into(), false.into()]),
    ];
    let mut changes = Vec::new();
    for (key, default, values) in knobs {
        let now = config.get(TABLE).and_then(|table| table.get(key)).unwrap_or(&default).clone();
        let others = values.into_iter().filter(|value| *value != now);
        changes.extend(others.map(|value| Change { key, value }));
    }
    changes
}

/// One shard, two, four, and so on up to one for each CPU.
fn shards(cpus: usize) -> Vec<Value> {
    let powers = std::iter::successors(Some(1usize), |count| count.checked_mul(2));
    let mut counts: Vec<usize> = powers.take_while(|count| *count < cpus).collect();
    counts.push(cpus.max(1));
    counts.into_iter().filter_map(|count| i64::try_from(count).ok()).map(Value::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str, cpus: usize) -> Vec<String> {
        changes(&text.parse().unwrap(), cpus).iter().map(Change::line).collect()
    }

    #[test]
    fn what_is_set_already_is_not_tried() {
        let set = lines("[runtime]\nshards = 2\ndriver = \"epoll\"\npin = false\n", 2);
        assert_eq!(
            set,
            [
                "shards = 1",
                "driver = \"uring\"",
                "ring_entries = 256",
                "ring_entries = 1024",
                "ring_entries = 16384",
                "pin = true"
            ]
        );
        let none = lines("", 1);
        assert_eq!(none[..3], ["shards = 1", "driver = \"uring\"", "driver = \"epoll\""]);
    }

    #[test]
    fn shards_go_up_to_the_cpus() {
        let counts = |cpus| shards(cpus).iter().filter_map(Value::as_integer).collect::<Vec<_>>();
        assert_eq!((counts(1), counts(2), counts(6)), (vec![1], vec![1, 2], vec![1, 2, 4, 6]));
    }

    #[test]
    fn a_change_lands_in_its_table() {
        let mut config: Table = "[server]\nlisten = \"a\"".parse().unwrap();
        Change { key: "shards", value: Value::Integer(4) }.apply(&mut config);
        assert_eq!(config["runtime"]["shards"].as_integer(), Some(4));
    }
}
