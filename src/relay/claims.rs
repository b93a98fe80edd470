//! What is held at endpoints for those who are next: for whoever was called, until it wakes and takes its
//! place, and for whoever is only too large, as long as it is next in its line.
//!
//! Lines of several models may wait for one endpoint, and newcomers come between a call and its waking. So a
//! call holds one place, and its tokens, wherever it could go; who was called later, and who was not called,
//! goes by what is left. Invariant: a line has one claim at most, and whoever comes by it is not bound by
//! later ones.

use crate::relay::hall::LineKey;
use crate::relay::places::Held;
use crate::route::endpoints::EndpointSet;

/// One line's claim.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// Where it could go.
    pub columns: EndpointSet,
    /// Of its prompt and its expected answer.
    pub kv_tokens: u64,
    /// It has the turn; else it is waited for.
    pub called: bool,
}

/// A shard's claims, the earliest first.
#[derive(Debug, Default)]
pub struct Claims {
    list: Vec<(LineKey, Claim)>,
    /// How often it was asked whether somebody fits.
    #[cfg(test)]
    pub looks: std::cell::Cell<usize>,
}

impl Claims {
    /// What is held at a column for those who come before `line`; `None` comes after all.
    pub fn at(&self, column: u16, line: Option<LineKey>) -> Held {
        let before = self.list.iter().take_while(|(key, _)| Some(*key) != line);
        let there = before.filter(|(_, claim)| claim.columns.contains(column));
        there.fold(Held::default(), |held, (_, claim)| Held {
            places: held.places + 1,
            kv_tokens: held.kv_tokens.saturating_add(claim.kv_tokens),
        })
    }

    /// Nobody of this line is next any more.
    pub fn release(&mut self, line: LineKey) {
        self.list.retain(|(key, _)| *key != line);
    }

    /// Holds what `line` needs, after all others.
    pub fn hold(&mut self, line: LineKey, claim: Claim) {
        self.list.push((line, claim));
    }

    /// Forgets those who were only waited for: who is next is asked anew.
    pub fn ask_anew(&mut self) {
        self.list.retain(|(_, claim)| claim.called);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(columns: &[u16], kv_tokens: u64, called: bool) -> Claim {
        Claim { columns: columns.iter().copied().collect(), kv_tokens, called }
    }

    #[test]
    fn who_was_called_later_is_bound_by_who_was_called_before() {
        let [first, second] = [1, 2].map(LineKey::new);
        let mut claims = Claims::default();
        claims.hold(first, claim(&[3, 4], 10, true));
        claims.hold(second, claim(&[4], 5, false));
        let at = |claims: &Claims, column, line| {
            let held = claims.at(column, line);
            (held.places, held.kv_tokens)
        };
        assert_eq!(at(&claims, 4, None), (2, 15));
        assert_eq!(at(&claims, 4, Some(second)), (1, 10));
        assert_eq!(at(&claims, 4, Some(first)), (0, 0));
        assert_eq!([at(&claims, 3, None), at(&claims, 5, None)], [(1, 10), (0, 0)]);
        claims.ask_anew();
        assert_eq!(at(&claims, 4, None), (1, 10));
        claims.release(first);
        assert_eq!(at(&claims, 4, None), (0, 0));
    }
}
