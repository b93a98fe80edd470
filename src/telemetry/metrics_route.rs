//! What is exported of routing: decisions, what was expected and what came, the prefix table, its news.

use super::endpoint::EndpointSeries;
use super::metrics::{MICROS, ShardNumber, histogram, merged, shard_numbers, sum};
use super::registry::Registry;
use super::render::{Text, Type};
use super::route::{Course, Reason};

/// Writes it.
pub fn write(text: &mut Text, registry: &Registry) {
    decisions(text, registry);
    caches(text, registry);
    loads(text, registry);
    tables(text, registry);
}

fn decisions(text: &mut Text, registry: &Registry) {
    text.family(
        "sluice_route_decisions_total",
        Type::Counter,
        "Requests by the reason for their first endpoint.",
    );
    for (name, all) in registry.models() {
        for reason in Reason::ALL {
            let labels = [("model", name), ("reason", reason.name())];
            text.sample(&labels, sum(all, |model| model.routed_for(reason)));
        }
    }
    text.family(
        "sluice_pair_requests_total",
        Type::Counter,
        "Courses that requests to models with pairs of servers took; one that falls back took two.",
    );
    for (name, all) in registry.models() {
        for course in Course::ALL {
            let labels = [("model", name), ("course", course.name())];
            text.sample(&labels, sum(all, |model| model.paired_as(course)));
        }
    }
    text.family(
        "sluice_gpu_seconds_expected_total",
        Type::Counter,
        "GPU time that attempts were expected to take.",
    );
    for (name, all) in registry.models() {
        text.scaled(&[("model", name)], sum(all, |model| model.gpu_micros.get()), MICROS);
    }
    text.family(
        "sluice_first_token_error_seconds",
        Type::Histogram,
        "How far the predicted time to the first token was off, either way.",
    );
    for (name, all) in registry.models() {
        let reading = merged(all.iter().map(|one| &**one), |model| &model.first_token_error);
        histogram(text, &[("model", name)], reading);
    }
}

fn caches(text: &mut Text, registry: &Registry) {
    type Read = fn(&EndpointSeries) -> u64;
    const NUMBERS: [(&str, &str, Read); 4] = [
        (
            "sluice_cache_expected_tokens_total",
            "Prompt tokens expected in a cache, of answers that told their number.",
            |e| e.cached_expected.get(),
        ),
        ("sluice_cache_found_tokens_total", "Those that were there.", |e| e.cached_got.get()),
        (
            "sluice_cache_error_tokens_total",
            "By how many tokens the expectations were off, either way.",
            |e| e.cached_error.get(),
        ),
        ("sluice_cache_resets_total", "Times that an endpoint's cache was taken for empty.", |e| {
            e.cache_resets.get()
        }),
    ];
    for (family, help, of) in NUMBERS {
        text.family(family, Type::Counter, help);
        for (name, all) in registry.endpoints() {
            text.sample(&[("endpoint", name)], sum(all, of));
        }
    }
}

fn loads(text: &mut Text, registry: &Registry) {
    type Read = fn(&EndpointSeries) -> u64;
    const NUMBERS: [(&str, &str, Read); 2] = [
        (
            "sluice_endpoint_prefill_tokens",
            "Uncached prompt tokens of attempts without content yet, estimated.",
            |e| e.prefill_tokens.get(),
        ),
        (
            "sluice_endpoint_context_tokens",
            "Prompt and output tokens of attempts, estimated.",
            |e| e.context_tokens.get(),
        ),
    ];
    for (family, help, of) in NUMBERS {
        text.family(family, Type::Gauge, help);
        for (name, all) in registry.endpoints() {
            text.sample(&[("endpoint", name)], sum(all, of));
        }
    }
}

fn tables(text: &mut Text, registry: &Registry) {
    const NUMBERS: [ShardNumber; 6] = [
        ("sluice_prefix_blocks", Type::Gauge, "Blocks in the prefix table.", |s| {
            s.prefix_blocks.get()
        }),
        ("sluice_prefix_blocks_max", Type::Gauge, "Blocks that fit into it.", |s| {
            s.prefix_blocks_max.get()
        }),
        ("sluice_prefix_evictions_total", Type::Counter, "Blocks that made room.", |s| {
            s.prefix_evictions.get()
        }),
        ("sluice_news_heard_total", Type::Counter, "News of prompts from other shards.", |s| {
            s.news_heard.get()
        }),
        ("sluice_news_told_total", Type::Counter, "News of prompts to other shards.", |s| {
            s.news_told.get()
        }),
        ("sluice_news_lost_total", Type::Counter, "News of prompts that found no room.", |s| {
            s.news_lost.get()
        }),
    ];
    shard_numbers(text, registry, &NUMBERS);
}
