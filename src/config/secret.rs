//! Secrets: never displayed, never logged.

use std::fmt;

/// A credential. `Debug` prints a fixed mark, there is no `Display`, and the only way to the bytes
/// is [`Secret::expose`], which is called where the bytes go on the wire or are compared.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// Takes ownership of the secret text.
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
