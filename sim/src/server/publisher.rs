//! Tells of the engine's cache as vLLM's publisher does: one message for each step that changed something, of
//! three frames (topic, number, msgpack), and a second socket that repeats what was missed.

use super::config::KvEvents;
use crate::engine::Told;
use rmpv::Value;
use std::collections::VecDeque;
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;
use zeromq::{PubSocket, RouterSocket, Socket, SocketRecv, SocketSend, ZmqMessage};

/// Messages kept for those who missed them (vLLM's `buffer_steps`).
const KEPT_MESSAGES_MAX: usize = 10_000;
/// The number that ends a repetition: -1.
const END: [u8; 8] = [0xff; 8];

/// What the publisher is told.
pub enum Order {
    Tell(Vec<Told>),
    /// So many of the next messages are lost on their way; they can be asked for again.
    Lose(u64),
}

/// The publisher, its sockets bound.
pub struct Publisher {
    out: PubSocket,
    replay: Option<RouterSocket>,
    topic: String,
    block_size: u32,
    next: u64,
    lose: u64,
    kept: VecDeque<(u64, Vec<u8>)>,
}

impl Publisher {
    pub async fn open(config: &KvEvents, block_size: u32) -> io::Result<Self> {
        let mut out = PubSocket::new();
        match config.publish.strip_prefix("connect:") {
            Some(to) => out.connect(to).await.map_err(io::Error::other)?,
            None => drop(out.bind(&config.publish).await.map_err(io::Error::other)?),
        }
        let mut replay = None;
        if let Some(at) = &config.replay {
            let mut socket = RouterSocket::new();
            socket.bind(at).await.map_err(io::Error::other)?;
            replay = Some(socket);
        }
        let (topic, kept) = (config.topic.clone(), VecDeque::new());
        Ok(Self { out, replay, topic, block_size, next: 0, lose: 0, kept })
    }

    /// Serves until the engine is gone.
    pub async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        let mut replay = self.replay.take();
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Tell(told)) => self.publish(&told).await,
                    Some(Order::Lose(count)) => self.lose = count,
                    None => return,
                },
                asked = ask(&mut replay) => {
                    if let (Some(asked), Some(socket)) = (asked, &mut replay) {
                        self.repeat(asked, socket).await;
                    }
                }
            }
        }
    }

    async fn publish(&mut self, told: &[Told]) {
        let payload = encode(told, self.block_size);
        let number = self.next;
        self.next += 1;
        self.kept.push_back((number, payload.clone()));
        if self.kept.len() > KEPT_MESSAGES_MAX {
            self.kept.pop_front();
        }
        if self.lose > 0 {
            self.lose -= 1;
            return;
        }
        let mut message = ZmqMessage::from(self.topic.clone());
        message.push_back(number.to_be_bytes().to_vec().into());
        message.push_back(payload.into());
        // Nobody may be listening.
        let _ = self.out.send(message).await;
    }

    /// Frames: who asks, nothing, the first number wanted.
    async fn repeat(&self, asked: ZmqMessage, socket: &mut RouterSocket) {
        let frames = asked.into_vec();
        let [who, _, from] = frames.as_slice() else { return };
        let Ok(from) = <[u8; 8]>::try_from(from.as_ref()).map(u64::from_be_bytes) else { return };
        let missed = self.kept.iter().filter(|(number, _)| *number >= from);
        let missed = missed.map(|(number, payload)| (number.to_be_bytes(), payload.as_slice()));
        for (number, payload) in missed.chain([(END, [].as_slice())]) {
            let mut message = ZmqMessage::from(who.clone());
            message.push_back(Vec::new().into());
            message.push_back(number.to_vec().into());
            message.push_back(payload.to_vec().into());
            if socket.send(message).await.is_err() {
                return;
            }
        }
    }
}

async fn ask(replay: &mut Option<RouterSocket>) -> Option<ZmqMessage> {
    match replay {
        Some(socket) => socket.recv().await.ok(),
        None => std::future::pending().await,
    }
}

/// `[timestamp, [[name, …], …], rank]`
fn encode(told: &[Told], block_size: u32) -> Vec<u8> {
    let events = told.iter().map(|told| event(told, block_size)).collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    let batch = Value::Array(vec![now.into(), Value::Array(events), 0.into()]);
    let mut out = Vec::new();
    // A vector takes whatever is written.
    let _ = rmpv::encode::write_value(&mut out, &batch);
    out
}

fn event(told: &Told, block_size: u32) -> Value {
    let list = |items: &[u64]| Value::Array(items.iter().map(|item| Value::from(*item)).collect());
    Value::Array(match told {
        Told::Stored { hash, parent, tokens, salt } => vec![
            "BlockStored".into(),
            list(&[*hash]),
            parent.map_or(Value::Nil, Value::from),
            Value::Array(tokens.iter().map(|token| Value::from(*token)).collect()),
            block_size.into(),
            Value::Nil,
            "GPU".into(),
            Value::Nil,
            Value::Array(vec![
                salt.as_deref().map_or(Value::Nil, |salt| Value::Array(vec![salt.into()])),
            ]),
        ],
        Told::Removed { hash } => vec!["BlockRemoved".into(), list(&[*hash]), "GPU".into()],
        Told::Cleared => vec!["AllBlocksCleared".into()],
    })
}
