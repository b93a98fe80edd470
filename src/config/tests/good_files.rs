//! Good files compile to what they say.

use std::time::Duration;

use super::*;
use crate::config::plan::*;

fn plan(text: &str) -> Plan {
    parse_here(text).unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn the_least_file_is_enough() {
    let plan = plan(LEAST);
    assert_eq!(plan.generation, 1);
    assert_eq!(plan.server.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(
        plan.admin.as_ref().map(|a| a.listen.to_string()).as_deref(),
        Some("127.0.0.1:9090")
    );
    assert_eq!(plan.runtime.shards, Shards::Count(1));
    assert_eq!(plan.endpoints[0].health_path.as_deref(), Some("/health"));
    assert_eq!(plan.model_index["mock-model"].target, Target::Model(ModelId(0)));
    assert_eq!(plan.models[0].endpoints, [EndpointId(0)]);
    assert!(plan.files.is_empty() && plan.keys.is_empty());
}

#[test]
fn runtime_limits_timeouts_and_logs_are_taken() {
    let plan = plan(&around(
        "[runtime]\nshards = \"auto\"\ndriver = \"epoll\"\nring_entries = 256\npin = false\n\
         tick_milliseconds = 5\n[limits]\nbody_bytes_max = 0x10_0000\n\
         [timeouts]\ntotal_seconds = 100\nidle_seconds = 1.5\n\
         [log]\naccess = \"off\"\nusage = \"file:/tmp/usage.jsonl\"",
    ));
    assert_eq!(plan.runtime.shards, Shards::Auto);
    assert_eq!(plan.runtime.driver, Driver::Epoll);
    assert_eq!((plan.runtime.ring_entries, plan.runtime.pin), (256, false));
    assert_eq!(plan.runtime.tick, Duration::from_millis(5));
    assert_eq!(plan.limits.body_bytes_max, 1 << 20);
    assert_eq!(plan.timeouts.idle, Duration::from_millis(1500));
    // Defaults longer than a request's whole life are cut to it.
    assert_eq!(plan.timeouts.first_byte_unary, Duration::from_secs(100));
    assert_eq!(plan.timeouts.stall, Duration::from_secs(100));
    assert_eq!(plan.log.access, None);
    assert_eq!(plan.log.usage.as_deref(), Some(Path::new("/tmp/usage.jsonl")));
}

/// (url, Host header, prefix, address or name:port)
const URLS: [(&str, &str, &str, &str); 12] = [
    ("http://gpu:8000", "gpu:8000", "", "gpu:8000"),
    ("http://GPU.Local", "gpu.local", "", "gpu.local:80"),
    ("http://gpu:80/", "gpu", "", "gpu:80"),
    ("http://gpu/v1", "gpu", "", "gpu:80"),
    ("http://gpu/v1/", "gpu", "", "gpu:80"),
    ("http://gpu/openai/v1", "gpu", "/openai", "gpu:80"),
    ("http://gpu/openai/", "gpu", "/openai", "gpu:80"),
    ("http://gpu/av1", "gpu", "/av1", "gpu:80"),
    ("http://10.0.0.7:9", "10.0.0.7:9", "", "10.0.0.7:9"),
    ("http://[2001:DB8::1]:8000/x", "[2001:db8::1]:8000", "/x", "[2001:db8::1]:8000"),
    ("http://[::1]", "[::1]", "", "[::1]:80"),
    ("http://svc.cluster.local.:81", "svc.cluster.local:81", "", "svc.cluster.local.:81"),
];

#[test]
fn urls_are_taken_apart() {
    for (url, host, prefix, to) in URLS {
        let text = LEAST.replace("http://127.0.0.1:9001", url);
        let plan = plan(&text);
        let endpoint = &plan.endpoints[0];
        let authority = match &endpoint.authority {
            Authority::Address(address) => address.to_string(),
            Authority::Name { host, port } => format!("{host}:{port}"),
        };
        assert_eq!((&*endpoint.host_header, &*endpoint.path_prefix), (host, prefix), "{url}");
        assert_eq!(authority, to, "{url}");
        let health = format!("{prefix}/health");
        assert_eq!(endpoint.health_path.as_deref(), Some(health.as_str()), "{url}");
    }
}

#[test]
fn endpoint_settings_are_taken() {
    let plan = plan(&with_endpoint(
        "api_key = \"env:GOOD\"\nhealth_path = \"\"\nretry_stale = false\n\
         connections_per_shard_max = 7\nheaders = { X-Team = \"a b\", OpenAI-Organization = \"env:OTHER\" }",
    ));
    let endpoint = &plan.endpoints[0];
    assert_eq!(endpoint.api_key.as_ref().map(Secret::expose), Some("sk-good"));
    let headers: Vec<_> = endpoint.headers.iter().map(|(n, v)| (&**n, v.expose())).collect();
    assert_eq!(headers, [("openai-organization", "sk-other"), ("x-team", "a b")]);
    assert_eq!(endpoint.health_path, None);
    assert!(!endpoint.retry_stale);
    assert_eq!(endpoint.connections_per_shard_max, 7);
}

#[test]
fn identity_is_what_makes_connections_interchangeable() {
    let identity = |lines: &str, url: &str| {
        plan(&with_endpoint(lines).replace("http://gpu:8000", url)).endpoints[0].identity
    };
    let plain = identity("", "http://gpu:8000");
    assert_eq!(plain, identity("api_key = \"env:GOOD\"", "http://GPU:8000/prefix"));
    for other in ["http://gpu:8001", "http://gpv:8000", "http://10.0.0.1:8000"] {
        assert_ne!(plain, identity("", other));
    }
}

#[test]
fn keys_authenticate_and_strangers_do_not() {
    let keys = "[[keys]]\nname = \"a\"\nsecret = \"env:GOOD\"\n\
                [[keys]]\nname = \"b\"\nsecret = \"env:OTHER\"";
    let plan = plan(&around(keys).replace("127.0.0.1", "0.0.0.0"));
    assert_eq!(plan.authenticate(b"sk-good"), Some(KeyId(0)));
    assert_eq!(plan.authenticate(b"sk-other"), Some(KeyId(1)));
    let strangers: [&[u8]; 5] = [b"", b"sk-goo", b"sk-good ", b"SK-GOOD", &[b'k'; 513]];
    for stranger in strangers {
        assert_eq!(plan.authenticate(stranger), None);
    }
    let open = parse_here(LEAST).expect("valid");
    assert_eq!(open.authenticate(b"sk-good"), None);
}

#[test]
fn access_off_loopback_is_open_only_in_words() {
    let words = format!("open_access = {OPEN_ACCESS:?}");
    assert!(parse_here(&around(&words).replace("127.0.0.1", "0.0.0.0")).is_ok());
    for loopback in ["127.8.8.8:80", "[::1]:80", "[::ffff:127.0.0.1]:80"] {
        assert!(parse_here(&around("").replace("127.0.0.1:80", loopback)).is_ok(), "{loopback}");
    }
    let admin = "[admin]\nlisten = \"0.0.0.0:90\"\ntoken = \"env:GOOD\"";
    let plan = plan(&around(admin));
    let token = plan.admin.and_then(|admin| admin.token).expect("a token");
    assert!(token.matches(b"sk-good") && !token.matches(b"sk-goo"));
}

#[test]
fn what_needs_a_restart_is_named() {
    let (old, same) = (plan(LEAST), plan(LEAST));
    assert!(restart_needed(&old, &same).is_empty());
    let changed = LEAST
        .replace("8080", "8081")
        .replace("shards = 1 ", "shards = 2 ")
        .replace("[admin]\nlisten = \"127.0.0.1:9090\"\n", "")
        .replace("driver = \"auto\"", "driver = \"uring\"\nring_entries = 128\npin = false");
    assert_eq!(
        restart_needed(&old, &plan(&changed)),
        [
            "server.listen (127.0.0.1:8080 → 127.0.0.1:8081)",
            "admin.listen (127.0.0.1:9090 → off)",
            "runtime.shards (1 → 2)",
            "runtime.driver (auto → uring)",
            "runtime.ring_entries (4096 → 128)",
            "runtime.pin (true → false)",
        ]
    );
    let elsewhere = LEAST.replace("9001", "9002").replace("round-robin", "least-loaded");
    assert!(restart_needed(&old, &plan(&elsewhere)).is_empty());
}

#[test]
fn the_description_tells_all_but_the_secrets() {
    let text = with_endpoint("api_key = \"env:GOOD\"\nheaders = { x-org = \"env:OTHER\" }");
    let keys = "[[keys]]\nname = \"team\"\nsecret = \"env:GOOD\"";
    let described = describe(&plan(&format!("{text}{keys}")));
    for line in [
        "    team: set (env:GOOD)",
        "  api_key: set (env:GOOD)",
        "  headers: x-org (env:OTHER)",
        "  url = http://gpu:8000/v1/...",
        "  body_bytes_max = 33554432",
        "  idle_seconds = 75",
        "  policy = predicted-ttft",
    ] {
        assert!(described.lines().any(|known| known == line), "{line}\n{described}");
    }
    assert!(!described.contains("sk-"), "{described}");
}

#[test]
fn splits_and_aliases_stand_beside_models() {
    let lines = "[[models]]\nname = \"n\"\nendpoints = [\"gpu\"]\n\
                 [[splits]]\nname = \"ab\"\nstick = \"key\"\n\
                 arms = [{ model = \"m\", weight = 3 }, { model = \"n\" }]\n\
                 [[aliases]]\nname = \"first\"\nmodel = \"m\"\n\
                 [[aliases]]\nname = \"both\"\nmodel = \"ab\"";
    let plan = plan(&format!("{}\n{lines}", around("")));
    let target = |name: &str| plan.model_index[name].target;
    let model = target("m");
    assert_eq!((target("first"), target("both")), (model, target("ab")));
    let others: Vec<_> = ["ab", "first", "both"].map(Box::<str>::from).into();
    assert_eq!(plan.other_names, others);
    for (name, at) in [("m", None), ("ab", Some(0)), ("first", Some(1)), ("both", Some(2))] {
        assert_eq!(plan.model_index[name].other, at.map(OtherNameId), "{name}");
    }
    let split = &plan.splits[0];
    assert_eq!((split.stick, split.arms.len(), split.arms[0].weight), (Stick::Key, 2, 3));
    assert_eq!(Target::Model(split.arms[0].model), model);
    assert_ne!(split.arms[0].seed, split.arms[1].seed);
    let described = describe(&plan);
    for line in ["[[splits]] \"ab\"", "  arm m: 3 of 4", "[[aliases]] \"both\"", "  model = ab"] {
        assert!(described.lines().any(|known| known == line), "{line}\n{described}");
    }
}

#[test]
fn load_reads_from_disk() {
    let dir = tempdir();
    let path = dir.join("sluice.toml");
    std::fs::write(dir.join("key"), "sk-from-file\r\n").expect("written");
    let text = with_endpoint("api_key = \"file:key\"");
    std::fs::write(&path, text).expect("written");
    let plan = load(&path, 7).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(plan.generation, 7);
    let key = plan.endpoints[0].api_key.as_ref().map(Secret::expose);
    assert_eq!(key, Some("sk-from-file"));
    assert_eq!(plan.files, [dir.join("key")]);
    let absent = load(&dir.join("absent.toml"), 1).expect_err("absent").to_string();
    assert!(absent.contains("absent.toml:1:1: "), "{absent}");
    std::fs::write(&path, b"[server]\n\xff").expect("written");
    let binary = load(&path, 1).expect_err("not text").to_string();
    assert!(binary.ends_with(":2:1: the file is not UTF-8: save it as UTF-8"), "{binary}");
    std::fs::remove_dir_all(dir).expect("removed");
}

#[test]
fn pairs_belong_to_their_model() {
    let other = GPU.replace("gpu", "cpu");
    let pair = "[[pairs]]\nmodel = \"m\"\nprefill = [\"cpu\"]\nprotocol = ";
    let nixl = plan(&around(&format!("{other}{pair}\"nixl\"\nlease_seconds = 9\n")));
    let model = &nixl.models[0];
    let held = model.pair.as_ref().expect("a pair");
    assert_eq!((held.protocol, held.lease.as_secs()), (PairProtocol::Nixl, 9));
    assert_eq!((&*held.prefill, &held.whole), (&[EndpointId(0)][..], &model.endpoints));
    assert_eq!((held.uncached_tokens_min, held.prefill_timeout.as_secs()), (1_024, 120));
    assert!(model.uses(EndpointId(0)) && model.uses(EndpointId(1)));
    assert!(describe(&nixl).contains("  pairs: nixl\n    prefill = cpu\n    whole = gpu\n"));
    let sglang = around(&format!("{other}{pair}\"sglang\"\n"));
    let sglang = plan(&sglang.replace("engine = \"vllm\"", "engine = \"sglang\""));
    assert!(sglang.models[0].pair.as_ref().is_some_and(|pair| pair.whole.is_empty()));
    assert!(describe(&sglang).contains("    whole = nobody\n"));
    assert!(plan(&around("")).models[0].pair.is_none());
}
