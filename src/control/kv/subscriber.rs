//! The task that listens to one engine's KV events: messages in their order, missing ones asked for again.

use std::time::Duration;

use zeromq::{DealerSocket, Socket, SocketRecv, SocketSend, SubSocket, ZmqMessage};

use super::batch::{self, Event};
use super::keeper::{Door, Input};
use super::sequence::{Sequence, Verdict};
use crate::config::plan::KvEvents;
use crate::telemetry::say;

/// After a failure to listen.
const PAUSE: Duration = Duration::from_secs(1);
/// For one repetition of what was missed.
const REPLAY_PATIENCE: Duration = Duration::from_secs(5);
/// Messages of one repetition, at most.
const REPLAY_MESSAGES_MAX: usize = 65_536;
/// The number that ends a repetition: -1.
const END: u64 = u64::MAX;

/// What was heard of one engine.
#[derive(Debug)]
pub enum Heard {
    /// In order, and nothing between them and the last is missing.
    Events(Vec<Event>),
    /// Something is missing for good, or the process is another one: nothing is known any more.
    LostTrack,
}

/// Listens to one engine.
pub struct Subscriber {
    name: Box<str>,
    source: KvEvents,
    /// What the engine's cache depends on: its name to the keeper.
    identity: u64,
    out: Door,
    sequence: Sequence,
}

/// Nobody wants to know any more.
struct Unwanted;

/// A message: its number, and what it holds.
type Message = (u64, Vec<u8>);

impl Subscriber {
    /// Has heard nothing yet.
    pub fn new(name: Box<str>, source: KvEvents, identity: u64, out: Door) -> Self {
        Self { name, source, identity, out, sequence: Sequence::default() }
    }

    /// Runs until it is aborted, or nobody wants to know any more.
    pub async fn run(mut self) {
        loop {
            match self.listen().await {
                Ok(Unwanted) => return,
                Err(error) => {
                    say::warn(
                        "KV events cannot be had",
                        &[("endpoint", &self.name), ("why", &error)],
                    );
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn listen(&mut self) -> Result<Unwanted, String> {
        let in_words = |error: zeromq::ZmqError| error.to_string();
        let mut socket = SubSocket::new();
        socket.subscribe(&self.source.topic).await.map_err(in_words)?;
        match self.source.bind {
            true => drop(socket.bind(&self.source.address).await.map_err(in_words)?),
            false => socket.connect(&self.source.address).await.map_err(in_words)?,
        }
        loop {
            let message = socket.recv().await.map_err(in_words)?;
            // Topic, number, payload; whatever else arrives here is not for us.
            let frames = message.into_vec();
            let [_, number, payload] = frames.as_slice() else { continue };
            let Some(number) = number_of(number) else { continue };
            if self.take(number, payload).await.is_err() {
                return Ok(Unwanted);
            }
        }
    }

    async fn take(&mut self, number: u64, payload: &[u8]) -> Result<(), Unwanted> {
        match self.sequence.judge(number) {
            Verdict::Known => return Ok(()),
            Verdict::Next => {}
            Verdict::Restart => {
                self.sequence.reset();
                self.tell(Heard::LostTrack).await?;
                if number > 0 {
                    self.fill(0, number).await?;
                }
            }
            Verdict::Missing { from } => {
                self.fill(from, number).await?;
            }
        }
        self.apply(number, payload).await
    }

    async fn apply(&mut self, number: u64, payload: &[u8]) -> Result<(), Unwanted> {
        self.sequence.applied(number);
        match batch::decode(payload) {
            Ok(events) => self.tell(Heard::Events(events)).await,
            Err(why) => {
                say::warn(
                    "KV events are not understood",
                    &[("endpoint", &self.name), ("why", &why)],
                );
                self.tell(Heard::LostTrack).await
            }
        }
    }

    async fn tell(&self, heard: Heard) -> Result<(), Unwanted> {
        self.out.send(Input::Heard(self.identity, heard)).await.map_err(|_| Unwanted)
    }

    /// Asks for the messages from `from` up to and without `until`. What cannot be had is given up: the
    /// engine's cache is unknown then, up to what it stores from now on.
    async fn fill(&mut self, from: u64, until: u64) -> Result<(), Unwanted> {
        let missed = match &self.source.replay {
            None => Vec::new(),
            Some(address) => {
                let asked = tokio::time::timeout(REPLAY_PATIENCE, replay(address, from)).await;
                asked.ok().and_then(Result::ok).unwrap_or_default()
            }
        };
        let complete = missed.first().is_some_and(|(number, _)| *number == from)
            && missed.windows(2).all(|pair| pair[1].0 == pair[0].0.wrapping_add(1))
            && missed.last().is_some_and(|(number, _)| *number + 1 >= until);
        if !complete {
            return self.tell(Heard::LostTrack).await;
        }
        for (number, payload) in missed.iter().take_while(|(number, _)| *number < until) {
            self.apply(*number, payload).await?;
        }
        Ok(())
    }
}

fn number_of(frame: &[u8]) -> Option<u64> {
    frame.try_into().ok().map(u64::from_be_bytes)
}

/// What the engine kept from number `from` on.
async fn replay(address: &str, from: u64) -> Result<Vec<Message>, zeromq::ZmqError> {
    let mut socket = DealerSocket::new();
    socket.connect(address).await?;
    let mut question = ZmqMessage::from(Vec::new());
    question.push_back(from.to_be_bytes().to_vec().into());
    socket.send(question).await?;
    let mut messages = Vec::new();
    while messages.len() < REPLAY_MESSAGES_MAX {
        let frames = socket.recv().await?.into_vec();
        let [_, number, payload] = frames.as_slice() else { break };
        let Some(number) = number_of(number).filter(|number| *number != END) else { break };
        messages.push((number, payload.to_vec()));
    }
    Ok(messages)
}

#[cfg(test)]
#[path = "subscriber_tests.rs"]
mod tests;
