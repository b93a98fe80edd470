//! What is counted of engines' KV events. The control plane alone writes it.

use super::cell::{Counter, Gauge};
use super::render::{Text, Type};

/// Counts of all engines together.
#[derive(Debug, Default)]
pub struct KvCounts {
    pub events: Counter,
    /// Times that an engine's cache became unknown: a gap that could not be filled, or another process.
    pub lost_track: Counter,
    /// Blocks stored after ones that were not heard of, or without a word of their salts where that matters.
    pub orphans: Counter,
    /// Blocks known to be held.
    pub blocks: Gauge,
    pub prompts: Counter,
    pub prompts_refused: Counter,
    pub changes: Counter,
    pub changes_lost: Counter,
}

/// Exports it.
pub fn write(text: &mut Text, counts: &KvCounts) {
    let counters: [(&str, &str, &Counter); 7] = [
        ("sluice_kv_events_total", "KV events heard from engines.", &counts.events),
        (
            "sluice_kv_lost_track_total",
            "Times that an engine's cache became unknown.",
            &counts.lost_track,
        ),
        (
            "sluice_kv_orphan_blocks_total",
            "Blocks stored that could not be placed: what they follow, or their salts, were not told.",
            &counts.orphans,
        ),
        ("sluice_kv_prompts_total", "Prompts tokenised by their engines.", &counts.prompts),
        (
            "sluice_kv_prompts_refused_total",
            "Prompts that engines did not tokenise.",
            &counts.prompts_refused,
        ),
        ("sluice_kv_changes_total", "Changes of caches told to shards.", &counts.changes),
        (
            "sluice_kv_changes_lost_total",
            "Those that found no room on the way.",
            &counts.changes_lost,
        ),
    ];
    for (family, help, counter) in counters {
        text.family(family, Type::Counter, help);
        text.sample(&[], counter.get());
    }
    text.family("sluice_kv_blocks", Type::Gauge, "Blocks known to be held by engines.");
    text.sample(&[], counts.blocks.get());
}
