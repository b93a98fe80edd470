//! `[routing]`: what each shard remembers in order to route.

use super::headers;
use super::plan::Routing;
use super::reader::Section;

const HOUR: f64 = 3600.0;

/// Reads `[routing]`.
pub fn read(s: &Section<'_>) -> Routing {
    let header = s.text("session_header", "").and_then(|name| {
        let lower = name.value.to_ascii_lowercase();
        let sound = headers::is_name(&lower);
        if !sound {
            s.fault(name.at, "`session_header` is no header's name", "write e.g. \"x-chat-id\"");
        }
        sound.then(|| lower.into())
    });
    Routing {
        explained_requests_max: s.size("explained_requests_max", 1024, 0..=65_536),
        prefix_table_mib: s.size("prefix_table_mib", 16, 1..=65_536),
        session_header: header,
        session_ttl: s.seconds("session_ttl_seconds", HOUR, 1.0..=24.0 * HOUR),
        engine_metrics: s.seconds("engine_metrics_seconds", 0.5, 0.05..=HOUR),
    }
}
