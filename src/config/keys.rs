//! Client keys: `[[keys]]`, and finding out which of them a client presents.

use std::collections::{HashMap, HashSet};

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

/// What was read, and where the first key that is isolated says so.
pub struct Keys {
    pub list: Vec<ClientKey>,
    pub isolated_at: Option<usize>,
}

/// Reads every `[[keys]]` table.
pub fn read(root: &Section<'_>, ground: Ground) -> Keys {
    let found = root.tables("keys", |s| read_key(s, ground));
    let mut names: HashSet<&str> = HashSet::new();
    let mut secrets: HashMap<&str, &str> = HashMap::new();
    for Read { name, secret, .. } in &found {
        let Some(name) = name else { continue };
        if !names.insert(name.value) {
            let what = format!("two keys are named {:?}", name.value);
            root.fault(name.at, what, "give each key a name of its own");
        }
        let Some(secret) = secret else { continue };
        if let Some(other) = secrets.insert(secret.expose(), name.value) {
            let what = format!("keys {other:?} and {:?} have the same secret", name.value);
            root.fault(name.at, what, "give each key a secret of its own");
        }
    }
    if found.len() > KEYS_MAX {
        let at = root.given("keys").unwrap_or_default();
        root.fault(at, "too many [[keys]]", format!("keep at most {KEYS_MAX}"));
    }
    let isolated_at = found.iter().find_map(|read| read.isolated_at);
    Keys { list: found.into_iter().filter_map(|read| read.key).collect(), isolated_at }
}

/// One table.
struct Read<'a> {
    name: Option<At<&'a str>>,
    secret: Option<Secret>,
    key: Option<ClientKey>,
    isolated_at: Option<usize>,
}

fn read_key<'a>(section: &Section<'a>, ground: Ground) -> Read<'a> {
    let name = super::names::name(section, "name", "team-a");
    let secret = section.required("secret", "env:TEAM_A_KEY");
    let secret = secret.and_then(|text| read_secret(section.reader, text));
    let classes = Class::ALL.map(|class| (class.name(), class));
    let priority = section.choice("priority", Class::default().name(), &classes);
    let explain = section.switch("explain", false);
    let isolate = ground.switch(section);
    let isolated_at = section.given("isolate").filter(|_| isolate);
    let parts = name.zip(secret.clone()).zip(priority);
    let key = parts.map(|((name, secret), priority)| ClientKey {
        name: name.value.into(),
        secret,
        priority,
        explain,
        isolate,
    });
    Read { name, secret, key, isolated_at }
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
