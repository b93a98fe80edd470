//! The compiled plan in words, for `sluice check`, and what a reload cannot change.
//!
//! Secrets are named by their source (`env:NAME`), never shown.

use std::fmt::Write;
use std::time::Duration;

use super::plan::{
    Admin, Authority, Capabilities, Class, Driver, Endpoint, EndpointId, Limits, Log, Model, Pair,
    Plan, Queue, Routing, Runtime, Server, Shadow, Shards, Sink, Split, Target, Timeouts, Traits,
};
use super::{endpoints, headers, models, notes, pairs, splits, traits};

/// The plan for people to read: several lines, each ended.
pub fn describe(plan: &Plan) -> String {
    let mut out = String::new();
    let done = write_plan(&mut out, plan);
    debug_assert!(done.is_ok(), "writing to a String does not fail");
    out
}

fn write_plan(out: &mut String, plan: &Plan) -> std::fmt::Result {
    write_server(out, plan)?;
    write_admin(out, plan.admin.as_ref())?;
    let Runtime { shards, driver, ring_entries, tick, pin } = &plan.runtime;
    writeln!(out, "[runtime]\n  shards = {}\n  driver = {}", count(*shards), driver_name(*driver))?;
    writeln!(out, "  ring_entries = {ring_entries}\n  pin = {pin}")?;
    writeln!(out, "  tick_milliseconds = {}", tick.as_millis())?;
    write_limits(out, &plan.limits)?;
    write_timeouts(out, &plan.timeouts)?;
    write_log(out, &plan.log)?;
    write_routing(out, &plan.routing)?;
    write_notes(out, &notes::on_routing(plan))?;
    for (id, endpoint) in (0..).map(EndpointId).zip(&plan.endpoints) {
        write_endpoint(out, plan, id, endpoint)?;
    }
    plan.models.iter().try_for_each(|model| write_model(out, plan, model))?;
    plan.splits.iter().try_for_each(|split| write_split(out, plan, split))?;
    plan.aliases.iter().try_for_each(|alias| {
        let target = plan.name_of(alias.target);
        writeln!(out, "[[aliases]] {:?}\n  model = {target}", alias.name)
    })
}

fn write_server(out: &mut String, plan: &Plan) -> std::fmt::Result {
    let Server { listen, open_access, tls, tls_files } = &plan.server;
    writeln!(out, "[server]\n  listen = {listen}")?;
    match tls_files.as_ref().filter(|_| tls.is_some()) {
        Some((chain, key)) => {
            writeln!(out, "  tls: certificate {}, key {}", chain.display(), key.display())?;
        }
        None => writeln!(out, "  tls: off")?,
    }
    if plan.keys.is_empty() {
        return match open_access {
            true => writeln!(out, "  access: open to everyone who reaches this port"),
            false => writeln!(out, "  access: open to this machine, web pages of elsewhere aside"),
        };
    }
    writeln!(out, "  access: by key")?;
    for key in &plan.keys {
        write!(out, "    {}: set ({})", key.name, endpoints::source_of(&key.secret))?;
        if key.priority != Class::Normal {
            write!(out, ", priority = {}", key.priority.name())?;
        }
        writeln!(out, "{}", if key.isolate { ", isolated" } else { "" })?;
    }
    Ok(())
}

fn write_admin(out: &mut String, admin: Option<&Admin>) -> std::fmt::Result {
    let Some(Admin { listen, token }) = admin else { return writeln!(out, "[admin]\n  off") };
    let token = match token {
        Some(token) => format!("set ({})", endpoints::source_of(token)),
        None => "none".to_owned(),
    };
    writeln!(out, "[admin]\n  listen = {listen}\n  token: {token}")
}

fn write_limits(out: &mut String, limits: &Limits) -> std::fmt::Result {
    // Taken apart by name, so that a new limit cannot be left out.
    let Limits {
        head_bytes_max,
        header_count_max,
        target_bytes_max,
        body_bytes_max,
        body_bytes_per_second_min,
        chunk_extension_bytes_max,
        trailer_bytes_max,
        json_depth_max,
        body_bytes_per_shard_max,
        connections_per_shard_max,
        connections_per_address_max,
        answer_hold_bytes_max,
        answer_hold_bytes_per_shard_max,
        event_whole_bytes_max,
        pipeline_bytes_max,
        shadow_requests_per_shard_max,
        shadow_requests_per_second_max,
        shadow_bytes_per_shard_max,
    } = limits;
    writeln!(out, "[limits]")?;
    for (name, value) in [
        ("head_bytes_max", head_bytes_max),
        ("header_count_max", header_count_max),
        ("target_bytes_max", target_bytes_max),
        ("body_bytes_max", body_bytes_max),
        ("body_bytes_per_second_min", body_bytes_per_second_min),
        ("chunk_extension_bytes_max", chunk_extension_bytes_max),
        ("trailer_bytes_max", trailer_bytes_max),
        ("json_depth_max", json_depth_max),
        ("body_bytes_per_shard_max", body_bytes_per_shard_max),
        ("connections_per_shard_max", connections_per_shard_max),
        ("connections_per_address_max", connections_per_address_max),
        ("answer_hold_bytes_max", answer_hold_bytes_max),
        ("answer_hold_bytes_per_shard_max", answer_hold_bytes_per_shard_max),
        ("event_whole_bytes_max", event_whole_bytes_max),
        ("pipeline_bytes_max", pipeline_bytes_max),
        ("shadow_requests_per_shard_max", shadow_requests_per_shard_max),
        ("shadow_requests_per_second_max", shadow_requests_per_second_max),
        ("shadow_bytes_per_shard_max", shadow_bytes_per_shard_max),
    ] {
        writeln!(out, "  {name} = {value}")?;
    }
    Ok(())
}

fn write_timeouts(out: &mut String, timeouts: &Timeouts) -> std::fmt::Result {
    let Timeouts {
        head,
        body,
        idle,
        write_stall,
        handshake,
        connect,
        first_byte_streamed,
        first_byte_unary,
        stall,
        total,
        upstream_idle,
        drain,
        linger,
    } = timeouts;
    writeln!(out, "[timeouts]")?;
    for (name, value) in [
        ("head", head),
        ("body", body),
        ("idle", idle),
        ("write_stall", write_stall),
        ("handshake", handshake),
        ("connect", connect),
        ("first_byte_streamed", first_byte_streamed),
        ("first_byte_unary", first_byte_unary),
        ("stall", stall),
        ("total", total),
        ("upstream_idle", upstream_idle),
        ("drain", drain),
        ("linger", linger),
    ] {
        writeln!(out, "  {name}_seconds = {}", Duration::as_secs_f64(value))?;
    }
    Ok(())
}

fn write_log(out: &mut String, log: &Log) -> std::fmt::Result {
    let Log { access, usage, queue_rows_max } = log;
    let access = match access {
        None => "off".to_owned(),
        Some(Sink::Stdout) => "stdout".to_owned(),
        Some(Sink::File(path)) => format!("file:{}", path.display()),
    };
    let usage = usage.as_ref().map_or("off".to_owned(), |path| format!("file:{}", path.display()));
    writeln!(out, "[log]\n  access = {access}\n  usage = {usage}")?;
    writeln!(out, "  queue_rows_max = {queue_rows_max}")
}

fn write_routing(out: &mut String, routing: &Routing) -> std::fmt::Result {
    let Routing { prefix_table_mib, session_header, session_ttl, .. } = routing;
    let Routing { engine_metrics, explained_requests_max, .. } = routing;
    let Routing { tenant_header, priority_header, isolation, .. } = routing;
    writeln!(out, "[routing]\n  prefix_table_mib = {prefix_table_mib}")?;
    for (name, header) in [
        ("session_header", session_header),
        ("tenant_header", tenant_header),
        ("priority_header", priority_header),
    ] {
        if let Some(header) = header {
            writeln!(out, "  {name} = {header}")?;
        }
    }
    if let Some(isolation) = isolation {
        writeln!(out, "  isolation_secret: set ({})", isolation.source())?;
    }
    writeln!(out, "  session_ttl_seconds = {}", session_ttl.as_secs_f64())?;
    writeln!(out, "  explained_requests_max = {explained_requests_max}")?;
    writeln!(out, "  engine_metrics_seconds = {}", engine_metrics.as_secs_f64())
}

fn write_traits(out: &mut String, t: &Traits) -> std::fmt::Result {
    for (name, value) in [
        ("context_tokens_max", t.context_tokens_max),
        ("requests_max", t.requests_max),
        ("kv_tokens", t.kv_tokens),
        ("kv_percent_max", t.kv_percent_max),
    ] {
        if value > 0 {
            writeln!(out, "  {name} = {value}")?;
        }
    }
    if !t.capabilities.has(Capabilities::ALL) {
        writeln!(out, "  capabilities = {}", traits::capability_names(t.capabilities))?;
    }
    if !t.adapters.is_empty() {
        writeln!(out, "  adapters = {}", t.adapters.join(", "))?;
    }
    traits::labels(t).try_for_each(|(name, value)| writeln!(out, "  {name} = {value}"))
}

fn write_endpoint(out: &mut String, plan: &Plan, id: EndpointId, e: &Endpoint) -> std::fmt::Result {
    let scheme = if e.tls.is_some() { "https" } else { "http" };
    writeln!(out, "[[endpoints]] {:?}", e.name)?;
    writeln!(out, "  url = {scheme}://{}{}/v1/...", e.host_header, e.path_prefix)?;
    match &e.authority {
        Authority::Address(address) => writeln!(out, "  address: {address}")?,
        Authority::Name { host, port } => writeln!(out, "  address: {host}, port {port}, by DNS")?,
    }
    if let Some(tls) = &e.tls {
        writeln!(out, "  verified as: {}", tls.server_name.to_str())?;
    }
    writeln!(out, "  engine = {}", endpoints::engine_name(e.engine))?;
    if let Some(key) = &e.api_key {
        writeln!(out, "  api_key: set ({})", endpoints::source_of(key))?;
    }
    if !e.headers.is_empty() {
        writeln!(out, "  headers: {}", headers::describe(e))?;
    }
    writeln!(out, "  connections_per_shard_max = {}", e.connections_per_shard_max)?;
    writeln!(out, "  retry_stale = {}", e.retry_stale)?;
    writeln!(out, "  weight = {}", e.weight)?;
    if e.price > 0.0 {
        writeln!(out, "  price = {}", e.price)?;
    }
    writeln!(out, "  health: {}", e.health_path.as_deref().unwrap_or("TCP connect"))?;
    if let Some(kv) = &e.kv_events {
        let how = if kv.bind { "bound" } else { "connected" };
        writeln!(out, "  KV events: {how} {}", kv.address)?;
        writeln!(out, "    replay: {}", kv.replay.as_deref().unwrap_or("none"))?;
    }
    writeln!(out, "  metrics: {}", e.metrics_path.as_deref().unwrap_or("none"))?;
    write_traits(out, &e.traits)?;
    write_notes(out, &notes::on_endpoint(plan, id, e))
}

fn write_notes(out: &mut String, notes: &[String]) -> std::fmt::Result {
    notes.iter().try_for_each(|note| writeln!(out, "  note: {note}"))
}

fn write_model(out: &mut String, plan: &Plan, model: &Model) -> std::fmt::Result {
    let names = model.endpoints.iter().filter_map(|id| plan.endpoints.get(usize::from(id.0)));
    let names: Vec<&str> = names.map(|endpoint| &*endpoint.name).collect();
    writeln!(out, "[[models]] {:?}", model.name)?;
    writeln!(out, "  endpoints = {}", names.join(", "))?;
    writeln!(out, "  policy = {}", models::policy_name(model.policy))?;
    if let Some(name) = &model.hash_header {
        writeln!(out, "  hash_header = {name}")?;
    }
    if let Some(name) = &model.adapter {
        writeln!(out, "  adapter = {name}")?;
    }
    if model.isolate {
        writeln!(out, "  isolate = true")?;
    }
    write_queue(out, &model.queue)?;
    if let Some(name) = &model.upstream_model {
        writeln!(out, "  upstream_model = {name}")?;
    }
    model.pair.iter().try_for_each(|pair| write_pair(out, plan, pair))?;
    if let Some(id) = model.shadow {
        let Shadow { to, percent, .. } = plan.shadows[usize::from(id.0)];
        writeln!(out, "  copied to {}: {percent} %", plan.name_of(Target::Model(to)))?;
    }
    write_notes(out, &notes::on_model(plan, model))
}

fn write_pair(out: &mut String, plan: &Plan, pair: &Pair) -> std::fmt::Result {
    let names = |ids: &[EndpointId]| {
        let known = ids.iter().filter_map(|id| plan.endpoints.get(usize::from(id.0)));
        known.map(|endpoint| &*endpoint.name).collect::<Vec<_>>().join(", ")
    };
    let whole = if pair.whole.is_empty() { "nobody".to_owned() } else { names(&pair.whole) };
    writeln!(out, "  pairs: {}", pairs::protocol_name(pair.protocol))?;
    writeln!(out, "    prefill = {}", names(&pair.prefill))?;
    writeln!(out, "    whole = {whole}")?;
    writeln!(out, "    uncached_tokens_min = {}", pair.uncached_tokens_min)?;
    writeln!(out, "    prefill_seconds = {}", pair.prefill_timeout.as_secs_f64())?;
    writeln!(out, "    lease_seconds = {}", pair.lease.as_secs_f64())
}

fn write_split(out: &mut String, plan: &Plan, split: &Split) -> std::fmt::Result {
    let Split { name, stick, arms } = split;
    writeln!(out, "[[splits]] {name:?}\n  stick = {}", splits::stick_name(*stick))?;
    let total: u64 = arms.iter().map(|arm| u64::from(arm.weight)).sum();
    arms.iter().try_for_each(|arm| {
        let name = plan.name_of(Target::Model(arm.model));
        writeln!(out, "  arm {name}: {} of {total}", arm.weight)
    })
}

fn write_queue(out: &mut String, queue: &Queue) -> std::fmt::Result {
    let Queue { requests_per_shard_max, bytes_per_shard_max, patience } = queue;
    writeln!(out, "  queue_requests_per_shard_max = {requests_per_shard_max}")?;
    writeln!(out, "  queue_bytes_per_shard_max = {bytes_per_shard_max}")?;
    writeln!(out, "  queue_seconds = {}", patience.as_secs_f64())
}

/// Settings in which the plans differ and which take effect only in a new process, as
/// `name (old → new)`. A reload that needs any of them is refused as a whole.
pub fn restart_needed(old: &Plan, new: &Plan) -> Vec<String> {
    let admin = |plan: &Plan| plan.admin.as_ref().map_or("off".into(), |a| a.listen.to_string());
    let values = |plan: &Plan| {
        let Runtime { shards, driver, ring_entries, tick, pin } = plan.runtime;
        [
            ("server.listen", plan.server.listen.to_string()),
            ("admin.listen", admin(plan)),
            ("runtime.shards", count(shards)),
            ("runtime.driver", driver_name(driver).to_owned()),
            ("runtime.ring_entries", ring_entries.to_string()),
            ("runtime.pin", pin.to_string()),
            ("runtime.tick_milliseconds", tick.as_millis().to_string()),
            // The queues between shards and the log writer are built once.
            ("log.queue_rows_max", plan.log.queue_rows_max.to_string()),
            ("routing.prefix_table_mib", plan.routing.prefix_table_mib.to_string()),
        ]
    };
    let pairs = values(old).into_iter().zip(values(new));
    let changed = pairs.filter(|((_, old), (_, new))| old != new);
    changed.map(|((name, old), (_, new))| format!("{name} ({old} → {new})")).collect()
}

fn count(shards: Shards) -> String {
    match shards {
        Shards::Auto => "auto".to_owned(),
        Shards::Count(count) => count.to_string(),
    }
}

fn driver_name(driver: Driver) -> &'static str {
    match driver {
        Driver::Auto => "auto",
        Driver::Uring => "uring",
        Driver::Epoll => "epoll",
    }
}
