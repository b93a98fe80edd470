//! `sluice quickstart`: two simulated GPU servers and a gateway in front of them, on loopback.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use sluice_sim::server::{Running, ServerConfig, spawn_thread};

use crate::boot::{self, BootError, Gateway, Hangup};
use crate::config::{self, plan::Plan};

/// Where the gateway listens if nobody else does.
const PORT: u16 = 8080;
/// Where its admin listener does.
const ADMIN_PORT: u16 = 9090;
/// The model that the simulated servers claim to run.
const MODEL: &str = "mock-model";

/// Starts everything, has `print` say how to use it, and serves until it is interrupted or its terminal goes;
/// the exit status.
///
/// # Errors
/// Whatever keeps it from starting, or from saying so.
pub fn run(print: impl FnOnce(&str) -> io::Result<()>) -> Result<u8, BootError> {
    let ground = boot::lay_ground(Hangup::Stop)?;
    let servers = (0..2).map(|_| server()).collect::<Result<Vec<_>, _>>()?;
    let addresses: Vec<SocketAddr> = servers.iter().map(|server| server.addr).collect();
    let gateway = Gateway::start(plan(&addresses, PORT, ADMIN_PORT)?, None)
        .or_else(|_| Gateway::start(plan(&addresses, 0, 0)?, None))?;
    print(&how_to(&gateway, &addresses))
        .map_err(|error| BootError::System { what: "standard output".into(), error })?;
    let code = gateway.run(ground)?;
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

fn how_to(gateway: &Gateway, servers: &[SocketAddr]) -> String {
    let address = gateway.address;
    let list: Vec<String> = servers.iter().map(ToString::to_string).collect();
    let list = list.join(" and ");
    let admin = gateway.admin_address().map_or(String::new(), |admin| {
        format!("\nMetrics: http://{admin}/metrics   Health: http://{admin}/readyz")
    });
    let curl = format!(
        "curl -N http://{address}/v1/chat/completions -H 'content-type: application/json' \
         -d '{{\"model\": \"{MODEL}\", \"stream\": true, \"max_tokens\": 40, \"messages\": \
         [{{\"role\": \"user\", \"content\": \"Hello\"}}]}}'"
    );
    format!(
        r#"Sluice listens on http://{address}, in front of two simulated GPU servers
({list}) that pretend to run "{MODEL}". Ctrl-C ends it.

Try it from another terminal:

{curl}

Or with Python (pip install openai):

from openai import OpenAI
client = OpenAI(base_url="http://{address}/v1", api_key="any")
for event in client.chat.completions.create(
    model="{MODEL}", stream=True, max_tokens=40,
    messages=[{{"role": "user", "content": "Hello"}}],
):
    print(event.choices[0].delta.content or "", end="", flush=True)
{admin}"#
    )
}
