use std::collections::BTreeSet;
use std::time::Duration;

use sluice_sim::server::{KvEvents as Published, ServerConfig, spawn_thread};
use tokio::sync::mpsc;

use super::{Event, Heard, Input, KvEvents, Subscriber};
use crate::control::client::{Ask, Client};

const PATIENCE: Duration = Duration::from_secs(10);

fn endpoint_of(address: std::net::SocketAddr) -> crate::config::plan::Endpoint {
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:1\"\n[[endpoints]]\nname = \"gpu\"\nurl = \"http://{address}\"\nengine = \"vllm\"\n\
         [[models]]\nname = \"m\"\nendpoints = [\"gpu\"]\n"
    );
    crate::config::parse(&text, "f", std::path::Path::new("."), &|_| None, 1)
        .unwrap()
        .endpoints
        .remove(0)
}

fn free_address() -> String {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("tcp://{}", socket.local_addr().unwrap())
}

/// The blocks that the engine has, as far as was heard.
#[derive(Default)]
struct Ear {
    blocks: BTreeSet<u64>,
    lost: u32,
}

impl Ear {
    fn hear(&mut self, heard: Heard) {
        let Heard::Events(events) = heard else {
            self.lost += 1;
            return self.blocks.clear();
        };
        for event in events {
            match event {
                Event::Stored(stored) => self.blocks.extend(stored.blocks),
                Event::Removed { blocks } => blocks.iter().for_each(|block| {
                    self.blocks.remove(block);
                }),
                Event::Cleared => self.blocks.clear(),
            }
        }
    }

    async fn hear_until(&mut self, out: &mut mpsc::Receiver<Input>, lost: u32, blocks: usize) {
        let enough = async {
            while (self.lost, self.blocks.len()) != (lost, blocks) {
                let Some(Input::Heard(7, heard)) = out.recv().await else { panic!("not heard") };
                self.hear(heard);
            }
        };
        tokio::time::timeout(PATIENCE, enough).await.expect("the blocks that were asked for");
    }
}

async fn post(client: &mut Client, address: std::net::SocketAddr, path: &str, body: String) {
    let ask = Ask { path: path.into(), body: Some(body.into_bytes()), answer_bytes_max: 1 << 20 };
    let answer = client.ask(&[address], 0, PATIENCE, &ask).await.unwrap();
    assert_eq!(answer.status, 200, "{path}");
}

/// A prompt of 8 blocks of 16 tokens, and nothing generated but one token.
fn prompt(seed: &str) -> String {
    let ids: Vec<String> = (0..128).map(|n| format!("{}", n + seed.len() * 1_000)).collect();
    format!(r#"{{"model":"mock-model","max_tokens":1,"prompt":[{}]}}"#, ids.join(","))
}

async fn world(bind: bool, with_replay: bool) {
    let (events, again) = (free_address(), free_address());
    let publish = if bind { format!("connect:{events}") } else { events.clone() };
    let published = Published { publish, replay: Some(again.clone()), topic: "kv".into() };
    let config = ServerConfig { instant: true, kv_events: Some(published), ..Default::default() };
    let source = KvEvents {
        bind,
        address: events.into(),
        replay: with_replay.then(|| again.into()),
        topic: "kv".into(),
    };
    let (sender, mut out) = mpsc::channel(64);
    let mut listening = None;
    if bind {
        let subscriber = Subscriber::new("gpu".into(), source.clone(), 7, sender.clone());
        listening = Some(tokio::spawn(subscriber.run()));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let sim = spawn_thread("127.0.0.1:0".parse().unwrap(), config).unwrap();
    if !bind {
        listening = Some(tokio::spawn(Subscriber::new("gpu".into(), source, 7, sender).run()));
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut client = Client::new(endpoint_of(sim.addr));
    let mut ear = Ear::default();
    post(&mut client, sim.addr, "/v1/completions", prompt("a")).await;
    // The first message has the first number: nothing is lost.
    ear.hear_until(&mut out, 0, 8).await;
    post(&mut client, sim.addr, "/sim/kv-events/lose", r#"{"messages":1}"#.into()).await;
    post(&mut client, sim.addr, "/v1/completions", prompt("bb")).await;
    post(&mut client, sim.addr, "/v1/completions", prompt("ccc")).await;
    let lost = u32::from(!with_replay);
    ear.hear_until(&mut out, lost, if with_replay { 24 } else { 8 }).await;
    post(&mut client, sim.addr, "/reset_prefix_cache", "{}".into()).await;
    post(&mut client, sim.addr, "/v1/completions", prompt("dddd")).await;
    ear.hear_until(&mut out, lost, 8).await;
    listening.unwrap().abort();
}

fn run(world: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(world);
}

#[test]
fn a_gap_is_filled_by_asking_again() {
    run(world(false, true));
}

#[test]
fn a_gap_that_cannot_be_filled_is_told() {
    run(world(false, false));
}

#[test]
fn engines_may_connect_to_us() {
    run(world(true, true));
}
