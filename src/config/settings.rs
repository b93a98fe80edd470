//! `[runtime]`, `[limits]`, `[timeouts]` and `[log]`: one line a setting, with its default and range.
//! `config/sluice.toml` says why each default is what it is; a test holds the two together.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::plan::{Driver, Limits, Log, Runtime, Shards, Sink, Timeouts};
use super::reader::{At, Section};
use super::reference;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;
const HOUR: f64 = 3600.0;
const DAY: f64 = 24.0 * HOUR;

const DRIVERS: [(&str, Driver); 3] =
    [("auto", Driver::Auto), ("uring", Driver::Uring), ("epoll", Driver::Epoll)];

/// Reads `[runtime]`.
pub fn read_runtime(s: &Section<'_>) -> Runtime {
    let ring_entries = s.whole("ring_entries", 4096, 128..=32_768);
    if let Some(at) = s.given("ring_entries").filter(|_| !ring_entries.is_power_of_two()) {
        let fix = format!("use {}", ring_entries.next_power_of_two());
        s.fault(at, "`ring_entries` must be a power of two", fix);
    }
    Runtime {
        shards: shards(s),
        driver: s.choice("driver", "auto", &DRIVERS).unwrap_or(Driver::Auto),
        ring_entries: u32::try_from(ring_entries).unwrap_or(u32::MAX),
        tick: Duration::from_millis(s.whole("tick_milliseconds", 10, 1..=1000)),
        pin: s.switch("pin", true),
    }
}

fn shards(s: &Section<'_>) -> Shards {
    match s.whole_or_auto("shards", 1..=1024) {
        Some(count) => Shards::Count(u16::try_from(count).unwrap_or(u16::MAX)),
        None => Shards::Auto,
    }
}

/// Reads `[limits]`.
pub fn read_limits(s: &Section<'_>) -> Limits {
    let limits = Limits {
        head_bytes_max: s.size("head_bytes_max", 32 * KIB, KIB..=MIB),
        header_count_max: s.size("header_count_max", 128, 8..=256),
        target_bytes_max: s.size("target_bytes_max", 8 * KIB, 64..=64 * KIB),
        body_bytes_max: s.size("body_bytes_max", 32 * MIB, KIB..=GIB),
        body_bytes_per_second_min: s.size("body_bytes_per_second_min", 4 * KIB, 0..=GIB),
        chunk_extension_bytes_max: s.size("chunk_extension_bytes_max", 4 * KIB, 0..=MIB),
        trailer_bytes_max: s.size("trailer_bytes_max", 8 * KIB, 0..=MIB),
        json_depth_max: s.size("json_depth_max", 128, 8..=128),
        body_bytes_per_shard_max: s.size("body_bytes_per_shard_max", 256 * MIB, MIB..=1024 * GIB),
        connections_per_shard_max: s.size("connections_per_shard_max", 16_384, 1..=1_000_000),
        connections_per_address_max: s.size("connections_per_address_max", 0, 0..=1_000_000),
        answer_hold_bytes_max: s.size("answer_hold_bytes_max", MIB, 4 * KIB..=64 * MIB),
        answer_hold_bytes_per_shard_max: s.size(
            "answer_hold_bytes_per_shard_max",
            128 * MIB,
            4 * KIB..=1024 * GIB,
        ),
        event_whole_bytes_max: s.size("event_whole_bytes_max", 64 * KIB, KIB..=16 * MIB),
        pipeline_bytes_max: s.size("pipeline_bytes_max", 16 * KIB, KIB..=MIB),
        shadow_requests_per_shard_max: s.size("shadow_requests_per_shard_max", 64, 0..=65_536),
        shadow_requests_per_second_max: s.size(
            "shadow_requests_per_second_max",
            100,
            0..=1_000_000,
        ),
        shadow_bytes_per_shard_max: s.size("shadow_bytes_per_shard_max", 64 * MIB, 0..=64 * GIB),
    };
    check_limits(s, &limits);
    limits
}

fn check_limits(s: &Section<'_>, limits: &Limits) {
    let ordered = |small: &str, small_value: usize, large: &str, large_value: usize| {
        let faulty = s.is_faulty(small) || s.is_faulty(large);
        if small_value > large_value && !faulty {
            let at = s.given(small).or_else(|| s.given(large)).unwrap_or(s.at);
            let what = format!("`{small}` ({small_value}) is more than `{large}` ({large_value})");
            s.fault(at, what, format!("lower `{small}` or raise `{large}`"));
        }
    };
    let Limits { body_bytes_max, body_bytes_per_shard_max, .. } = *limits;
    let shard = "body_bytes_per_shard_max";
    ordered("body_bytes_max", body_bytes_max, shard, body_bytes_per_shard_max);
    let Limits { answer_hold_bytes_max, answer_hold_bytes_per_shard_max, .. } = *limits;
    let shard = "answer_hold_bytes_per_shard_max";
    ordered("answer_hold_bytes_max", answer_hold_bytes_max, shard, answer_hold_bytes_per_shard_max);
    let Limits { target_bytes_max, head_bytes_max, .. } = *limits;
    ordered("target_bytes_max", target_bytes_max, "head_bytes_max", head_bytes_max);
}

/// Reads `[timeouts]`. A default that is longer than a given `total_seconds` is cut to it; a given
/// value that is longer is a mistake, since it could never strike.
pub fn read_timeouts(s: &Section<'_>) -> Timeouts {
    let total = s.seconds("total_seconds", HOUR, 1.0..=DAY);
    let within_total = |key: &'static str, default: f64, low: f64| {
        let value = s.seconds(key, default, low..=DAY);
        let beyond = value > total && !s.is_faulty("total_seconds") && !s.is_faulty(key);
        if let Some(at) = s.given(key).filter(|_| beyond) {
            let what = format!("`{key}` is longer than `total_seconds` ({})", total.as_secs_f64());
            s.fault(at, what, format!("lower `{key}` or raise `total_seconds`"));
        }
        value.min(total)
    };
    Timeouts {
        head: s.seconds("head_seconds", 10.0, 0.1..=HOUR),
        body: s.seconds("body_seconds", 30.0, 0.1..=HOUR),
        idle: s.seconds("idle_seconds", 75.0, 0.1..=DAY),
        write_stall: s.seconds("write_stall_seconds", 30.0, 0.1..=HOUR),
        handshake: s.seconds("handshake_seconds", 10.0, 0.1..=HOUR),
        connect: s.seconds("connect_seconds", 5.0, 0.1..=HOUR),
        first_byte_streamed: within_total("first_byte_streamed_seconds", 300.0, 0.1),
        first_byte_unary: within_total("first_byte_unary_seconds", 600.0, 0.1),
        stall: within_total("stall_seconds", 120.0, 0.1),
        total,
        upstream_idle: s.seconds("upstream_idle_seconds", 60.0, 0.1..=DAY),
        drain: s.seconds("drain_seconds", 25.0, 0.0..=DAY),
        linger: s.seconds("linger_seconds", 2.0, 0.0..=60.0),
    }
}

/// Reads `[log]`.
pub fn read_log(s: &Section<'_>) -> Log {
    let access = match s.text("access", "stdout") {
        None | Some(At { value: "stdout", .. }) => Some(Sink::Stdout),
        Some(At { value: "off", .. }) => None,
        Some(text) => rows_file(s, text, "\"stdout\", \"off\"").map(Sink::File),
    };
    let usage = match s.text("usage", "off") {
        None | Some(At { value: "off", .. }) => None,
        Some(text) => rows_file(s, text, "\"off\""),
    };
    if let (Some(Sink::File(a)), Some(b)) = (&access, &usage)
        && a == b
    {
        let at = s.given("usage").unwrap_or(s.at);
        s.fault(at, "`usage` and `access` name the same file", "give each a file of its own");
    }
    let queue_rows_max = s.size("queue_rows_max", 4096, 64..=1_048_576);
    Log { access, usage, queue_rows_max }
}

fn rows_file(s: &Section<'_>, text: At<&str>, words: &str) -> Option<PathBuf> {
    match text.value.strip_prefix("file:").filter(|path| !path.is_empty()) {
        Some(path) => Some(reference::resolve_path(s.reader, path)).filter(|path| {
            let wrong = unwritable(path);
            if let Some((what, fix)) = wrong {
                s.fault(text.at, format!("{:?} {what}", text.value), fix);
            }
            wrong.is_none()
        }),
        None => {
            let what = format!("{:?} is no place for rows", text.value);
            s.fault(text.at, what, format!("use {words} or \"file:PATH\""));
            None
        }
    }
}

/// Why no rows could be written there, and what to do, as far as a look tells.
fn unwritable(path: &Path) -> Option<(&'static str, &'static str)> {
    if path.is_dir() {
        return Some(("is a directory", "name a file in it"));
    }
    let within = path.parent().is_some_and(|at| at.as_os_str().is_empty() || at.is_dir());
    (!within).then_some(("lies in no directory", "create its directory, or correct the path"))
}
