use std::collections::BTreeSet;
use std::time::Duration;

use rmpv::Value;
use sluice_sim::server::{KvEvents as Published, Running, ServerConfig, spawn_thread};
use tokio::sync::mpsc;
use zeromq::{PubSocket, Socket, SocketSend, ZmqMessage};

use super::{Event, Heard, Input, KvEvents, Subscriber, repeated};
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
    /// The last that was heard is that the process is another one.
    anew: bool,
}

impl Ear {
    fn hear(&mut self, heard: Heard) {
        // What a new process stored before it was heard may be missing, too: that is one loss.
        let again = matches!(heard, Heard::LostTrack) && self.anew;
        self.anew = matches!(heard, Heard::Restarted);
        let Heard::Events(events) = heard else {
            self.lost += u32::from(!again);
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

    /// What has come already.
    fn hear_rest(&mut self, out: &mut mpsc::Receiver<Input>) {
        while let Ok(Input::Heard(7, heard)) = out.try_recv() {
            self.hear(heard);
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
fn prompt(seed: usize) -> String {
    let ids: Vec<String> = (0..128).map(|n| format!("{}", n + seed * 1_000)).collect();
    format!(r#"{{"model":"mock-model","max_tokens":1,"prompt":[{}]}}"#, ids.join(","))
}

/// A server that tells.
fn engine(publish: &str, again: &str) -> Running {
    let (publish, replay) = (publish.to_owned(), Some(again.to_owned()));
    let kv_events = Some(Published { publish, replay, topic: "kv".into() });
    let config = ServerConfig { instant: true, kv_events, ..Default::default() };
    spawn_thread("127.0.0.1:0".parse().unwrap(), config).unwrap()
}

async fn world(bind: bool, with_replay: bool) {
    let (events, again) = (free_address(), free_address());
    let publish = if bind { format!("connect:{events}") } else { events.clone() };
    let published_again = again.clone();
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
    let sim = engine(&publish, &published_again);
    if !bind {
        listening = Some(tokio::spawn(Subscriber::new("gpu".into(), source, 7, sender).run()));
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut client = Client::new(endpoint_of(sim.addr));
    let mut ear = Ear::default();
    post(&mut client, sim.addr, "/v1/completions", prompt(1)).await;
    // The first message has the first number: nothing is lost.
    ear.hear_until(&mut out, 0, 8).await;
    post(&mut client, sim.addr, "/sim/kv-events/lose", r#"{"messages":1}"#.into()).await;
    post(&mut client, sim.addr, "/v1/completions", prompt(2)).await;
    post(&mut client, sim.addr, "/v1/completions", prompt(3)).await;
    let lost = u32::from(!with_replay);
    ear.hear_until(&mut out, lost, if with_replay { 24 } else { 8 }).await;
    post(&mut client, sim.addr, "/reset_prefix_cache", "{}".into()).await;
    post(&mut client, sim.addr, "/v1/completions", prompt(4)).await;
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

/// An engine that told `before` prompts is restarted, and the first `lost` of its messages are not heard:
/// what the old process had is gone, and what the new one has is known.
async fn restarted(before: usize, lost: usize) {
    let (events, again) = (free_address(), free_address());
    let old = engine(&events, &again);
    let (address, replay) = (events.clone().into(), Some(again.clone().into()));
    let source = KvEvents { bind: false, address, replay, topic: "kv".into() };
    let (sender, mut out) = mpsc::channel(64);
    let listening = tokio::spawn(Subscriber::new("gpu".into(), source, 7, sender).run());
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (mut client, mut ear) = (Client::new(endpoint_of(old.addr)), Ear::default());
    for seed in 0..before {
        post(&mut client, old.addr, "/v1/completions", prompt(seed)).await;
    }
    ear.hear_until(&mut out, 0, 8 * before).await;
    old.stop().unwrap();
    let new = engine(&events, &again);
    let mut client = Client::new(endpoint_of(new.addr));
    let lose = format!(r#"{{"messages":{lost}}}"#);
    post(&mut client, new.addr, "/sim/kv-events/lose", lose).await;
    let mut asked = 0;
    // Until the connection is there again, more is lost.
    while ear.lost == 0 {
        assert!(asked < 36, "the restart was not heard");
        post(&mut client, new.addr, "/v1/completions", prompt(100 + asked)).await;
        asked += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
        ear.hear_rest(&mut out);
    }
    ear.hear_until(&mut out, 1, 8 * asked).await;
    listening.abort();
}

#[test]
fn a_process_that_is_first_heard_at_a_low_number_is_another_one() {
    run(restarted(40, 3));
}

#[test]
fn a_gap_is_not_filled_with_what_another_process_told() {
    run(restarted(2, 5));
}

/// One batch with one block, made at `time`.
fn batch_of(time: f64, block: u64) -> Vec<u8> {
    let list = |items: Vec<Value>| Value::Array(items);
    let tokens = list((0..4u64).map(Value::from).collect());
    let event = vec![
        "BlockStored".into(),
        list(vec![block.into()]),
        Value::Nil,
        tokens,
        4.into(),
        Value::Nil,
    ];
    let batch = list(vec![time.into(), list(vec![list(event)]), 0.into()]);
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, &batch).unwrap();
    bytes
}

async fn doubled() {
    let address = free_address();
    let mut socket = PubSocket::new();
    socket.bind(&address).await.unwrap();
    let source =
        KvEvents { bind: false, address: address.into(), replay: None, topic: "kv".into() };
    let (sender, mut out) = mpsc::channel(64);
    let listening = tokio::spawn(Subscriber::new("gpu".into(), source, 7, sender).run());
    tokio::time::sleep(Duration::from_millis(300)).await;
    let messages =
        [(0, 1), (1, 2), (1, 2), (0, 1), (2, 3), (2, 3), (3, 4), (2, 9)].map(|(number, block)| {
            let mut message = ZmqMessage::from("kv");
            message.push_back(u64::to_be_bytes(number).to_vec().into());
            message.push_back(batch_of(block as f64, block).into());
            message
        });
    let mut ear = Ear::default();
    let (same, other) = messages.split_at(7);
    for message in same {
        socket.send(message.clone()).await.unwrap();
    }
    ear.hear_until(&mut out, 0, 4).await;
    assert!(out.try_recv().is_err(), "what came twice is heard once");
    socket.send(other[0].clone()).await.unwrap();
    ear.hear_until(&mut out, 1, 1).await;
    assert!(ear.blocks.contains(&9));
    listening.abort();
}

#[test]
fn what_is_delivered_twice_is_taken_once_and_other_bytes_under_its_number_are_another_process() {
    run(doubled());
}

#[test]
fn a_repetition_may_tell_the_topic() {
    let (number, end) = (7u64.to_be_bytes(), [0xff; 8]);
    let (none, number, end): (&[u8], &[u8], &[u8]) = (b"", &number, &end);
    let message = Some((7, b"x".to_vec()));
    assert_eq!(repeated(&[none, number, b"x"]), message);
    assert_eq!(repeated(&[none, b"kv", number, b"x"]), message);
    for ends in [&[none, end, none][..], &[none, none, end, none], &[none, b"x", b"x"], &[none]] {
        assert_eq!(repeated(ends), None);
    }
}
