//! Whether a request is split between a server that prefills and one that decodes.
//!
//! Pure. What is split costs a transfer of blocks and a second server's attention, so it pays only where
//! much of the prompt has to be computed; and a pool that is down splits nothing.

pub use crate::telemetry::route::Course;

/// What is known of a request to a model with pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Tokens of its prompt that the server which would decode it does not have.
    pub uncached_tokens: u32,
    /// Fewer are not worth a transfer.
    pub uncached_tokens_min: u32,
    /// One answer to one prompt, by an operation that both servers know.
    pub splittable: bool,
    /// Some server that prefills is thought to be up and has room.
    pub prefill_up: bool,
    /// Some server of the model can do all of it by itself.
    pub whole: bool,
}

/// Decides. Where no server can do all of it, it is split if it can be.
pub fn course(terms: &Terms) -> Course {
    match (terms.splittable, terms.whole) {
        (false, true) => Course::Unsplittable,
        (false, false) => Course::Refused,
        (true, false) => Course::Split,
        (true, true) if terms.uncached_tokens < terms.uncached_tokens_min => Course::Short,
        (true, true) if !terms.prefill_up => Course::NoPrefill,
        (true, true) => Course::Split,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms {
        uncached_tokens: 5_000,
        uncached_tokens_min: 1_000,
        splittable: true,
        prefill_up: true,
        whole: true,
    };

    #[test]
    fn what_is_long_and_new_is_split() {
        assert_eq!(course(&TERMS), Course::Split);
        assert_eq!(course(&Terms { uncached_tokens: 1_000, ..TERMS }), Course::Split);
        assert_eq!(course(&Terms { uncached_tokens: 999, ..TERMS }), Course::Short);
    }

    #[test]
    fn a_pool_that_is_down_splits_nothing() {
        assert_eq!(course(&Terms { prefill_up: false, ..TERMS }), Course::NoPrefill);
    }

    #[test]
    fn where_nobody_can_do_it_alone_it_is_split_or_refused() {
        for (uncached_tokens, prefill_up) in [(0, true), (0, false), (9_000, false)] {
            let terms = Terms { uncached_tokens, prefill_up, whole: false, ..TERMS };
            assert_eq!(course(&terms), Course::Split);
            assert_eq!(course(&Terms { splittable: false, ..terms }), Course::Refused);
        }
        assert_eq!(course(&Terms { splittable: false, ..TERMS }), Course::Unsplittable);
    }
}
