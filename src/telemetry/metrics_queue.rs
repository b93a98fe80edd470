//! What is exported of places and of waiting for them.

use super::admission::Refusal;
use super::endpoint::EndpointSeries;
use super::metrics::{histogram, merged, sum};
use super::registry::Registry;
use super::render::{Text, Type};
use crate::config::plan::Class;

/// Writes it.
pub fn write(text: &mut Text, registry: &Registry) {
    waiting(text, registry);
    refusals(text, registry);
    places(text, registry);
}

fn waiting(text: &mut Text, registry: &Registry) {
    text.family("sluice_queue_requests", Type::Gauge, "Requests that wait for a place.");
    for (name, all) in registry.models() {
        for class in Class::ALL {
            let labels = [("model", name), ("class", class.name())];
            text.sample(&labels, sum(all, |model| model.queue[class as usize].waiting.get()));
        }
    }
    text.family(
        "sluice_queue_wait_seconds",
        Type::Histogram,
        "How long requests waited for a place, of those that had to wait and got one.",
    );
    for (name, all) in registry.models() {
        for class in Class::ALL {
            let wait = merged(all.iter().map(|one| &**one), |m| &m.queue[class as usize].wait);
            histogram(text, &[("model", name), ("class", class.name())], wait);
        }
    }
}

fn refusals(text: &mut Text, registry: &Registry) {
    text.family(
        "sluice_queue_refused_total",
        Type::Counter,
        "Requests that had to wait for a place and were sent away.",
    );
    for (name, all) in registry.models() {
        for class in Class::ALL {
            for why in Refusal::ALL {
                let labels = [("model", name), ("class", class.name()), ("reason", why.name())];
                text.sample(&labels, sum(all, |model| model.queue[class as usize].refused(why)));
            }
        }
    }
}

fn places(text: &mut Text, registry: &Registry) {
    type Read = fn(&EndpointSeries) -> u64;
    const NUMBERS: [(&str, &str, Read); 2] = [
        ("sluice_endpoint_places_used", "Places taken, where there are only so many.", |e| {
            e.share.used.get()
        }),
        ("sluice_endpoint_places_wanted", "Requests that wait and could go there.", |e| {
            e.share.wanted.get()
        }),
    ];
    for (family, help, of) in NUMBERS {
        text.family(family, Type::Gauge, help);
        for (name, all) in registry.endpoints() {
            text.sample(&[("endpoint", name)], sum(all, of));
        }
    }
}
