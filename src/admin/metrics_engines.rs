//! What engines say of themselves, as `/metrics` shows it: only what each of them told, and only while that
//! is fresh.

use super::state::{EngineState, State};
use crate::telemetry::render::{Label, Text, Type};

/// Micro-units of a share.
const SHARE_TICKS: u64 = 1_000_000;

/// A family with a sample for each endpoint that has one.
struct Family {
    name: &'static str,
    kind: Type,
    help: &'static str,
    value: fn(&EngineState) -> Option<u64>,
}

const FAMILIES: [Family; 7] = [
    Family {
        name: "sluice_engine_requests_running",
        kind: Type::Gauge,
        help: "Requests in the engine's batch, whoever sent them.",
        value: |engine| engine.running.map(u64::from),
    },
    Family {
        name: "sluice_engine_requests_waiting",
        kind: Type::Gauge,
        help: "Requests in the engine's queue, whoever sent them.",
        value: |engine| engine.waiting.map(u64::from),
    },
    Family {
        name: "sluice_engine_kv_tokens",
        kind: Type::Gauge,
        help: "Tokens that the engine's KV cache holds.",
        value: |engine| engine.kv_tokens.map(u64::from),
    },
    Family {
        name: "sluice_engine_kv_block_tokens",
        kind: Type::Gauge,
        help: "Tokens of one block of it.",
        value: |engine| engine.block_tokens.map(u64::from),
    },
    Family {
        name: "sluice_engine_prefix_queries_total",
        kind: Type::Counter,
        help: "Prompt tokens that the engine looked for in its prefix cache.",
        value: |engine| engine.prefix_queries,
    },
    Family {
        name: "sluice_engine_prefix_hits_total",
        kind: Type::Counter,
        help: "Those that it found there.",
        value: |engine| engine.prefix_hits,
    },
    Family {
        name: "sluice_engine_adapters",
        kind: Type::Gauge,
        help: "LoRA adapters that the engine has work for.",
        value: |engine| engine.adapters,
    },
];

/// Exports it.
pub fn write(text: &mut Text, state: &State) {
    for Family { name, kind, help, value } in FAMILIES {
        text.family(name, kind, help);
        each(state, |labels, engine| {
            value(engine).into_iter().for_each(|value| text.sample(labels, value));
        });
    }
    text.family("sluice_engine_kv_use", Type::Gauge, "Share of the engine's KV cache in use.");
    each(state, |labels, engine| {
        if let Some(share) = engine.kv_use {
            let ticks = f64::from(share) * SHARE_TICKS as f64;
            text.scaled(labels, ticks as u64, SHARE_TICKS);
        }
    });
}

fn each(state: &State, mut tell: impl FnMut(&[Label<'_>], &EngineState)) {
    for (endpoint, engine) in state.plan.endpoints.iter().zip(&state.engines) {
        if let Some(engine) = engine {
            tell(&[("endpoint", &*endpoint.name)], engine);
        }
    }
}
