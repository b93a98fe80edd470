//! Returnable resources: dropping the permit gives them back, synchronously.

use std::marker::PhantomData;
use std::rc::Rc;

use super::inject;
use super::kind::Kind;
use super::ledger::Ledgers;

/// A marker type for one [`Kind`], so that permits of different kinds are different types.
pub trait Resource {
    const KIND: Kind;
}

macro_rules! resources {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        pub enum $name {}
        impl Resource for $name { const KIND: Kind = Kind::$name; }
    )*};
}

resources! {
    /// A client connection, from accept to close.
    Connection,
    /// One request on a connection, from its head to its outcome.
    Turn,
    /// A request's claim on the plan it began with.
    PlanPin,
    /// A request of one client key.
    KeySlot,
    /// The reserved place of one usage row.
    UsageRow,
    /// Bytes of request bodies held by the shard.
    BodyBytes,
    /// Bytes of answers that are held until they are whole.
    AnswerBytes,
    /// A request that waits for a place on an endpoint.
    QueuePlace,
    /// A place on an endpoint that takes only so many requests.
    EndpointPlace,
    /// A place on an endpoint for one model's request.
    ModelSlot,
    /// A response under way upstream.
    UpstreamStream,
    /// An upstream connection, in use or idle.
    UpstreamConnection,
    /// Bytes of I/O buffers, pooled ones not counted.
    StreamBuffer,
    /// An extra attempt.
    Retry,
    /// Uncached prompt tokens at an endpoint that has given no content yet.
    PrefillTokens,
    /// Prompt and expected output tokens in an endpoint's KV cache, estimated.
    KvTokens,
    /// A copy of a request, sent to its model's shadow.
    ShadowCopy,
    /// Bytes of heads and bodies that copies hold.
    ShadowBytes,
    /// Tokens held for a request (see [`super::hold::Hold`]).
    Spend,
}

/// `n` units of `R`, owned. Not `Clone`: each unit is given back exactly once.
#[must_use = "dropping a permit at once releases it"]
pub struct Permit<R: Resource> {
    ledgers: Rc<Ledgers>,
    n: u64,
    resource: PhantomData<R>,
}

impl<R: Resource> Permit<R> {
    pub(super) fn issued(ledgers: Rc<Ledgers>, n: u64) -> Self {
        Self { ledgers, n, resource: PhantomData }
    }

    /// Units held.
    pub fn amount(&self) -> u64 {
        self.n
    }

    /// Takes `more` units in addition; `false` (and no change) where the limit would be passed.
    pub fn extend(&mut self, more: u64) -> bool {
        let taken = self.ledgers.issue(R::KIND, more);
        if taken {
            self.n += more;
        }
        taken
    }
}

impl<R: Resource> Drop for Permit<R> {
    fn drop(&mut self) {
        if inject::leaks(R::KIND) {
            return;
        }
        self.ledgers.give(R::KIND, self.n);
    }
}
