//! `/metrics`: what shards count, and what the control plane knows beside that.

use super::metrics_engines;
use super::state::{EndpointState, State};
use crate::telemetry::metrics;
use crate::telemetry::render::{Text, Type};

/// The whole exposition.
pub fn exposition(state: &State) -> String {
    let mut text = Text::default();
    text.family("sluice_build_info", Type::Gauge, "1 for the version that runs.");
    text.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    control(&mut text, state);
    endpoints(&mut text, state);
    metrics_engines::write(&mut text, state);
    process(&mut text);
    metrics::write(&mut text, &state.registry);
    text.finish()
}

fn control(text: &mut Text, state: &State) {
    text.family("sluice_config_generation", Type::Gauge, "The last accepted configuration.");
    text.sample(&[], state.plan.generation);
    text.family("sluice_config_reloads_total", Type::Counter, "Reloads by how they ended.");
    for (result, n) in [
        ("accepted", state.reloads.accepted),
        ("invalid", state.reloads.invalid),
        ("restart_needed", state.reloads.restart_needed),
    ] {
        text.sample(&[("result", result)], n);
    }
    text.family("sluice_draining", Type::Gauge, "1 after the order to stop.");
    text.sample(&[], u64::from(state.draining));
}

fn endpoints(text: &mut Text, state: &State) {
    text.family("sluice_endpoint_state", Type::Gauge, "1 for the state that probes found.");
    for (endpoint, present) in state.plan.endpoints.iter().zip(&state.endpoints) {
        for one in EndpointState::ALL {
            let labels = [("endpoint", &*endpoint.name), ("state", one.name())];
            text.sample(&labels, u64::from(one == *present));
        }
    }
}

/// Left out where the system does not tell.
fn process(text: &mut Text) {
    if let Some(bytes) = resident_bytes() {
        text.family("process_resident_memory_bytes", Type::Gauge, "Resident memory.");
        text.sample(&[], bytes);
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        text.family("process_open_fds", Type::Gauge, "Open descriptors.");
        // The directory itself is open while it is read.
        text.sample(&[], (open.count() as u64).saturating_sub(1));
    }
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1_024)
}
