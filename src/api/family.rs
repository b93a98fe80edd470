//! Whose API a request is written in: that decides the shape of every error it can get.

/// The API a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    OpenAi,
    Anthropic,
}
