//! Client keys: `[[keys]]`, and finding out which of them a client presents.

use std::collections::HashMap;

use super::isolation::Ground;
use super::plan::{Class, ClientKey, KeyId, Plan};
use super::reader::{At, Reader, Section};
use super::reference;
use super::secret::{Secret, blind};

/// A longer credential is none of ours; it is refused before it is hashed.
pub const PRESENTED_BYTES_MAX: usize = 512;
/// [`KeyId`] is 16 bits wide.
const KEYS_MAX: usize = 65_535;

/// The digests of all client keys.
#[derive(Clone, Debug, Default)]
pub struct Digests(HashMap<[u8; 32], KeyId, ahash::RandomState>);

impl Digests {
    /// One digest per key; of two equal secrets the first counts.
    pub fn of(keys: &[ClientKey]) -> Self {
        let mut digests = HashMap::with_capacity_and_hasher(keys.len(), Default::default());
        for (i, key) in (0..=u16::MAX).zip(keys) {
            digests.entry(blind(key.secret.expose().as_bytes())).or_insert(KeyId(i));
        }
        Self(digests)
    }
}

impl Plan {
    /// The client key that `presented` is, if any. Costs one hash of at most 512 bytes and one map
    /// lookup, whatever the number of keys; its timing tells nothing about any key (see `blind`).
    pub fn authenticate(&self, presented: &[u8]) -> Option<KeyId> {
        if presented.len() > PRESENTED_BYTES_MAX {
            return None;
        }
        self.digests.0.get(&blind(presented)).copied()
    }
}

/// Reads every `[[keys]]` table.
pub fn read(root: &Section<'_>, ground: Ground) -> Vec<ClientKey> {
    let found: Vec<Option<(At<Box<str>>, ClientKey)>> =
        root.tables("keys", |s| read_key(s, ground));
    let keys: Vec<(At<Box<str>>, ClientKey)> = found.into_iter().flatten().collect();
    let mut names: HashMap<&str, ()> = HashMap::new();
    let mut secrets: HashMap<&str, &str> = HashMap::new();
    for (place, key) in &keys {
        if names.insert(&key.name, ()).is_some() {
            let what = format!("two keys are named {:?}", key.name);
            root.fault(place.at, what, "give each key a name of its own");
        }
        if let Some(other) = secrets.insert(key.secret.expose(), &key.name) {
            let what = format!("keys {other:?} and {:?} have the same secret", key.name);
            root.fault(place.at, what, "give each key a secret of its own");
        }
    }
    if keys.len() > KEYS_MAX {
        root.fault(keys[KEYS_MAX].0.at, "too many [[keys]]", format!("keep at most {KEYS_MAX}"));
    }
    keys.into_iter().map(|(_, key)| key).collect()
}

fn read_key(section: &Section<'_>, ground: Ground) -> Option<(At<Box<str>>, ClientKey)> {
    let name = super::names::name(section, "name", "team-a");
    let secret = section.required("secret", "env:TEAM_A_KEY");
    let secret = secret.and_then(|text| read_secret(section.reader, text));
    let classes = Class::ALL.map(|class| (class.name(), class));
    let priority = section.choice("priority", Class::default().name(), &classes);
    let explain = section.switch("explain", false);
    let isolate = ground.switch(section);
    let (name, secret, priority) = (name?, secret?, priority?);
    Some((
        At { at: name.at, value: name.value.into() },
        ClientKey { name: name.value.into(), secret, priority, explain, isolate },
    ))
}

fn read_secret(reader: &Reader<'_>, text: At<&str>) -> Option<Secret> {
    let secret = reference::secret(reader, "secret", text)?;
    if secret.expose().len() > PRESENTED_BYTES_MAX {
        let what = format!("`secret` is longer than {PRESENTED_BYTES_MAX} bytes");
        reader.fault(text.at, what, "use a shorter key");
        return None;
    }
    Some(secret)
}
