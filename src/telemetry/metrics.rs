//! Which numbers are exported, and under which names.
//!
//! Names are OpenTelemetry's GenAI metrics where there is one (`gen_ai_*`), `sluice_*` otherwise.
//! Label values come from the configuration or from closed enums, so the number of series is
//! bounded by the configuration. Models and endpoints are summed over shards; a shard's own numbers
//! are not.

use super::endpoint::{EndpointSeries, Failure};
use super::histogram::{Histogram, Reading};
use super::model::ModelSeries;
use super::registry::{PerShard, Registry};
use super::render::{Text, Type};
use super::shard::{ShardSeries, ShardState, Stage};
use crate::lifecycle::kind::Kind;
use crate::lifecycle::outcome::Outcome;

pub(super) const MICROS: u64 = 1_000_000;

/// Writes everything that shards count.
pub fn write(text: &mut Text, registry: &Registry) {
    requests(text, registry);
    tokens(text, registry);
    model_times(text, registry);
    endpoint_counters(text, registry);
    endpoint_gauges(text, registry);
    super::metrics_route::write(text, registry);
    super::arm::write(text, registry);
    super::shadow::write(text, registry);
    super::metrics_queue::write(text, registry);
    super::kv::write(text, &registry.kv);
    shard_life(text, registry);
    shard_traffic(text, registry);
    shard_times(text, registry);
    ledgers(text, registry);
    rows(text, registry);
}

pub(super) fn sum<T>(all: &PerShard<T>, of: impl Fn(&T) -> u64) -> u64 {
    all.iter().fold(0, |total, one| total.wrapping_add(of(one)))
}

pub(super) fn merged<'a, T: 'a>(
    all: impl IntoIterator<Item = &'a T>,
    of: impl Fn(&T) -> &Histogram,
) -> Option<Reading> {
    all.into_iter().fold(None, |total: Option<Reading>, one| {
        let mut total = total.unwrap_or_else(|| Reading::empty(of(one).bounds()));
        total.add(of(one));
        Some(total)
    })
}

fn requests(text: &mut Text, registry: &Registry) {
    text.family(
        "sluice_requests_total",
        Type::Counter,
        "Requests by model and outcome; an empty model is one that is not configured.",
    );
    for outcome in Outcome::ALL {
        let unrouted = sum(&registry.shards, |shard| shard.unrouted(outcome));
        text.sample(&[("model", ""), ("outcome", outcome.name())], unrouted);
    }
    for (name, all) in registry.models() {
        for outcome in Outcome::ALL {
            let labels = [("model", name), ("outcome", outcome.name())];
            text.sample(&labels, sum(all, |model| model.requests(outcome)));
        }
    }
    text.family("sluice_requests_in_flight", Type::Gauge, "Requests under way.");
    for (name, all) in registry.models() {
        text.sample(&[("model", name)], sum(all, |model| model.in_flight.get()));
    }
}

fn tokens(text: &mut Text, registry: &Registry) {
    type Read = fn(&ModelSeries) -> &Histogram;
    const USAGE: [(&str, Read); 2] =
        [("input", |model| &model.input_tokens), ("output", |model| &model.output_tokens)];
    text.family(
        "gen_ai_client_token_usage",
        Type::Histogram,
        "Tokens of a request as its engine counted them; cached ones are input.",
    );
    for (name, all) in registry.models() {
        for (kind, of) in USAGE {
            let labels = [("gen_ai_request_model", name), ("gen_ai_token_type", kind)];
            histogram(text, &labels, merged(all.iter().map(|one| &**one), of));
        }
    }
    type Number = fn(&ModelSeries) -> u64;
    const PARTS: [(&str, Number); 3] = [
        ("cached", |model| model.cached_tokens.get()),
        ("cache_write", |model| model.cache_write_tokens.get()),
        ("reasoning", |model| model.reasoning_tokens.get()),
    ];
    text.family(
        "sluice_tokens_total",
        Type::Counter,
        "Tokens of a special kind, within the usage.",
    );
    for (name, all) in registry.models() {
        for (part, of) in PARTS {
            text.sample(&[("model", name), ("type", part)], sum(all, of));
        }
    }
    text.family("sluice_usage_unknown_total", Type::Counter, "Answers that told no usage.");
    for (name, all) in registry.models() {
        text.sample(&[("model", name)], sum(all, |model| model.usage_unknown.get()));
    }
    text.family("sluice_output_events_total", Type::Counter, "Streamed events with content.");
    for (name, all) in registry.models() {
        text.sample(&[("model", name)], sum(all, |model| model.output_events.get()));
    }
}

fn model_times(text: &mut Text, registry: &Registry) {
    type Read = fn(&ModelSeries) -> &Histogram;
    const TIMES: [(&str, &str, Read); 4] = [
        (
            "gen_ai_server_request_duration_seconds",
            "A request from its first byte to its outcome.",
            |model| &model.duration,
        ),
        (
            "gen_ai_server_time_to_first_token_seconds",
            "A request's first byte to its first event with content.",
            |model| &model.time_to_first_token,
        ),
        (
            "gen_ai_server_time_per_output_token_seconds",
            "Mean time per output token after the first.",
            |model| &model.time_per_output_token,
        ),
        ("sluice_event_gap_seconds", "Time between two events with content.", |model| {
            &model.event_gap
        }),
    ];
    for (family, help, of) in TIMES {
        text.family(family, Type::Histogram, help);
        for (name, all) in registry.models() {
            let labels = [("gen_ai_request_model", name)];
            histogram(text, &labels, merged(all.iter().map(|one| &**one), of));
        }
    }
}

pub(super) fn histogram(
    text: &mut Text,
    labels: &[(&'static str, &str)],
    reading: Option<Reading>,
) {
    if let Some(reading) = reading {
        text.histogram(labels, &reading);
    }
}

fn endpoint_counters(text: &mut Text, registry: &Registry) {
    type Read = fn(&EndpointSeries) -> u64;
    const NUMBERS: [(&str, &str, Read); 3] = [
        ("sluice_endpoint_attempts_total", "Attempts at an endpoint.", |e| e.attempts.get()),
        ("sluice_endpoint_connects_total", "Fresh connections.", |e| e.connects.get()),
        ("sluice_endpoint_reused_total", "Attempts on a pooled connection.", |e| e.reused.get()),
    ];
    for (family, help, of) in NUMBERS {
        text.family(family, Type::Counter, help);
        for (name, all) in registry.endpoints() {
            text.sample(&[("endpoint", name)], sum(all, of));
        }
    }
    text.family("sluice_endpoint_failures_total", Type::Counter, "Failed attempts by class.");
    for (name, all) in registry.endpoints() {
        for class in Failure::ALL {
            let labels = [("endpoint", name), ("class", class.name())];
            text.sample(&labels, sum(all, |endpoint| endpoint.failures(class)));
        }
    }
}

fn endpoint_gauges(text: &mut Text, registry: &Registry) {
    text.family("sluice_endpoint_in_flight", Type::Gauge, "Attempts that hold an endpoint.");
    for (name, all) in registry.endpoints() {
        text.sample(&[("endpoint", name)], sum(all, |endpoint| endpoint.in_flight.get()));
    }
    text.family("sluice_pool_connections", Type::Gauge, "Upstream connections by state.");
    for (name, all) in registry.endpoints() {
        let idle = sum(all, |endpoint| endpoint.pool_idle.get());
        let open = sum(all, |endpoint| endpoint.pool_open.get());
        text.sample(&[("endpoint", name), ("state", "idle")], idle);
        text.sample(&[("endpoint", name), ("state", "busy")], open.saturating_sub(idle));
    }
    text.family("sluice_endpoint_head_wait_seconds", Type::Histogram, "Request sent to head read.");
    for (name, all) in registry.endpoints() {
        let reading = merged(all.iter().map(|one| &**one), |endpoint| &endpoint.head_wait);
        histogram(text, &[("endpoint", name)], reading);
    }
}

/// Calls `each` with every shard's label value and series.
fn each_shard(registry: &Registry, mut each: impl FnMut(&str, &ShardSeries)) {
    for (index, shard) in registry.shards.iter().enumerate() {
        each(&index.to_string(), shard);
    }
}

fn shard_life(text: &mut Text, registry: &Registry) {
    text.family("sluice_shard_state", Type::Gauge, "1 for the state a shard is in.");
    each_shard(registry, |index, shard| {
        let present = shard.state();
        for state in ShardState::ALL {
            let labels = [("shard", index), ("state", state.name())];
            text.sample(&labels, u64::from(state == present));
        }
    });
    text.family("sluice_driver", Type::Gauge, "1 for the I/O driver a shard came to use.");
    each_shard(registry, |index, shard| {
        text.sample(&[("shard", index), ("driver", shard.driver().name())], 1);
    });
    type Read = fn(&ShardSeries) -> u64;
    const NUMBERS: [(&str, Type, &str, Read); 6] = [
        (
            "sluice_ring_entries",
            Type::Gauge,
            "Submission queue entries, 0 without io_uring.",
            |s| s.ring_entries.get(),
        ),
        ("sluice_plan_generation", Type::Gauge, "The plan that new requests get.", |s| {
            s.plan_generation.get()
        }),
        ("sluice_shard_ticks_total", Type::Counter, "Epochs.", |s| s.ticks.get()),
        ("sluice_panics_total", Type::Counter, "Panics caught.", |s| s.panics.get()),
        ("sluice_shard_restarts_total", Type::Counter, "Threads started anew.", |s| {
            s.restarts.get()
        }),
        (
            "sluice_ledger_faults_total",
            Type::Counter,
            "Epochs whose ledgers did not balance.",
            |s| s.ledger_faults.get(),
        ),
    ];
    shard_numbers(text, registry, &NUMBERS);
    text.family("sluice_shard_busy_seconds_total", Type::Counter, "Time not spent waiting.");
    each_shard(registry, |index, shard| {
        text.scaled(&[("shard", index)], shard.busy_micros.get(), MICROS);
    });
}

pub(super) type ShardNumber = (&'static str, Type, &'static str, fn(&ShardSeries) -> u64);

pub(super) fn shard_numbers(text: &mut Text, registry: &Registry, numbers: &[ShardNumber]) {
    for (family, kind, help, of) in numbers {
        text.family(family, *kind, help);
        each_shard(registry, |index, shard| text.sample(&[("shard", index)], of(shard)));
    }
}

fn shard_traffic(text: &mut Text, registry: &Registry) {
    const NUMBERS: [ShardNumber; 6] = [
        ("sluice_connections_open", Type::Gauge, "Client connections.", |s| {
            s.connections_open.get()
        }),
        ("sluice_connections_accepted_total", Type::Counter, "Connections accepted.", |s| {
            s.connections_accepted.get()
        }),
        ("sluice_connections_refused_total", Type::Counter, "Connections over a limit.", |s| {
            s.connections_refused.get()
        }),
        (
            "sluice_connections_handed_off_total",
            Type::Counter,
            "Connections given to a less loaded shard.",
            |s| s.connections_handed_off.get(),
        ),
        ("sluice_streams_open", Type::Gauge, "Answers being relayed event by event.", |s| {
            s.streams_open.get()
        }),
        ("sluice_body_held_bytes", Type::Gauge, "Request bodies held.", |s| {
            s.body_bytes_held.get()
        }),
    ];
    shard_numbers(text, registry, &NUMBERS);
}

fn shard_times(text: &mut Text, registry: &Registry) {
    text.family("sluice_overhead_seconds", Type::Histogram, "A request's time in Sluice itself.");
    each_shard(registry, |index, shard| {
        text.histogram(&[("shard", index)], &shard.overhead.read());
    });
    text.family("sluice_stage_seconds", Type::Histogram, "A request's time by stage.");
    for stage in Stage::ALL {
        let shards = registry.shards.iter().map(|one| &**one);
        let reading = merged(shards, |shard| shard.stage_histogram(stage));
        histogram(text, &[("stage", stage.name())], reading);
    }
}

fn ledgers(text: &mut Text, registry: &Registry) {
    let boards: Vec<_> = registry.shards.iter().map(|shard| shard.ledgers.read()).collect();
    for (family, kind, help, at) in [
        ("sluice_ledger_issued_total", Type::Counter, "Taken, by kind of resource.", 0),
        ("sluice_ledger_returned_total", Type::Counter, "Given back, by kind of resource.", 1),
        ("sluice_ledger_outstanding", Type::Gauge, "Held now, by kind of resource.", 2),
    ] {
        text.family(family, kind, help);
        for (index, board) in boards.iter().enumerate() {
            let index = index.to_string();
            for (entry, kind) in board.iter().flatten().zip(Kind::ALL) {
                let number = [entry.issued, entry.returned, entry.outstanding][at];
                text.sample(&[("shard", &index), ("kind", kind.name())], number);
            }
        }
    }
}

fn rows(text: &mut Text, registry: &Registry) {
    let total = |of: fn(&super::queue::Rows) -> u64| registry.rows.iter().map(|one| of(one)).sum();
    text.family("sluice_access_rows_total", Type::Counter, "Access rows by what became of them.");
    text.sample(&[("result", "written")], total(|rows| rows.access.written()));
    text.sample(&[("result", "dropped")], total(|rows| rows.access.dropped()));
    text.family("sluice_usage_rows_total", Type::Counter, "Usage rows written; none is dropped.");
    text.sample(&[("result", "written")], total(|rows| rows.usage.written()));
    text.family("sluice_usage_places_taken", Type::Gauge, "Usage rows promised or unwritten.");
    text.sample(&[], total(|rows| rows.usage.taken()));
    text.family("sluice_usage_places", Type::Gauge, "Usage rows that there is room for.");
    text.sample(&[], total(|rows| rows.usage.capacity()));
    text.family("sluice_usage_faults_total", Type::Counter, "Usage rows without room: a bug.");
    text.sample(&[], total(|rows| rows.usage.faults()));
}
