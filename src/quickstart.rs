//! `sluice quickstart`: two simulated GPU servers and a gateway in front of them, on loopback.

use std::net::SocketAddr;
use std::path::Path;

use sluice_sim::server::{Running, ServerConfig, spawn_thread};

use crate::boot::{BootError, Gateway};
use crate::config::{self, plan::Plan};

/// Where the gateway listens if nobody else does.
const PORT: u16 = 8080;
/// Where its admin listener does.
const ADMIN_PORT: u16 = 9090;
/// The model that the simulated servers claim to run.
const MODEL: &str = "mock-model";

/// Starts everything, says how to use it, and serves until interrupted; the exit status.
///
/// # Errors
/// Whatever keeps it from starting.
pub fn run() -> Result<u8, BootError> {
    let servers = (0..2).map(|_| server()).collect::<Result<Vec<_>, _>>()?;
    let addresses: Vec<SocketAddr> = servers.iter().map(|server| server.addr).collect();
    let gateway = Gateway::start(plan(&addresses, PORT, ADMIN_PORT)?, None)
        .or_else(|_| Gateway::start(plan(&addresses, 0, 0)?, None))?;
    print_how_to(&gateway, &addresses);
    let code = gateway.run()?;
    drop(servers);
    Ok(code)
}

fn server() -> Result<Running, BootError> {
    let config = ServerConfig { models: vec![MODEL.into()], ..ServerConfig::default() };
    spawn_thread(([127, 0, 0, 1], 0).into(), config)
        .map_err(|error| BootError::System { what: "simulated GPU server".into(), error })
}

fn plan(servers: &[SocketAddr], port: u16, admin_port: u16) -> Result<Plan, BootError> {
    let mut text = format!(
        "[server]\nlisten = \"127.0.0.1:{port}\"\n[admin]\nlisten = \"127.0.0.1:{admin_port}\"\n\
         [runtime]\nshards = 1\n[log]\naccess = \"off\"\n"
    );
    let mut names = Vec::new();
    for (n, address) in servers.iter().enumerate() {
        names.push(format!("\"gpu-{n}\""));
        text += &format!(
            "[[endpoints]]\nname = \"gpu-{n}\"\nurl = \"http://{address}\"\nengine = \"vllm\"\n"
        );
    }
    let names = names.join(", ");
    text += &format!("[[models]]\nname = \"{MODEL}\"\nendpoints = [{names}]\n");
    config::parse(&text, "quickstart", Path::new("."), &|_| None, 1).map_err(BootError::Config)
}

fn print_how_to(gateway: &Gateway, servers: &[SocketAddr]) {
    let address = gateway.address;
    let list: Vec<String> = servers.iter().map(ToString::to_string).collect();
    println!("Sluice listens on http://{address}, in front of two simulated GPU servers");
    println!("({}) that pretend to run \"{MODEL}\". Ctrl-C ends it.\n", list.join(" and "));
    println!("Try it from another terminal:\n");
    println!(
        "curl -N http://{address}/v1/chat/completions -H 'content-type: application/json' \
         -d '{{\"model\": \"{MODEL}\", \"stream\": true, \"max_tokens\": 40, \"messages\": \
         [{{\"role\": \"user\", \"content\": \"Hello\"}}]}}'\n"
    );
    println!("Or with Python (pip install openai):\n");
    println!("from openai import OpenAI");
    println!("client = OpenAI(base_url=\"http://{address}/v1\", api_key=\"any\")");
    println!("for event in client.chat.completions.create(");
    println!("    model=\"{MODEL}\", stream=True, max_tokens=40,");
    println!("    messages=[{{\"role\": \"user\", \"content\": \"Hello\"}}],");
    println!("):");
    println!("    print(event.choices[0].delta.content or \"\", end=\"\", flush=True)\n");
    if let Some(admin) = gateway.admin_address() {
        println!("Metrics: http://{admin}/metrics   Health: http://{admin}/readyz");
    }
}
