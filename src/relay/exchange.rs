//! The client's side of one request, whatever HTTP version carries it.

use std::task::{Context, Poll};

use crate::api::fault::Fault;
use crate::http::ResponseHead;
use crate::relay::core::Epoch;
use crate::relay::inbound::Inbound;

/// A header field of our own: a name, and a value without control characters.
pub type FieldPair<'a> = (&'static str, &'a [u8]);

/// The client left, or its connection broke: nobody is there to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// Why a request's body could not be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyError {
    Gone,
    Fault(Fault),
}

/// How much of an answer follows its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// No body.
    None,
    /// So many bytes.
    Length(u64),
    /// As it comes.
    Open,
}

/// One request and its answer. Answers are staged and then flushed: what is staged before the first
/// flush leaves together, which is how a head waits for its first event.
pub trait Exchange {
    /// Reads the request's whole body into `inbound`.
    fn read_body(
        &mut self,
        inbound: &mut Inbound,
        epoch: &Epoch,
    ) -> impl Future<Output = Result<(), BodyError>>;

    /// Ready once the client has left, or must be left. To be polled beside every wait.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// The client is there, but the gateway is going: a drain has lasted as long as it may.
    fn dismissed(&self) -> bool;

    /// The answer will take long, and the client should send nothing meanwhile: little memory is to wait
    /// for it.
    fn expect_silence(&mut self);

    /// Whether the client was given up because it took too long to read.
    fn too_slow(&self) -> bool;

    /// Stages a head of our own.
    fn stage_head(&mut self, status: u16, fields: &[FieldPair<'_>], extent: Extent);

    /// Stages an endpoint's head with `fields` in addition; `bytes` are what its spans point into.
    fn stage_upstream_head(
        &mut self,
        head: &ResponseHead,
        bytes: &[u8],
        fields: &[FieldPair<'_>],
        extent: Extent,
    );

    /// Stages body bytes: the parts that `fill` appends, as one frame.
    fn stage(&mut self, fill: impl FnOnce(&mut Vec<u8>));

    /// Stages the end of the body.
    fn stage_end(&mut self);

    /// Takes back what was staged; only before the first flush.
    fn unstage(&mut self);

    /// Bytes staged and not yet taken by the kernel.
    fn staged(&self) -> usize;

    /// Bytes that left so far.
    fn sent_bytes(&self) -> u64;

    /// Sends what is staged; ready when all of it has left.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>>;

    /// The connection closes once this answer is over.
    fn close_after(&mut self);

    /// The answer ends here, in its middle, and must not be taken for whole.
    fn cut(&mut self);
}
