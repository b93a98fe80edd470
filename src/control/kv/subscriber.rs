//! The task that listens to one engine's KV events: messages in their order, missing ones asked for again.

use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;
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
    /// Something is missing for good: what is known holds no more, and there may be more.
    LostTrack,
    /// The process is another one, whose cache began empty.
    Restarted,
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
        match self.sequence.judge(number, xxh3_64(payload)) {
            Verdict::Known => return Ok(()),
            Verdict::Next => {}
            Verdict::Restart => self.restart(number).await?,
            Verdict::Missing { from } => self.fill(from, number).await?,
        }
        self.apply(number, payload).await
    }

    async fn apply(&mut self, number: u64, payload: &[u8]) -> Result<(), Unwanted> {
        self.sequence.applied(number, xxh3_64(payload));
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

    /// Another process, whose messages up to and without `until` were not heard.
    async fn restart(&mut self, until: u64) -> Result<(), Unwanted> {
        self.sequence.reset();
        self.tell(Heard::Restarted).await?;
        if until == 0 {
            return Ok(());
        }
        match self.missed(0, until).await {
            Missed::All(messages) => self.apply_all(&messages).await,
            Missed::OfAnother | Missed::Gone => self.tell(Heard::LostTrack).await,
        }
    }

    /// Asks for the messages from `from` up to and without `until`. What cannot be had is given up: the
    /// engine's cache is unknown then, up to what it stores from now on.
    async fn fill(&mut self, from: u64, until: u64) -> Result<(), Unwanted> {
        match self.missed(from, until).await {
            Missed::All(messages) => self.apply_all(&messages).await,
            Missed::OfAnother => self.restart(until).await,
            Missed::Gone => self.tell(Heard::LostTrack).await,
        }
    }

    async fn apply_all(&mut self, messages: &[Message]) -> Result<(), Unwanted> {
        for (number, payload) in messages {
            self.apply(*number, payload).await?;
        }
        Ok(())
    }

    /// The messages from `from` up to and without `until`. The one before them is asked for, too: it must be
    /// the one that is known.
    async fn missed(&self, from: u64, until: u64) -> Missed {
        let Some(address) = &self.source.replay else { return Missed::Gone };
        let asked = replay(address, from.saturating_sub(1));
        let asked = tokio::time::timeout(REPLAY_PATIENCE, asked).await;
        let mut messages = asked.ok().and_then(Result::ok).unwrap_or_default();
        if let Some((number, payload)) = messages.first().filter(|(number, _)| *number < from) {
            if self.sequence.judge(*number, xxh3_64(payload)) != Verdict::Known {
                return Missed::OfAnother;
            }
            messages.remove(0);
        }
        messages.retain(|(number, _)| *number < until);
        let expected = from..until;
        match messages.iter().map(|(number, _)| *number).eq(expected) {
            true => Missed::All(messages),
            false => Missed::Gone,
        }
    }
}

/// What became of asking for messages again.
enum Missed {
    All(Vec<Message>),
    /// The engine keeps other ones than those that were heard: it is another process.
    OfAnother,
    Gone,
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
        let Some(message) = repeated(&socket.recv().await?.into_vec()) else { break };
        messages.push(message);
    }
    Ok(messages)
}

/// A repeated message, of the frames that answer a question: an empty one, in newer releases the topic, then
/// number and payload. `None` ends the repetition.
fn repeated(frames: &[impl AsRef<[u8]>]) -> Option<Message> {
    let [_, .., number, payload] = frames else { return None };
    let number = number_of(number.as_ref()).filter(|number| *number != END)?;
    Some((number, payload.as_ref().to_vec()))
}

#[cfg(test)]
#[path = "subscriber_tests.rs"]
mod tests;
