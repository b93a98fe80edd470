//! Copies of requests to a model's shadow, whose answers are read and thrown away.
//!
//! A copy takes over the request's own buffers once the request needs them no more, and goes the way of every
//! request (choice, attempt, answer) in a task of its own, with nobody as its client. What it comes to is
//! compared with the request's end.
//!
//! Invariants: a request never waits for its copy, nor for want of what a copy has: copies have their own
//! bounds in number, rate and bytes, beyond which they are dropped, and endpoints of their own; they are
//! tried once, go first in a drain, write no rows, and count as nobody's requests.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::api::ask::Ask;
use crate::api::fault::Fault;
use crate::config::plan::{Limits, ModelId};
use crate::http::ResponseHead;
use crate::lifecycle::outcome::Outcome;
use crate::lifecycle::permit::{Permit, ShadowBytes, ShadowCopy};
use crate::relay::choose::{self, Choice, Order};
use crate::relay::core::{Core, Epoch};
use crate::relay::exchange::{BodyError, Exchange, Extent, FieldPair, Gone};
use crate::relay::exit::Exit;
use crate::relay::ids::Id;
use crate::relay::inbound::Inbound;
use crate::relay::isolate::{self, Salt};
use crate::relay::places::Work;
use crate::relay::queue::Seated;
use crate::relay::state::{Accepted, Admitted};
use crate::relay::stop::Stop;
use crate::relay::{place, serve};
use crate::runtime::clock::{self, Instant};
use crate::runtime::task;
use crate::telemetry::shadow::{Fate, ShadowSeries, Side};

/// A shard's copies.
#[derive(Default)]
pub struct Shadows {
    pace: Pace,
    next: Cell<u64>,
    /// Whom to wake when the copies must go.
    running: RefCell<BTreeMap<u64, Option<Waker>>>,
    closed: Cell<bool>,
}

impl Shadows {
    /// Ends every copy, and lets no other begin.
    pub fn close(&self) {
        self.closed.set(true);
        let wakers: Vec<Waker> =
            self.running.borrow_mut().values_mut().filter_map(Option::take).collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    fn enter(self: &Rc<Self>) -> Nobody {
        let id = self.next.get();
        self.next.set(id + 1);
        self.running.borrow_mut().insert(id, None);
        Nobody { shadows: self.clone(), id, scratch: Vec::new() }
    }
}

/// One copy, in billionths of it.
const COPY: u64 = 1_000_000_000;

/// How many copies may begin: those of one second at once, and as many in each second.
#[derive(Default)]
struct Pace {
    /// In billionths of a copy: so many come with each nanosecond, and none is lost to rounding.
    saved_billionths: Cell<u64>,
    at: Cell<Instant>,
}

impl Pace {
    fn take(&self, now: Instant, per_second: u64) -> bool {
        let passed = now.nanos().saturating_sub(self.at.replace(now).nanos());
        let most = per_second.saturating_mul(COPY);
        let saved = self.saved_billionths.get().saturating_add(passed.saturating_mul(per_second));
        let saved = saved.min(most);
        let enough = saved >= COPY;
        self.saved_billionths.set(if enough { saved - COPY } else { saved });
        enough
    }
}

/// What a copy holds of the shard.
struct Claim {
    _copy: Permit<ShadowCopy>,
    _bytes: Permit<ShadowBytes>,
}

impl Claim {
    fn take(core: &Core, limits: &Limits, bytes: usize) -> Result<Self, Fate> {
        let ledgers = &core.kit.ledgers;
        let copy = ledgers.take::<ShadowCopy>(1).filter(|_| !core.shadows.closed.get());
        let copy = copy.ok_or(Fate::Crowded)?;
        let bytes = ledgers.take::<ShadowBytes>(bytes as u64).ok_or(Fate::Large)?;
        let per_second = limits.shadow_requests_per_second_max as u64;
        let paced = core.shadows.pace.take(clock::now(), per_second);
        paced.then_some(Self { _copy: copy, _bytes: bytes }).ok_or(Fate::Hurried)
    }
}

/// A request and its copy, until both are over: whoever is last has them compared.
pub struct Comparison {
    series: Arc<ShadowSeries>,
    request: Cell<Option<Side>>,
    copy: Cell<Option<Side>>,
}

impl Comparison {
    /// One of the two has ended.
    pub fn tell(&self, is_copy: bool, side: Side) {
        let place = if is_copy { &self.copy } else { &self.request };
        place.set(Some(side));
        if let (Some(request), Some(copy)) = (self.request.get(), self.copy.get()) {
            self.series.compare(&request, &copy);
        }
    }
}

/// A copy that is about to go.
struct Copy {
    core: Rc<Core>,
    epoch: Rc<Epoch>,
    inbound: Inbound,
    ask: Box<Ask>,
    to: ModelId,
    /// The request's own: endpoints' logs tell who belongs together.
    ids: (Id, Id),
    salt: Option<Box<Salt>>,
    comparison: Rc<Comparison>,
    _claim: Claim,
}

/// Copies the request, if its model has a shadow and there is room: to be called once every attempt was made,
/// because head and body are taken from it.
pub fn offer(core: &Rc<Core>, exit: &mut Exit, inbound: &mut Inbound, admitted: &Admitted) {
    let epoch = exit.epoch.clone();
    let plan = epoch.plan();
    let Some(id) = plan.models[usize::from(admitted.model.0)].shadow else { return };
    let (shadow, series) =
        (&plan.shadows[usize::from(id.0)], &epoch.series().shadows[usize::from(id.0)]);
    if core.kit.random() % 100 >= u64::from(shadow.percent) {
        return;
    }
    // Of a request that no engine could keep apart there, no copy is made.
    let Ok(salt) = isolate::of_copy(exit, inbound, &admitted.ask, shadow.to) else { return };
    let claim = match Claim::take(core, &plan.limits, inbound.held_bytes()) {
        Ok(claim) => claim,
        Err(fate) => return series.drawn(fate),
    };
    series.drawn(Fate::Sent);
    let comparison = Rc::new(Comparison {
        series: series.clone(),
        request: Cell::new(None),
        copy: Cell::new(None),
    });
    exit.comparison = Some(comparison.clone());
    let copy = Copy {
        core: core.clone(),
        epoch: epoch.clone(),
        inbound: inbound.take(clock::now()),
        ask: admitted.ask.clone(),
        to: shadow.to,
        ids: (exit.request_id, exit.traceparent),
        salt,
        comparison,
        _claim: claim,
    };
    task::spawn(async move {
        // A panic is this copy's alone.
        if task::caught(copy.run()).await.is_err() {
            epoch.series().shard.panics.inc();
        }
    });
}

impl Copy {
    async fn run(self) {
        let Self { core, epoch, mut inbound, ask, to, ids, salt, comparison, _claim } = self;
        let mut exit = Exit::begin(epoch.clone(), &inbound, &core.kit);
        exit.copy_of(ids, comparison);
        exit.salt = salt;
        exit.operation(ask.op);
        let mut nobody = core.shadows.enter();
        let admitted = Accepted::enter(&core, epoch).and_then(|it| it.for_nobody(&core, to, ask));
        let ended = match admitted {
            Ok(admitted) => stages(&core, &mut exit, &mut inbound, &mut nobody, admitted).await,
            Err(fault) => Err(fault.into()),
        };
        exit.end(ended.unwrap_or_else(|stop| stop.outcome()));
    }
}

/// As [`serve::serve`] has them, from the choice on; of its endpoints only the best is tried.
async fn stages(
    core: &Rc<Core>,
    exit: &mut Exit,
    inbound: &mut Inbound,
    x: &mut Nobody,
    admitted: Admitted,
) -> Result<Outcome, Stop> {
    // Nobody waits in line for a copy.
    let Choice::Go(order) = choose::choose(core, exit, inbound, &admitted, false)? else {
        return Err(Fault::Unavailable { retry_after_s: None }.into());
    };
    let best = order.endpoints().first().ok_or(Fault::Unavailable { retry_after_s: None })?;
    let work = Work { model: admitted.model, tenant: 0, tokens: 1 };
    let mut best = Seated { order: Order::of(std::iter::once(*best)), place: None, work };
    let (lease, mut opening) = place::place(core, exit, inbound, x, &admitted, &mut best).await?;
    let mut placed = admitted.place(lease);
    let (outcome, usage) = serve::relay(&mut placed, &mut opening, exit, inbound, x).await?;
    serve::settle(placed, &usage, exit);
    Ok(outcome)
}

/// The client of a copy: takes everything, keeps nothing, and leaves only when copies must go.
struct Nobody {
    shadows: Rc<Shadows>,
    id: u64,
    scratch: Vec<u8>,
}

impl Drop for Nobody {
    fn drop(&mut self) {
        self.shadows.running.borrow_mut().remove(&self.id);
    }
}

impl Exchange for Nobody {
    async fn read_body(&mut self, _: &mut Inbound, _: &Epoch) -> Result<(), BodyError> {
        Ok(())
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.shadows.closed.get() {
            return Poll::Ready(());
        }
        if let Some(waker) = self.shadows.running.borrow_mut().get_mut(&self.id)
            && !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    fn dismissed(&self) -> bool {
        false
    }

    fn expect_silence(&mut self) {}

    fn too_slow(&self) -> bool {
        false
    }

    fn stage_head(&mut self, _: u16, _: &[FieldPair<'_>], _: Extent) {}

    fn stage_upstream_head(&mut self, _: &ResponseHead, _: &[u8], _: &[FieldPair<'_>], _: Extent) {}

    fn stage(&mut self, fill: impl FnOnce(&mut Vec<u8>)) {
        fill(&mut self.scratch);
        self.scratch.clear();
    }

    fn stage_end(&mut self) {}

    fn unstage(&mut self) {}

    fn staged(&self) -> usize {
        0
    }

    fn sent_bytes(&self) -> u64 {
        0
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        Poll::Ready(Ok(()))
    }

    fn close_after(&mut self) {}

    fn cut(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    #[test]
    fn asking_often_wastes_nothing() {
        let pace = Pace::default();
        let begin = Instant::default().after(Duration::from_secs(100));
        let times = (0..20_000u64).map(|at| begin.after(Duration::from_micros(at * 500)));
        let begun = times.filter(|now| pace.take(*now, 1)).count();
        assert_eq!(begun, 10);
    }

    proptest! {
        #[test]
        fn no_second_has_more_copies_than_it_may(
            per_second in 1u64..50, gaps in prop::collection::vec(0u64..300, 1..400),
        ) {
            let pace = Pace::default();
            let mut now = Instant::default().after(Duration::from_secs(100));
            let mut begun: Vec<Instant> = Vec::new();
            for gap in gaps {
                now = now.after(Duration::from_millis(gap));
                if pace.take(now, per_second) {
                    begun.push(now);
                }
                let second = begun.iter().filter(|at| now.since(**at) < Duration::from_secs(1));
                // What was saved, and what came meanwhile.
                prop_assert!(second.count() as u64 <= 2 * per_second);
            }
            prop_assert!(!begun.is_empty());
            // In the long run exactly so many, and one second's in advance.
            let whole = now.since(begun[0]).as_millis() as u64 * per_second / 1_000;
            prop_assert!(begun.len() as u64 <= whole + per_second + 1);
        }
    }
}
