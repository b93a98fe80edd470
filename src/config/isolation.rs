//! `isolate`: tenants whose prompts share no engine's cache with anybody else's.
//!
//! Engines that know `cache_salt` root a prompt's cache in it. Ours is the keyed hash of who the tenant is.
//!
//! Invariants: a tenant has the same salt on every gateway with the same secret, and after a restart; a salt
//! tells nothing of the secret; nobody without the secret can say another tenant's salt.

use std::fmt;

use ring::hmac;

use super::endpoints::Known;
use super::models::Models;
use super::plan::{Capabilities, Endpoint, EndpointId, Engine};
use super::reader::Section;
use super::reference;

/// A salt's length: hexadecimal digits of 256 bits, which is what vLLM recommends.
pub const SALT_DIGITS: usize = 64;

/// Whoever can guess the secret can compute salts.
const SECRET_BYTES_MIN: usize = 16;

/// What salts are made with.
#[derive(Clone)]
pub struct Isolation {
    key: hmac::Key,
    source: Box<str>,
}

impl Isolation {
    /// The salt of whom `parts` name together.
    pub fn salt(&self, parts: &[&[u8]]) -> [u8; SALT_DIGITS] {
        let mut context = hmac::Context::with_key(&self.key);
        for part in parts {
            // Each part goes with its length, so that no two lists of parts are the same bytes.
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
        let mut digits = [0; SALT_DIGITS];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(context.sign().as_ref()) {
            pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
        }
        digits
    }

    /// Where the secret came from, for people to read.
    pub fn source(&self) -> &str {
        &self.source
    }
}

fn digit(half: u8) -> u8 {
    b"0123456789abcdef"[usize::from(half & 15)]
}

impl fmt::Debug for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Isolation(…)")
    }
}

/// Reads `isolation_secret`.
pub fn read(s: &Section<'_>) -> Option<Isolation> {
    let text = s.text("isolation_secret", "")?;
    let secret = reference::secret(s.reader, "isolation_secret", text)?;
    if secret.expose().len() < SECRET_BYTES_MIN {
        let what = format!("`isolation_secret` has fewer than {SECRET_BYTES_MIN} bytes");
        s.fault(text.at, what, "use a longer one, e.g. of `openssl rand -hex 32`");
        return None;
    }
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
    Some(Isolation { key, source: secret.source().into() })
}

/// What `isolate` rests on.
#[derive(Clone, Copy, Debug)]
pub struct Ground {
    /// There is a secret, or a fault about it.
    pub secret: bool,
    /// Clients show who they are. A header does not: whoever sends a request writes it.
    pub keys: bool,
}

impl Ground {
    /// As the file lays it.
    pub fn of(root: &Section<'_>, routing: &Section<'_>) -> Self {
        let secret = routing.given("isolation_secret").is_some();
        Self { secret, keys: !root.is_empty("keys") }
    }

    /// Reads `isolate` of a key or a model.
    pub fn switch(&self, s: &Section<'_>) -> bool {
        let on = s.switch("isolate", false);
        let at = s.given("isolate").unwrap_or(s.at);
        if on && !self.secret {
            let fix = "add isolation_secret = \"env:NAME\" to [routing]";
            s.fault(at, "`isolate` has no secret to make salts with", fix);
        }
        if on && !self.keys {
            let fix = "add [[keys]]; a tenant_header alone is the client's to write";
            s.fault(at, "`isolate` has no tenants to keep apart", fix);
        }
        on
    }
}

/// Whether an endpoint keeps any tenants apart.
pub fn is_able(endpoint: &Endpoint) -> bool {
    endpoint.traits.capabilities.has(Capabilities::SALTED_CHAT)
}

/// An isolated key that no model would serve. `at`: where it is said to be one.
pub fn check_keys(root: &Section<'_>, at: Option<usize>, models: &Models<'_>, known: &Known) {
    let known_all = models.whole && models.list.iter().all(|model| !model.endpoints.is_empty());
    let Some(at) = at.filter(|_| known_all && !models.list.is_empty()) else { return };
    let able = |id: &EndpointId| known.get(*id).is_some_and(is_able);
    if !models.list.iter().any(|model| model.endpoints.iter().any(able)) {
        let what = "`isolate` would refuse every prompt of this key, for no engine of any model \
                    keeps tenants apart";
        root.fault(at, what, "use endpoints of vllm, sglang or tensorrt-llm");
    }
}

/// For which requests an engine keeps caches apart by `cache_salt`, in the releases that
/// `config/sluice.toml` names; nobody can see which one answers.
pub fn keeps_apart(engine: Engine) -> Capabilities {
    match engine {
        Engine::Vllm | Engine::Sglang => Capabilities::SALTED_CHAT.with(Capabilities::SALTED_TEXT),
        Engine::TrtLlm => Capabilities::SALTED_CHAT,
        Engine::LlamaCpp | Engine::OpenAi | Engine::Anthropic | Engine::Generic => {
            Capabilities::NONE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn isolation(secret: &str) -> Isolation {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        Isolation { key, source: "env:SECRET".into() }
    }

    #[test]
    fn a_salt_is_the_tenant_s_alone_and_always_the_same() {
        let one = isolation("one secret");
        let salts = [
            one.salt(&[b"a", b"b"]),
            one.salt(&[b"ab", b""]),
            one.salt(&[b"", b"ab"]),
            one.salt(&[b"a", b""]),
            isolation("another secret").salt(&[b"a", b"b"]),
        ];
        for (at, salt) in salts.iter().enumerate() {
            assert!(salt.iter().all(u8::is_ascii_hexdigit));
            assert!(!salts[..at].contains(salt));
        }
        assert_eq!(isolation("one secret").salt(&[b"a", b"b"]), salts[0]);
        assert_eq!(format!("{one:?}"), "Isolation(…)");
    }

    /// Engines keep what they cached across our releases.
    #[test]
    fn salts_are_the_same_in_every_release() {
        // HMAC-SHA-256 of eight bytes of length (2) and the two bytes "me".
        let tag = hmac::sign(&isolation("k").key, b"\x02\0\0\0\0\0\0\0me");
        let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(isolation("k").salt(&[b"me"]).as_slice(), hex.as_bytes());
    }
}
