//! `kv_events_…` of `[[endpoints]]`: where an engine tells of its cache.

use super::plan::KvEvents;
use super::reader::{At, Section};

/// Reads them; `None` where the engine tells nobody.
pub fn read(s: &Section<'_>) -> Option<KvEvents> {
    let connect = s.text("kv_events_connect", "");
    let bind = s.text("kv_events_bind", "");
    let replay = s.text("kv_events_replay", "");
    let topic = s.text("kv_events_topic", "");
    if let (Some(_), Some(second)) = (&connect, &bind) {
        let what = "`kv_events_bind` and `kv_events_connect` exclude each other";
        s.fault(second.at, what, "keep the one that the engine's own setting answers");
    }
    let Some(address) = bind.or(connect) else {
        for (key, given) in [("kv_events_replay", replay), ("kv_events_topic", topic)] {
            if let Some(text) = given {
                let what = format!("`{key}` has no meaning without KV events");
                s.fault(text.at, what, "add kv_events_connect = \"tcp://HOST:5557\"");
            }
        }
        return None;
    };
    let key = if bind.is_some() { "kv_events_bind" } else { "kv_events_connect" };
    Some(KvEvents {
        bind: bind.is_some(),
        address: checked(s, key, address).into(),
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
