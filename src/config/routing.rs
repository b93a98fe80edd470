//! `[routing]`: what each shard remembers in order to route.

use super::plan::{PREFIX_TABLE_MIB_MAX, Routing};
use super::reader::Section;
use super::{headers, isolation};

const HOUR: f64 = 3600.0;

/// Reads `[routing]`.
pub fn read(s: &Section<'_>) -> Routing {
    Routing {
        explained_requests_max: s.size("explained_requests_max", 1024, 0..=65_536),
        prefix_table_mib: s.size("prefix_table_mib", 16, 1..=PREFIX_TABLE_MIB_MAX as u64),
        session_header: header(s, "session_header", "x-chat-id"),
        session_ttl: s.seconds("session_ttl_seconds", HOUR, 1.0..=24.0 * HOUR),
        tenant_header: header(s, "tenant_header", "x-tenant"),
        priority_header: header(s, "priority_header", "x-priority"),
        isolation: isolation::read(s),
        engine_metrics: s.seconds("engine_metrics_seconds", 0.5, 0.05..=HOUR),
    }
}

/// A header's name, in lower case.
pub fn header(s: &Section<'_>, key: &'static str, example: &str) -> Option<Box<str>> {
    let name = s.text(key, "")?;
    let lower = name.value.to_ascii_lowercase();
    let wrong = if !headers::is_name(&lower) {
        "is no header's name"
    } else if headers::is_credential(&lower) {
        "carries a credential"
    } else {
        return Some(lower.into());
    };
    s.fault(name.at, format!("`{key}` {wrong}"), format!("write e.g. {example:?}"));
    None
}
