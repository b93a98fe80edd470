//! `kv_events` of `[[endpoints]]`: where an engine tells of its cache.

use super::plan::KvEvents;
use super::reader::{At, Section};

/// Reads it; `None` where the engine tells nobody.
pub fn read(s: &Section<'_>) -> Option<KvEvents> {
    let address = s.text("kv_events", "");
    let bind = s.switch("kv_events_bind", false);
    let replay = s.text("kv_events_replay", "");
    let topic = s.text("kv_events_topic", "");
    let Some(address) = address else {
        for key in ["kv_events_bind", "kv_events_replay", "kv_events_topic"] {
            if let Some(at) = s.given(key) {
                let what = format!("`{key}` has no meaning without `kv_events`");
                s.fault(at, what, "add kv_events = \"tcp://HOST:5557\"");
            }
        }
        return None;
    };
    Some(KvEvents {
        bind,
        address: checked(s, "kv_events", address).into(),
        replay: replay.map(|text| checked(s, "kv_events_replay", text).into()),
        topic: topic.map_or("", |text| text.value).into(),
    })
}

fn checked<'a>(s: &Section<'_>, key: &str, text: At<&'a str>) -> &'a str {
    let port = text.value.strip_prefix("tcp://").and_then(|rest| rest.rsplit_once(':'));
    let sound = port.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if !sound {
        let what = format!("`{key}` is no ZMQ address");
        s.fault(text.at, what, "write e.g. \"tcp://10.0.0.5:5557\"");
    }
    text.value
}
