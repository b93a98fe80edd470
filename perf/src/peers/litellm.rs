//! LiteLLM's proxy: one worker, no database, no callbacks, logs for errors only. It wants a master key.

use std::path::PathBuf;

use super::{API_KEY, MODEL, Peer, Places, Plan, Version, Wanted, command, on_path, pip, written};
use crate::Failure;

pub const PEER: Peer = Peer {
    name: "litellm",
    install: pip!("'litellm[proxy]'"),
    find,
    version: Version::Package("litellm"),
    plan,
    balances: true,
};

fn find(places: &Places) -> Option<PathBuf> {
    on_path("litellm", places)
}

fn plan(wanted: &Wanted<'_>) -> Result<Plan, Failure> {
    let config = config(wanted);
    let file = written(wanted.dir, "litellm.yaml", &config)?;
    let (host, port) = (wanted.listen.ip().to_string(), wanted.listen.port().to_string());
    let workers = wanted.cpus.to_string();
    let words = ["--config", &file, "--host", &host, "--port", &port, "--num_workers", &workers];
    let mut command = command(wanted.program, &words);
    command.extend(["--keepalive_timeout", "75", "--telemetry", "False"].map(str::to_owned));
    let environment = vec![
        // Else it asks a host on the internet for prices at every start.
        ("LITELLM_LOCAL_MODEL_COST_MAP", "True".to_owned()),
        ("LITELLM_LOG", "ERROR".to_owned()),
        ("LITELLM_MODE", "PRODUCTION".to_owned()),
    ];
    Ok(Plan {
        command,
        environment,
        config: format!("# listen: {host}:{port}\n{config}"),
        reload: None,
    })
}

fn config(wanted: &Wanted<'_>) -> String {
    let model = |at: &std::net::SocketAddr| {
        format!(
            "  - model_name: {MODEL}
    litellm_params:
      model: openai/{MODEL}
      api_base: http://{at}/v1
      api_key: none
"
        )
    };
    let models: String = wanted.upstreams.iter().map(model).collect();
    format!(
        "model_list:
{models}litellm_settings:
  request_timeout: 600
  set_verbose: false
router_settings:
  num_retries: 2
general_settings:
  master_key: {API_KEY}
"
    )
}
