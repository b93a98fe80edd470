//! What all connections of a server share: the engine, who sits at which sequence, the counts.
//!
//! Everything runs on one thread, so it is plain data behind a `RefCell` that no await crosses.

use super::config::{DefaultFault, Scope, ServerConfig};
use super::counts::{Abort, Book, End};
use super::head::unix_now;
use super::live::{Live, State};
use super::metrics::{Metrics, Track};
use crate::api::{Generation, Op};
use crate::engine::{Engine, Output, Request, SeqId, Time, TooLong};
use crate::fault::Faults;
use crate::text::mix;
use std::cell::RefCell;
use std::rc::Rc;

/// Who gets a sequence's outputs.
struct Seat {
    seq: SeqId,
    live: Rc<RefCell<Live>>,
    choice: usize,
    track: Track,
}

/// The shared state.
pub struct Core {
    pub engine: Engine,
    pub book: Book,
    pub metrics: Metrics,
    pub fault: Option<DefaultFault>,
    /// By slot of the sequence.
    seats: Vec<Option<Seat>>,
    seed: u64,
    rolls: u64,
}

impl Core {
    pub fn new(config: &ServerConfig) -> Self {
        let model = config.models.first().map_or("", String::as_str);
        let mut engine = Engine::new(config.engine());
        if config.kv_events.is_some() {
            engine.tell();
        }
        Self {
            engine,
            book: Book::default(),
            metrics: Metrics::new(model),
            fault: config.fault.clone(),
            seats: Vec::new(),
            seed: config.seed,
            rolls: 0,
        }
    }

    /// The default fault, if it strikes this request.
    pub fn roll(&mut self, inference: bool) -> Option<Faults> {
        let fault = self.fault.as_mut()?;
        if !inference && fault.scope == Scope::Inference {
            return None;
        }
        self.rolls += 1;
        let drawn = (mix(self.seed, self.rolls) >> 11) as f64 / (1u64 << 53) as f64;
        let left = fault.times.unwrap_or(u64::MAX);
        if drawn >= fault.probability || left == 0 {
            return None;
        }
        fault.times = fault.times.map(|times| times - 1);
        Some(fault.faults.clone())
    }

    /// The engine's requests for a generation.
    pub fn requests(run: &Generation, stride: u32) -> Vec<Request> {
        run.sequences
            .iter()
            .map(|plan| Request {
                prompt: plan.prompt.clone(),
                output_tokens: plan.output_tokens,
                voice: plan.script.voice(),
                stride,
            })
            .collect()
    }

    /// Gives an answer's sequences to the engine.
    pub fn submit(
        &mut self,
        now: Time,
        live: &Rc<RefCell<Live>>,
        requests: Vec<Request>,
    ) -> Result<(), TooLong> {
        for (choice, request) in requests.into_iter().enumerate() {
            let track = Track { prompt_tokens: request.prompt.tokens, first_token: 0 };
            let seq = self.engine.submit(now, request)?;
            live.borrow_mut().seat(choice, seq);
            let slot = seq.slot as usize;
            if slot >= self.seats.len() {
                self.seats.resize_with(slot + 1, || None);
            }
            self.seats[slot] = Some(Seat { seq, live: live.clone(), choice, track });
        }
        Ok(())
    }

    /// Hands a step's outputs to their answers, which write them out.
    pub fn deliver(&mut self, outputs: &[Output]) {
        for output in outputs {
            let place = self.seats.get_mut(output.seq.slot as usize);
            let Some(place) = place else { continue };
            let Some(seat) = place.as_mut().filter(|seat| seat.seq == output.seq) else { continue };
            if output.first == 0 {
                seat.track.first_token = output.at;
            }
            let progress = seat.live.borrow_mut().output(seat.choice, output);
            self.metrics.output(output, progress.last_at);
            if output.last {
                self.metrics.finish(output, seat.track, progress.finish);
                *place = None;
            }
        }
    }

    /// Ends what is left of an answer in the engine; whether anything was.
    pub fn release(&mut self, live: &Rc<RefCell<Live>>) -> bool {
        let sequences = live.borrow().sequences();
        for seq in &sequences {
            if self.engine.abort(*seq).is_some() {
                self.metrics.abort();
            }
            self.seats[seq.slot as usize] = None;
        }
        !sequences.is_empty()
    }

    /// Books that a client left its answer.
    pub fn abort(&mut self, op: Op, id: Option<&str>, live: Option<&Rc<RefCell<Live>>>) {
        let (phase, tokens) = match live {
            None => ("fault", 0),
            Some(live) => {
                self.release(live);
                let live = live.borrow();
                let tokens = live.usage().completion;
                match live.state() {
                    State::Silent => ("fault", tokens),
                    _ if tokens == 0 => ("prefill", 0),
                    _ => ("decode", tokens),
                }
            }
        };
        let unix_ns = u64::try_from(unix_now().as_nanos()).unwrap_or(u64::MAX);
        let id = id.unwrap_or_default().to_string();
        self.book.end(End::Aborted(Abort { id, op: op.name(), phase, unix_ns, tokens }));
    }
}
