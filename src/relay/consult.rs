//! Asking the engines what they hold of a prompt before it is sent to any of them.
//!
//! Other gateways may have sent its beginning somewhere. Where all of a model's engines tell of their caches,
//! the control plane knows their blocks, whoever filled them; what it lacks are the prompt's tokens. So an
//! engine tokenises the prompt first, and the shard's tables learn what is where before it decides.
//!
//! Invariants: a request waits here once, and no longer than its [`patience`] and a tick or two; whatever
//! comes of it, it goes on.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::config::plan::EndpointId;
use crate::lifecycle::inject::{self, Point};
use crate::relay::core::Core;
use crate::relay::exchange::Exchange;
use crate::relay::exit::Exit;
use crate::relay::stop::Stop;
use crate::route::chain::Chain;
use crate::route::precise::{Answer, QUESTIONS_MAX, Sent, Ticket, Told, Waiter};
use crate::runtime::wheel::Due;
use crate::telemetry::shard::Stage;

/// The way there and back, and an engine that is busy.
const PATIENCE: Duration = Duration::from_millis(50);
/// Added for each token to be computed otherwise: a fast tokeniser takes a tenth of it, an engine's prefill
/// several times as long.
const PATIENCE_PER_TOKEN: Duration = Duration::from_micros(10);
/// Whatever the prompt.
const PATIENCE_MAX: Duration = Duration::from_millis(300);

/// A prompt of which more may be known elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct Doubt {
    /// Who is to tokenise it.
    pub endpoint: EndpointId,
    /// Tokens that must be computed wherever it goes, as far as is known here.
    pub tokens: u32,
}

/// Requests of one shard that wait for an answer, [`QUESTIONS_MAX`] at most.
#[derive(Debug)]
pub struct Consults {
    places: RefCell<Vec<Place>>,
    /// The first life of each place: answers to an earlier life of the shard may still be on their way.
    first: u32,
}

/// A place in the list; its life tells its uses apart.
#[derive(Debug)]
struct Place {
    life: u32,
    waiting: Option<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    told: Option<Told>,
    waker: Option<Waker>,
}

impl Consults {
    /// Nobody waits yet; `first` differs between lives of a shard.
    pub fn new(first: u32) -> Self {
        Self { places: RefCell::default(), first }
    }

    /// A place for another request, if there is one.
    fn open(&self) -> Option<Ticket> {
        let mut places = self.places.borrow_mut();
        let free = places.iter().position(|place| place.waiting.is_none());
        let at = free.or_else(|| {
            (places.len() < QUESTIONS_MAX).then(|| {
                places.push(Place { life: self.first, waiting: None });
                places.len() - 1
            })
        })?;
        let place = &mut places[at];
        place.life = place.life.wrapping_add(1);
        place.waiting = Some(Waiting::default());
        Some(Ticket { place: at as u16, life: place.life })
    }

    fn close(&self, ticket: Ticket) {
        self.with(ticket, |place| place.waiting = None);
    }

    /// An answer came. It may come too late: then the place is free, or somebody else's.
    pub fn hear(&self, answer: Answer) {
        let waker = self.with(answer.ticket, |place| {
            let waiting = place.waiting.as_mut()?;
            waiting.told = Some(answer.told);
            waiting.waker.take()
        });
        if let Some(waker) = waker.flatten() {
            waker.wake();
        }
    }

    fn poll(&self, ticket: Ticket, cx: &Context<'_>) -> Poll<Told> {
        let told = self.with(ticket, |place| {
            let Some(waiting) = place.waiting.as_mut() else { return Some(Told::default()) };
            waiting.waker = Some(cx.waker().clone());
            waiting.told
        });
        told.flatten().map_or(Poll::Pending, Poll::Ready)
    }

    /// How many have begun to wait.
    #[cfg(test)]
    pub fn begun(&self) -> u32 {
        self.places.borrow().iter().map(|place| place.life.wrapping_sub(self.first)).sum()
    }

    /// How many wait.
    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.places.borrow().iter().filter(|place| place.waiting.is_some()).count()
    }

    fn with<T>(&self, ticket: Ticket, act: impl FnOnce(&mut Place) -> T) -> Option<T> {
        let mut places = self.places.borrow_mut();
        let place = places.get_mut(usize::from(ticket.place))?;
        (place.life == ticket.life).then(|| act(place))
    }
}

/// A question under way. Its drop gives up the answer.
pub struct Consultation {
    core: Rc<Core>,
    ticket: Ticket,
    patience: Duration,
    /// Dropped with it: then nobody need answer.
    _waits: Arc<()>,
}

impl Consultation {
    /// Asks, if there is room for another question.
    pub fn begin(core: &Rc<Core>, sent: &Sent<'_>, chain: &Chain, doubt: Doubt) -> Option<Self> {
        let lane = core.precise()?;
        let ticket = core.consults.open()?;
        let patience = patience(doubt.tokens);
        let _waits = Arc::new(());
        let waiter = Waiter { ticket, waits: Arc::downgrade(&_waits) };
        let consultation = Self { core: core.clone(), ticket, patience, _waits };
        lane.ask(sent, chain, waiter).then_some(consultation)
    }

    /// Waits for the answer, and notes it.
    ///
    /// # Errors
    /// The client left.
    pub async fn wait<X: Exchange>(self, exit: &mut Exit, x: &mut X) -> Result<(), Stop> {
        exit.worked(Stage::Place);
        let deadline = self.core.kit.wheel.deadline(None);
        deadline.set_at(Due::Consult, exit.mark().after(self.patience).min(exit.total));
        let told = poll_fn(|cx| {
            if x.poll_gone(cx).is_ready() {
                return Poll::Ready(Err(Stop::Gone));
            }
            if deadline.poll_fired(cx).is_ready() {
                return Poll::Ready(Ok(Told::default()));
            }
            self.core.consults.poll(self.ticket, cx).map(Ok)
        })
        .await;
        exit.row.consulted_micros = Some(exit.waited(Stage::Consult).as_micros() as u64);
        exit.told = Some(told?);
        inject::point(Point::Consulted);
        Ok(())
    }
}

impl Drop for Consultation {
    fn drop(&mut self) {
        self.core.consults.close(self.ticket);
    }
}

/// How long it may take to be told of a prompt that otherwise has so many tokens to be computed.
pub fn patience(tokens: u32) -> Duration {
    (PATIENCE + PATIENCE_PER_TOKEN * tokens).min(PATIENCE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(consults: &Consults, ticket: Ticket) -> Poll<Told> {
        consults.poll(ticket, &Context::from_waker(Waker::noop()))
    }

    #[test]
    fn answers_reach_who_asked_and_nobody_else() {
        let consults = Consults::new(7);
        let (first, second) = (consults.open().unwrap(), consults.open().unwrap());
        assert_eq!(
            (poll(&consults, first), poll(&consults, second)),
            (Poll::Pending, Poll::Pending)
        );
        let told = Told { tokens: Some(7), everywhere: true };
        consults.hear(Answer { ticket: second, told });
        assert_eq!(
            (poll(&consults, first), poll(&consults, second)),
            (Poll::Pending, Poll::Ready(told))
        );
        consults.close(first);
        let third = consults.open().unwrap();
        assert_eq!((third.place, third == first), (first.place, false));
        consults.hear(Answer { ticket: first, told });
        assert_eq!(poll(&consults, third), Poll::Pending, "it came too late, for another one");
    }

    #[test]
    fn only_so_many_wait() {
        let consults = Consults::new(7);
        let open: Vec<_> = std::iter::from_fn(|| consults.open()).take(QUESTIONS_MAX + 1).collect();
        assert_eq!(open.len(), QUESTIONS_MAX);
        consults.close(open[3]);
        assert_eq!(consults.open().unwrap().place, open[3].place);
    }
}
