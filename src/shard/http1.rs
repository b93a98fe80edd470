//! The client's side in HTTP/1.1.

use std::future::poll_fn;
use std::net::Shutdown;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::api::fault::Fault;
use crate::http::wire::Wire;
use crate::http::{Framing, Parsed, Reject, ResponseHead, Version, parse_request};
use crate::relay::core::Epoch;
use crate::relay::exchange::{BodyError, Exchange, Extent, FieldPair, Gone};
use crate::relay::inbound::Inbound;
use crate::runtime::buf::{Buf, MEDIUM_BYTES, SMALL_BYTES, TINY_BYTES};
use crate::runtime::clock::{self, Instant};
use crate::runtime::kit::Kit;
use crate::runtime::wheel::{Deadline, Due};
use crate::shard::handles::Notice;
use crate::shard::reply::{Reply, Terms};

/// In a drain: how long a connection that had requests may take for one that is on its way.
const LAST_CALL: Duration = Duration::from_millis(50);
/// The same for a connection that has not had its first: it was opened for one.
const LAST_CALL_FRESH: Duration = Duration::from_secs(1);
/// How often a client whose early bytes fill their bound is asked whether it still lives.
const PULSE: Duration = Duration::from_millis(200);

/// One connection of a client.
pub struct Http1 {
    pub(super) wire: Wire,
    pub(super) deadline: Deadline,
    pub(super) kit: Kit,
    pub(super) reply: Reply,
    pub(super) http10: bool,
    pub(super) keep_alive: bool,
    /// The request's body has not been read and does not stand in the buffer either.
    pub(super) body_unread: bool,
    pub(super) gone: bool,
    /// The answer broke off in its middle.
    pub(super) cut_short: bool,
    /// While a client with too many early bytes cannot be read from: when to look at it again.
    pub(super) pulse: Option<Deadline>,
    /// When the present request's whole time is up.
    pub(super) total_at: Instant,
    pub(super) pipeline_bytes_max: usize,
    pub(super) write_stall: Duration,
    /// A request has come on it.
    pub(super) used: bool,
    pub(super) notice: Rc<Notice>,
}

/// What came where a request should.
pub enum Next {
    Request,
    /// The client ended, or idled too long.
    End,
    /// Not a lawful head, or not in time.
    Fault(Fault),
}

impl Http1 {
    /// A fresh connection.
    pub fn new(wire: Wire, kit: Kit, notice: Rc<Notice>) -> Self {
        let deadline = kit.wheel.deadline(Some((wire.socket().clone(), Shutdown::Both)));
        Self {
            wire,
            deadline,
            kit,
            reply: Reply::default(),
            http10: false,
            keep_alive: true,
            body_unread: false,
            gone: false,
            cut_short: false,
            pulse: None,
            total_at: Instant::default(),
            pipeline_bytes_max: 0,
            write_stall: Duration::ZERO,
            used: false,
            notice,
        }
    }

    /// Ready when the TLS handshake, if there is one, is over; `false` when it failed.
    pub async fn handshake(&mut self, patience: Duration) -> bool {
        self.deadline.set(Due::Handshake, clock::now(), patience);
        let done = poll_fn(|cx| self.wire.poll_handshake(cx)).await.is_ok();
        self.deadline.clear();
        done
    }

    /// Waits for the next request's head.
    pub async fn next(&mut self, inbound: &mut Inbound, epoch: impl Fn() -> Rc<Epoch>) -> Next {
        self.deadline.aim(None);
        let mut began: Option<Instant> = None;
        loop {
            if !self.wire.input_is_the_kernels() && !self.wire.input().is_empty() {
                let now = *began.get_or_insert_with(clock::now);
                match self.parse(inbound, &epoch(), now) {
                    Ok(Parsed::Complete) => return Next::Request,
                    Ok(Parsed::Partial) => {}
                    Err(reject) => {
                        self.keep_alive = false;
                        self.reply.reset();
                        return Next::Fault(Fault::from(reject));
                    }
                }
                self.deadline.set(Due::Head, now, epoch().plan().timeouts.head);
                self.make_room_for_head(&epoch());
            } else {
                let idle = self.idle_patience(epoch().plan().timeouts.idle);
                self.deadline.set(Due::Idle, clock::now(), idle);
            }
            match self.read_in_time(began.is_none()).await {
                Read::Bytes | Read::Noticed => {}
                Read::Late if began.is_some() => return self.no_head(Next::Fault(Fault::SlowHead)),
                Read::Late | Read::End | Read::Dismissed => return self.no_head(Next::End),
            }
        }
    }

    fn no_head(&mut self, why: Next) -> Next {
        self.keep_alive = false;
        self.reply.reset();
        why
    }

    /// How long to wait for a request that has not begun.
    fn idle_patience(&self, configured: Duration) -> Duration {
        match (self.notice.given(), self.used) {
            (false, _) => configured,
            (true, false) => configured.min(LAST_CALL_FRESH),
            (true, true) => configured.min(LAST_CALL),
        }
    }

    /// Reads once, but not beyond the deadline: then the read stays armed, and the client's side open for
    /// what it may still send before it looks at its answer. `listen`: comes back when notice is given, too.
    pub(super) async fn read_in_time(&mut self, listen: bool) -> Read {
        let listen = listen && !self.notice.given();
        poll_fn(|cx| {
            if let Poll::Ready(read) = self.wire.poll_fill(cx) {
                let came = matches!(read, Ok(n) if n > 0);
                // A deadline that passed at the same moment is over.
                self.deadline.renew();
                return Poll::Ready(if came { Read::Bytes } else { Read::End });
            }
            if self.notice.dismissed() {
                return Poll::Ready(Read::Dismissed);
            }
            if listen && self.notice.heard(cx) {
                return Poll::Ready(Read::Noticed);
            }
            self.deadline.poll_fired(cx).map(|_| Read::Late)
        })
        .await
    }

    fn make_room_for_head(&mut self, epoch: &Epoch) {
        if self.wire.input().is_full() {
            let wanted = self.wire.input().len().max(1024);
            let most = epoch.head_limits().head_bytes_max + 1;
            self.wire.make_room(wanted.min(most));
        }
    }

    fn parse(
        &mut self,
        inbound: &mut Inbound,
        epoch: &Epoch,
        began: Instant,
    ) -> Result<Parsed, Reject> {
        let limits = epoch.head_limits();
        let plan = epoch.plan();
        // Before the verdict: a refusal, too, has its time to be sent.
        self.pipeline_bytes_max = plan.limits.pipeline_bytes_max;
        self.write_stall = plan.timeouts.write_stall;
        self.total_at = began.after(plan.timeouts.total);
        let parsed = parse_request(self.wire.input().filled(), &limits, &mut inbound.head)?;
        if parsed == Parsed::Complete {
            self.deadline.clear();
            self.begin(inbound, began);
        }
        Ok(parsed)
    }

    /// Splits what was read into the request and what follows it.
    fn begin(&mut self, inbound: &mut Inbound, began: Instant) {
        let buf = self.wire.take_input();
        let (head, filled) = (inbound.head.bytes, buf.len());
        self.http10 = inbound.head.version == Version::Http10;
        self.keep_alive &= inbound.head.keep_alive;
        self.used = true;
        let body = match inbound.head.framing {
            Framing::Length(n) => usize::try_from(n).unwrap_or(usize::MAX),
            Framing::Chunked => usize::MAX,
            _ => 0,
        };
        self.body_unread = body > filled - head;
        self.wire.expect(appetite(head.saturating_add(body)));
        inbound.begin(buf, began);
        if !self.body_unread {
            inbound.set_inline_body(head..head + body);
            let rest = self.split(inbound, head + body);
            self.wire.set_input(rest);
        }
        self.reply.reset();
    }

    /// Takes what stands in `inbound` from `at` on into a buffer of its own.
    pub(super) fn split(&self, inbound: &mut Inbound, at: usize) -> Buf {
        let buf = inbound.buf();
        if buf.len() <= at {
            return Buf::empty();
        }
        let mut rest = self.kit.pool.take(buf.len() - at);
        rest.append(&buf.filled()[at..]);
        buf.truncate(at);
        rest
    }

    /// Whether another request may follow on this connection.
    pub fn continues(&self) -> bool {
        let over = self.notice.given() || self.gone || self.reply.ends_with_connection();
        self.keep_alive && !self.body_unread && !over
    }

    /// Whether the last answer broke off and only a reset can say so: its end is the connection's.
    pub fn must_reset(&self) -> bool {
        self.cut_short && self.reply.ends_with_connection()
    }

    /// Whether the client has left.
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    fn terms(&self) -> Terms {
        let closes = !self.keep_alive || self.body_unread || self.notice.given();
        Terms { http10: self.http10, closes }
    }

    /// A client that cannot be read from any more is looked at now and then.
    fn poll_pulse(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let pulse = self.pulse.get_or_insert_with(|| {
                let pulse = self.kit.wheel.deadline(None);
                pulse.set(Due::Idle, clock::now(), PULSE);
                pulse
            });
            std::task::ready!(pulse.poll_fired(cx));
            self.pulse = None;
            if !self.wire.socket().established() {
                self.gone = true;
                return Poll::Ready(());
            }
        }
    }

    /// Whether nothing more may be read for now. Under TLS, early bytes gather up to their bound. On plain
    /// connections an armed read holds the input, and could not be taken from it when the next request's
    /// turn comes: so what one read brought is enough.
    fn early_bytes_full(&mut self) -> bool {
        if self.wire.input_is_the_kernels() {
            return false;
        }
        let most = if self.wire.reads_apart() { self.pipeline_bytes_max } else { 1 };
        let input = self.wire.input();
        input.capacity() > 0 && (input.is_full() || input.len() >= most)
    }

    /// Bounds the rest of this connection's life.
    pub(super) fn linger_until(&mut self, after: Duration) {
        let target = Some((self.wire.socket().clone(), Shutdown::Both));
        self.deadline = self.kit.wheel.deadline(target);
        self.deadline.set(Due::Linger, clock::now(), after);
    }
}

/// Room for the next request after one of so many bytes: one alike should come in one read. A body that is
/// larger gets a buffer of its own.
fn appetite(bytes: usize) -> usize {
    if (SMALL_BYTES..MEDIUM_BYTES).contains(&bytes) { MEDIUM_BYTES } else { SMALL_BYTES }
}

/// What became of a read with a deadline.
pub(super) enum Read {
    Bytes,
    End,
    Late,
    /// The shard drains.
    Noticed,
    /// The time to drain has run out.
    Dismissed,
}

impl Exchange for Http1 {
    async fn read_body(&mut self, inbound: &mut Inbound, epoch: &Epoch) -> Result<(), BodyError> {
        self.read_whole(inbound, epoch).await
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.gone || self.notice.dismissed() {
            return Poll::Ready(());
        }
        loop {
            if self.early_bytes_full() {
                return self.poll_pulse(cx);
            }
            match std::task::ready!(self.wire.poll_fill(cx)) {
                Ok(n) if n > 0 => {}
                _ => {
                    self.gone = true;
                    return Poll::Ready(());
                }
            }
        }
    }

    fn dismissed(&self) -> bool {
        !self.gone && self.notice.dismissed()
    }

    fn expect_silence(&mut self) {
        self.wire.expect(TINY_BYTES);
    }

    fn too_slow(&self) -> bool {
        self.deadline.fired() == Some(Due::WriteStall)
    }

    fn stage_head(&mut self, status: u16, fields: &[FieldPair<'_>], extent: Extent) {
        let terms = self.terms();
        self.reply.head(status, fields, extent, terms);
    }

    fn stage_upstream_head(
        &mut self,
        head: &ResponseHead,
        bytes: &[u8],
        fields: &[FieldPair<'_>],
        extent: Extent,
    ) {
        let terms = self.terms();
        self.reply.upstream_head(head, bytes, fields, extent, terms);
    }

    fn stage(&mut self, fill: impl FnOnce(&mut Vec<u8>)) {
        self.reply.body(fill);
    }

    fn stage_end(&mut self) {
        self.reply.end();
    }

    fn unstage(&mut self) {
        self.reply.unstage();
    }

    fn staged(&self) -> usize {
        self.reply.pending().len()
    }

    fn sent_bytes(&self) -> u64 {
        self.reply.sent_total()
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        if self.gone {
            return Poll::Ready(Err(Gone));
        }
        while !self.reply.pending().is_empty() || !self.wire.flushed() {
            match self.wire.send(self.reply.pending()) {
                Ok(n) if n > 0 => {
                    self.reply.advance(n);
                    self.deadline.clear();
                }
                Ok(_) => {
                    if std::task::ready!(self.poll_room(cx)).is_err() {
                        return Poll::Ready(Err(Gone));
                    }
                }
                Err(_) => {
                    self.gone = true;
                    return Poll::Ready(Err(Gone));
                }
            }
        }
        // Set while the client was slow; what has left cannot stall any more.
        self.deadline.clear();
        Poll::Ready(Ok(()))
    }

    fn close_after(&mut self) {
        self.keep_alive = false;
    }

    fn cut(&mut self) {
        self.keep_alive = false;
        self.cut_short = true;
    }
}

impl Http1 {
    /// Waits until the client takes bytes again, but not for ever.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        if !self.deadline.is_set() {
            self.deadline.aim(Some((self.wire.socket().clone(), Shutdown::Both)));
            let at = clock::now().after(self.write_stall).min(self.total_at);
            self.deadline.set_at(Due::WriteStall, at);
        }
        // A client that leaves while it is slow is gone all the same.
        if self.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(Gone));
        }
        let ready = std::task::ready!(self.wire.poll_writable(cx));
        if ready.is_err() || self.deadline.fired() == Some(Due::WriteStall) {
            self.gone = true;
            return Poll::Ready(Err(Gone));
        }
        Poll::Ready(Ok(()))
    }
}
