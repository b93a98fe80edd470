//! Secrets: never displayed, never logged, compared blindly.

use std::fmt;
use std::sync::OnceLock;

use ring::digest::{Context, SHA256};
use ring::rand::{SecureRandom, SystemRandom};

/// A credential. `Debug` prints a fixed mark, there is no `Display`, and the only way to the bytes
/// is [`Secret::expose`], which is called where the bytes go on the wire. There is no `==`: compare
/// with [`Secret::matches`].
#[derive(Clone)]
pub struct Secret {
    text: Box<str>,
    source: Box<str>,
}

impl Secret {
    /// Takes ownership of the secret text; its source is not known.
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self { text: text.into(), source: "".into() }
    }

    /// A secret and the reference that it came from (`env:NAME`, `file:PATH`).
    pub fn from_source(text: impl Into<Box<str>>, source: impl Into<Box<str>>) -> Self {
        Self { text: text.into(), source: source.into() }
    }

    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// Where it came from, for people to read; empty if it was in the file itself or is not known.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether `presented` is this secret, in a time that tells nothing about it.
    pub fn matches(&self, presented: &[u8]) -> bool {
        blind(self.text.as_bytes()) == blind(presented)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// SHA-256 of this process's random salt and `bytes`.
///
/// A caller cannot choose or foresee any bit of the digest of what it presents, so comparing digests,
/// or hashing them into a map, may take data-dependent time and still tells nothing about the secret.
pub(super) fn blind(bytes: &[u8]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    context.update(salt());
    context.update(bytes);
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

fn salt() -> &'static [u8; 32] {
    static SALT: OnceLock<[u8; 32]> = OnceLock::new();
    SALT.get_or_init(|| {
        let mut salt = [0; 32];
        SystemRandom::new().fill(&mut salt).expect("the kernel gives random bytes");
        salt
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_and_matching_is_exact() {
        let secret = Secret::from_source("hunter2", "env:PASSWORD");
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        assert_eq!(secret.source(), "env:PASSWORD");
        assert!(secret.matches(b"hunter2"));
        for wrong in [&b"hunter"[..], b"hunter22", b"Hunter2", b""] {
            assert!(!secret.matches(wrong));
        }
    }
}
