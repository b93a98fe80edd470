//! The body of a client's request in HTTP/1.1: read whole, within time and memory.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use crate::api::fault::Fault;
use crate::http::{BodyDecoder, BodyStep, ChunkError, Framing};
use crate::lifecycle::permit::{BodyBytes, Permit};
use crate::relay::core::Epoch;
use crate::relay::exchange::BodyError;
use crate::relay::inbound::Inbound;
use crate::runtime::buf::{Buf, LARGE_BYTES};
use crate::runtime::clock::{self, Instant};
use crate::runtime::wheel::Due;
use crate::shard::http1::{Http1, Read};

/// Room for a chunked body at first; it doubles as the body grows, bytes.
const CHUNKED_BODY_BYTES_FIRST: usize = 16 * 1024;
/// How often a request that waits for body memory asks again.
const ROOM_POLL: Duration = Duration::from_millis(10);

impl Http1 {
    /// Reads the whole body into `inbound`, unless it is there already.
    pub(super) async fn read_whole(
        &mut self,
        inbound: &mut Inbound,
        epoch: &Epoch,
    ) -> Result<(), BodyError> {
        let most = epoch.plan().limits.body_bytes_max;
        if let Framing::Length(length) = inbound.head.framing
            && length > most as u64
        {
            return Err(too_large(most));
        }
        if !self.body_unread {
            return Ok(());
        }
        if inbound.head.expect_continue && inbound.buf().len() == inbound.head.bytes {
            self.send_continue(epoch).await?;
        }
        match inbound.head.framing {
            Framing::Length(length) => self.read_length(inbound, length, epoch).await?,
            _ => self.read_chunked(inbound, epoch).await?,
        }
        self.body_unread = false;
        Ok(())
    }

    /// Reads once, within the body's deadline.
    async fn fill(&mut self, epoch: &Epoch, pace: &Pace, had: usize) -> Result<(), BodyError> {
        let at = clock::now().after(epoch.plan().timeouts.body).min(self.total_at);
        self.deadline.set_at(Due::Body, at.min(pace.until(had)));
        let read = self.read_in_time(false).await;
        self.deadline.clear();
        match read {
            Read::Bytes | Read::Noticed => Ok(()),
            Read::Late => Err(BodyError::Fault(Fault::SlowBody)),
            Read::Dismissed => Err(BodyError::Fault(Fault::ShuttingDown)),
            Read::End => {
                self.gone = true;
                Err(BodyError::Gone)
            }
        }
    }

    /// Asks `take` for memory until it gives some: as long as a body may be silent and the client stays.
    async fn patiently<T>(
        &mut self,
        epoch: &Epoch,
        mut take: impl FnMut() -> Option<T>,
    ) -> Result<T, BodyError> {
        let until = clock::now().after(epoch.plan().timeouts.body).min(self.total_at);
        loop {
            if let Some(taken) = take() {
                return Ok(taken);
            }
            if self.notice.dismissed() {
                return Err(BodyError::Fault(Fault::ShuttingDown));
            }
            if clock::now() >= until {
                return Err(BodyError::Fault(Fault::Overloaded { retry_after_s: 1 }));
            }
            if !self.wire.socket().established() {
                self.gone = true;
                return Err(BodyError::Gone);
            }
            clock::sleep(ROOM_POLL).await;
        }
    }

    /// Memory for so many body bytes.
    async fn room(&mut self, bytes: u64, epoch: &Epoch) -> Result<Permit<BodyBytes>, BodyError> {
        let ledgers = self.kit.ledgers.clone();
        self.patiently(epoch, || ledgers.take::<BodyBytes>(bytes)).await
    }

    async fn read_length(
        &mut self,
        inbound: &mut Inbound,
        length: u64,
        epoch: &Epoch,
    ) -> Result<(), BodyError> {
        let permit = self.room(length, epoch).await?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let mut body = self.kit.pool.take(length);
        body.limit(length);
        let head = inbound.head.bytes;
        body.append(&inbound.buf().filled()[head..]);
        inbound.buf().truncate(head);
        self.wire.set_input(body);
        let pace = Pace::begin(epoch);
        while !self.wire.input().is_full() {
            let had = self.wire.input().len();
            self.fill(epoch, &pace, had).await?;
        }
        inbound.set_body(self.wire.take_input(), permit);
        Ok(())
    }

    async fn read_chunked(
        &mut self,
        inbound: &mut Inbound,
        epoch: &Epoch,
    ) -> Result<(), BodyError> {
        let most = epoch.plan().limits.body_bytes_max;
        let first = CHUNKED_BODY_BYTES_FIRST;
        let mut permit = self.room(first as u64, epoch).await?;
        let mut body = self.kit.pool.take(first);
        let mut decoder = BodyDecoder::new(Framing::Chunked, epoch.chunk_limits());
        let rest = self.split(inbound, inbound.head.bytes);
        self.wire.set_input(rest);
        let pace = Pace::begin(epoch);
        loop {
            match self.chunk_step(&mut decoder, &mut body, most)? {
                Chunk::Done => break,
                Chunk::More => {
                    self.wire.make_room(LARGE_BYTES / 2);
                    self.fill(epoch, &pace, body.len()).await?;
                }
                Chunk::Full => {
                    let more = body.capacity();
                    self.patiently(epoch, || permit.extend(more as u64).then_some(())).await?;
                    let mut larger = self.kit.pool.take(more * 2);
                    larger.append(body.filled());
                    body = larger;
                }
            }
        }
        inbound.set_body(body, permit);
        Ok(())
    }

    /// Decodes one step of what was read. Consumes it, unless the body's buffer is full.
    fn chunk_step(
        &mut self,
        decoder: &mut BodyDecoder,
        body: &mut Buf,
        most: usize,
    ) -> Result<Chunk, BodyError> {
        loop {
            let input = self.wire.input();
            if body.room() < input.len() {
                return Ok(Chunk::Full);
            }
            let step = decoder.step(input.filled()).map_err(|error| {
                BodyError::Fault(match error {
                    ChunkError::TrailerBytes => Fault::HeadTooLarge,
                    other => Fault::HttpSyntax(other.message()),
                })
            })?;
            match step {
                BodyStep::Data { consumed, data } => {
                    if body.len() + data.len() > most {
                        return Err(too_large(most));
                    }
                    body.append(&input.filled()[data]);
                    input.consume(consumed);
                }
                BodyStep::More => {
                    input.clear();
                    return Ok(Chunk::More);
                }
                BodyStep::Done { consumed } => {
                    input.consume(consumed);
                    return Ok(Chunk::Done);
                }
            }
        }
    }

    async fn send_continue(&mut self, epoch: &Epoch) -> Result<(), BodyError> {
        let mut left: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
        self.deadline.set(Due::Body, clock::now(), epoch.plan().timeouts.body);
        while !left.is_empty() {
            match self.wire.send(left) {
                Ok(0) => self.room_in_time().await?,
                Ok(n) => left = &left[n..],
                Err(_) => return Err(BodyError::Gone),
            }
        }
        self.deadline.clear();
        Ok(())
    }

    async fn room_in_time(&mut self) -> Result<(), BodyError> {
        poll_fn(|cx| {
            if let Poll::Ready(ready) = self.wire.poll_writable(cx) {
                return Poll::Ready(ready.map_err(|_| BodyError::Gone));
            }
            self.deadline.poll_fired(cx).map(|_| Err(BodyError::Gone))
        })
        .await
    }
}

/// How slowly a body may come: its memory is reserved while it does.
struct Pace {
    began: Instant,
    grace: Duration,
    /// 0: none.
    bytes_per_second: u64,
}

impl Pace {
    fn begin(epoch: &Epoch) -> Self {
        let plan = epoch.plan();
        let bytes_per_second = plan.limits.body_bytes_per_second_min as u64;
        Self { began: clock::now(), grace: plan.timeouts.body, bytes_per_second }
    }

    /// By when more must have come than the `had` bytes that are there.
    fn until(&self, had: usize) -> Instant {
        let millis = (had as u64).saturating_mul(1_000).checked_div(self.bytes_per_second);
        let earned = Duration::from_millis(millis.unwrap_or(u64::from(u32::MAX)));
        self.began.after(self.grace.saturating_add(earned))
    }
}

enum Chunk {
    Done,
    More,
    Full,
}

fn too_large(most: usize) -> BodyError {
    BodyError::Fault(Fault::BodyTooLarge { bytes_max: most as u64 })
}
