//! Which endpoint answered a client's session last, and how far its prompt went.
//!
//! A fixed table of sets of four; within a set the entry that was used longest ago makes room. The prefix
//! table forgets under pressure and other shards' news may be lost: a session that comes back finds its
//! endpoint here, and its cached prefix is believed only if the block where it ended is in the new prompt.

use super::candidate::Nanos;

/// Sessions kept, a power of two: 48 bytes each.
const SESSIONS_MAX: usize = 16_384;
const WAYS: usize = 4;

/// What is known of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visit {
    /// The endpoint's identity.
    pub endpoint: u64,
    /// The last block of its last prompt, and how many blocks that prompt had.
    pub end: u64,
    pub blocks: u32,
    /// Of the endpoint's cache, when it was visited.
    pub generation: u32,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// 0: empty.
    session: u64,
    used: Nanos,
    visit: Visit,
}

/// A shard's sessions.
#[derive(Debug)]
pub struct Sessions {
    entries: Box<[Entry]>,
}

const NOBODY: Entry =
    Entry { session: 0, used: 0, visit: Visit { endpoint: 0, end: 0, blocks: 0, generation: 0 } };

impl Default for Sessions {
    fn default() -> Self {
        Self { entries: vec![NOBODY; SESSIONS_MAX].into_boxed_slice() }
    }
}

impl Sessions {
    /// Where the session was last, unless that is longer ago than `ttl`.
    pub fn find(&self, session: u64, now: Nanos, ttl: Nanos) -> Option<Visit> {
        let found = self.set(session).iter().find(|entry| entry.session == session)?;
        (session != 0 && now.saturating_sub(found.used) <= ttl).then_some(found.visit)
    }

    /// The session is being served there.
    pub fn visited(&mut self, session: u64, now: Nanos, visit: Visit) {
        if session == 0 {
            return;
        }
        let start = start(session);
        let set = &mut self.entries[start..start + WAYS];
        let at = set.iter().position(|entry| entry.session == session);
        let at = at.or_else(|| (0..WAYS).min_by_key(|at| set[*at].used));
        set[at.unwrap_or(0)] = Entry { session, used: now, visit };
    }

    fn set(&self, session: u64) -> &[Entry] {
        let start = start(session);
        &self.entries[start..start + WAYS]
    }
}

fn start(session: u64) -> usize {
    (session as usize % (SESSIONS_MAX / WAYS)) * WAYS
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Nanos = 1_000;

    fn visit(endpoint: u64) -> Visit {
        Visit { endpoint, end: endpoint + 1, blocks: 3, generation: 0 }
    }

    #[test]
    fn a_session_is_found_until_its_time_is_up() {
        let mut sessions = Sessions::default();
        sessions.visited(5, 100, visit(1));
        sessions.visited(5, 200, visit(2));
        assert_eq!(sessions.find(5, 1_200, TTL), Some(visit(2)));
        assert_eq!(sessions.find(5, 1_201, TTL), None);
        assert_eq!(sessions.find(6, 200, TTL), None);
    }

    #[test]
    fn the_one_used_longest_ago_makes_room() {
        let mut sessions = Sessions::default();
        let step = (SESSIONS_MAX / WAYS) as u64;
        for at in 1..=5 {
            sessions.visited(at * step, at, visit(at));
        }
        assert_eq!(sessions.find(step, 5, TTL), None);
        for at in 2..=5 {
            assert_eq!(sessions.find(at * step, 5, TTL), Some(visit(at)));
        }
    }
}
