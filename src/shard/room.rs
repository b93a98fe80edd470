//! How many connections the process's descriptors allow.
//!
//! Clients are bounded below what the process may open, so that none of them takes what serves the others:
//! connections to endpoints, the admin listener, probes, logs, the configuration's files.

use crate::config::plan::Plan;

/// Refused connections of one shard that may take their time to read why; more are closed at once.
const LINGERING_MAX: usize = 256;
/// Connections accepted before others get a turn.
const BATCH_MAX: usize = 64;
/// Kept for the process: standard streams, admin connections, logs, files and names that are looked at.
const PROCESS_RESERVE: usize = 112;
/// Kept for a shard: its driver, its listening sockets, its doorbell.
const SHARD_RESERVE: usize = 12;
/// Kept for what the control plane asks of an endpoint: health, metrics, cache events.
const ENDPOINT_RESERVE: usize = 4;

/// What the process may have open, and between how many shards.
#[derive(Clone, Copy, Debug)]
pub struct Descriptors {
    pub max: u64,
    pub shards: usize,
}

/// What one shard may hold at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Connections of clients.
    pub clients: usize,
    /// Connections that were one too many and have not ended yet.
    pub refused: usize,
    /// Connections that were accepted and are not judged yet.
    pub fresh: usize,
    /// Connections to endpoints, those that rest included.
    pub upstreams: usize,
}

impl Descriptors {
    /// For tests that open none.
    pub const UNBOUNDED: Self = Self { max: u64::MAX, shards: 1 };

    /// A shard's room under `plan`: what the plan says, or what fits if that is less.
    pub fn room(self, plan: &Plan) -> Room {
        let max = usize::try_from(self.max).unwrap_or(usize::MAX);
        let reserve =
            PROCESS_RESERVE + SHARD_RESERVE * self.shards + ENDPOINT_RESERVE * plan.endpoints.len();
        // Where there are very few, clients still get half of them.
        let share = (max - reserve.min(max / 2)) / self.shards;
        let copies = match plan.shadows.is_empty() {
            true => 0,
            false => plan.limits.shadow_requests_per_shard_max.min(share / 4),
        };
        let refused = LINGERING_MAX.min(share / 16);
        let fresh = BATCH_MAX.min(share / 16).max(1);
        // A request of a pair of servers is at both.
        let paired = plan.models.iter().any(|model| model.pair.is_some());
        let upstreams_each = 1 + usize::from(paired);
        let fits = share.saturating_sub(copies + refused + fresh) / (1 + upstreams_each);
        let clients = fits.clamp(1, plan.limits.connections_per_shard_max);
        Room {
            clients,
            refused,
            fresh,
            upstreams: fits.max(1).saturating_mul(upstreams_each) + copies,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn plan(rest: &str) -> Plan {
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\n[[endpoints]]\nname = \"e\"\n\
             url = \"http://127.0.0.1:1\"\nengine = \"vllm\"\n\
             [[models]]\nname = \"m\"\nendpoints = [\"e\"]\n{rest}"
        );
        crate::config::parse(&text, "t", Path::new("/"), &|_| None, 1).unwrap()
    }

    /// All that shards and the rest of the process may have open at once.
    fn most(room: Room, shards: usize) -> usize {
        let shard = room.clients + room.refused + room.fresh + room.upstreams + SHARD_RESERVE;
        shard * shards + PROCESS_RESERVE + ENDPOINT_RESERVE
    }

    #[test]
    fn what_is_configured_holds_where_it_fits() {
        let plan = plan("[limits]\nconnections_per_shard_max = 100");
        for descriptors in [Descriptors::UNBOUNDED, Descriptors { max: 1024, shards: 2 }] {
            assert_eq!(descriptors.room(&plan).clients, 100, "{descriptors:?}");
        }
    }

    #[test]
    fn clients_and_what_serves_them_fit() {
        let plan = plan("");
        for (max, shards) in [(256, 1), (512, 1), (512, 2), (1024, 4), (4096, 16), (20_000, 2)] {
            let room = Descriptors { max, shards }.room(&plan);
            assert!(room.clients < plan.limits.connections_per_shard_max, "{max} {room:?}");
            assert!(room.upstreams >= room.clients, "{max} {room:?}");
            assert!(most(room, shards) <= max as usize, "{max} {room:?}");
            assert!(room.clients * shards * 4 >= max as usize / 4, "{max} {room:?}");
        }
    }

    #[test]
    fn with_hardly_any_some_clients_are_served() {
        for max in [0, 1, 40, 70] {
            let room = Descriptors { max, shards: 2 }.room(&plan(""));
            assert!(room.clients >= 1 && room.fresh >= 1, "{room:?}");
            assert!(room.clients <= 1 + max as usize / 8, "{room:?}");
        }
    }
}
