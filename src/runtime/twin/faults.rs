//! What may go wrong, and how often.

use std::time::Duration;

use super::World;

/// Probabilities are per million.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// A read returns less than is there.
    pub short_read: u32,
    /// A send takes less than there is room for.
    pub short_write: u32,
    /// A send says that it would block though there is room.
    pub would_block: u32,
    /// A completion shows late.
    pub late_completion: u32,
    pub late_completion_max: Duration,
    /// A cancelled read takes bytes with it.
    pub cancel_loses: u32,
    /// One way, for each piece that was sent.
    pub latency_max: Duration,
    /// A connect is refused though somebody listens.
    pub refused: u32,
    /// A connect is never answered.
    pub unanswered: u32,
    /// A connection breaks at some byte.
    pub broken: u32,
    /// A connection stands still for a while at some byte.
    pub stalled: u32,
    pub stall_max: Duration,
    /// Bytes within which breaks and stalls happen.
    pub trouble_bytes_max: u64,
    /// A reset takes unread bytes with it.
    pub reset_eats: u32,
    /// The clock jumps forward between two events.
    pub clock_jump: u32,
    pub clock_jump_max: Duration,
    /// Bytes one direction holds between a send and a read.
    pub window_bytes: (u64, u64),
}

impl Faults {
    /// A quick network and a patient kernel: only the order of tasks is drawn.
    pub const NONE: Faults = Faults {
        short_read: 0,
        short_write: 0,
        would_block: 0,
        late_completion: 0,
        late_completion_max: Duration::ZERO,
        cancel_loses: 1_000_000,
        latency_max: Duration::from_micros(50),
        refused: 0,
        unanswered: 0,
        broken: 0,
        stalled: 0,
        stall_max: Duration::ZERO,
        trouble_bytes_max: 1,
        reset_eats: 0,
        clock_jump: 0,
        clock_jump_max: Duration::ZERO,
        window_bytes: (1 << 20, 1 << 20),
    };

    /// Everything that is lawful on a network where nothing breaks: bytes come late and in small pieces.
    pub const ROUGH: Faults = Faults {
        short_read: 400_000,
        short_write: 300_000,
        would_block: 50_000,
        late_completion: 300_000,
        late_completion_max: Duration::from_millis(3),
        cancel_loses: 500_000,
        latency_max: Duration::from_millis(2),
        reset_eats: 500_000,
        window_bytes: (600, 100_000),
        ..Faults::NONE
    };

    /// Connections break and stall, servers cannot be reached, the clock jumps.
    pub const BROKEN: Faults = Faults {
        refused: 30_000,
        unanswered: 10_000,
        broken: 60_000,
        stalled: 60_000,
        stall_max: Duration::from_secs(8),
        trouble_bytes_max: 6_000,
        clock_jump: 300,
        clock_jump_max: Duration::from_secs(2),
        ..Faults::ROUGH
    };
}

/// What will happen to one direction of one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fate {
    /// At which byte.
    pub at: u64,
    pub what: Trouble,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Trouble {
    Break,
    Stall(Duration),
}

impl Fate {
    /// Draws one; mostly nothing happens.
    pub(super) fn draw(world: &World) -> Option<Fate> {
        let faults = world.faults();
        let at = |world: &World| world.below(faults.trouble_bytes_max);
        if world.chance(faults.broken) {
            return Some(Fate { at: at(world), what: Trouble::Break });
        }
        if world.chance(faults.stalled) {
            let stall = world.between(Duration::from_millis(10), faults.stall_max);
            return Some(Fate { at: at(world), what: Trouble::Stall(stall) });
        }
        None
    }
}
