//! A router as busy as one gets: many endpoints, a table that is mostly full, ten thousand conversations.

use serde_json::json;
use sluice::api::{Operation, read_ask};
use sluice::config::plan::{EndpointId, Policy};
use sluice::json::Bounds;
use sluice::route::candidate::Candidate;
use sluice::route::chain::{Chain, Root, read};
use sluice::route::endpoints::EndpointSet;
use sluice::route::router::{Decision, Flight, Inquiry, Places, Report, Router, Seat, Whose};

pub const ENDPOINTS: u16 = 64;
pub const CONVERSATIONS: u64 = 10_000;
const BOUNDS: Bounds = Bounds { depth_max: 128 };
const ROOT: Root<'_> = Root { model: "mock-model", adapter: "", salt: b"" };
const TEXT: &str = "The quick brown fox jumps over the lazy dog, and then goes on to do so again. ";
/// Length of the prompts that fill the table beside the conversations.
const OTHERS_BYTES: usize = 1 << 20;

/// The router with what its requests need.
pub struct Rig {
    pub router: Router,
    places: Places,
    columns: EndpointSet,
    now: u64,
}

/// The chain of a conversation with a prompt of about `bytes`.
pub fn prompt(chain: &mut Chain, number: u64, bytes: usize) {
    let user = format!("conversation {number:016} {}", TEXT.repeat(4));
    let turns = bytes.saturating_sub(user.len()) / (TEXT.len() * 20);
    let mut messages = vec![json!({"role": "user", "content": user})];
    for turn in 0..turns {
        let content = format!("{turn} {}", TEXT.repeat(20));
        messages.push(
            json!({"role": if turn % 2 == 0 { "assistant" } else { "user" }, "content": content}),
        );
    }
    let body = json!({"model": "mock-model", "messages": messages}).to_string();
    let ask = read_ask(Operation::Chat, body.as_bytes(), &BOUNDS).expect("a valid body");
    read(chain, &ROOT, body.as_bytes(), &ask);
}

impl Rig {
    /// A table of 64 MiB with `conversations` of `bytes` each, and with others until it is filled to `fill`.
    pub fn new(conversations: u64, bytes: usize, fill: f64) -> Self {
        let mut router = Router::new(64, false, 1);
        let endpoints: Vec<u64> = (1..=u64::from(ENDPOINTS)).collect();
        let places = router.adopt(&endpoints, &[7]);
        let columns = places.endpoints.iter().flatten().map(|slot| slot.index).collect();
        let mut rig = Self { router, places, columns, now: 1 };
        let mut chain = Chain::default();
        for number in 0..conversations {
            prompt(&mut chain, number, bytes);
            rig.turn(&chain);
        }
        let mut other = CONVERSATIONS * 1_000;
        while rig.router.table().stats().fill() < fill {
            prompt(&mut chain, other, OTHERS_BYTES);
            rig.turn(&chain);
            other += 1;
        }
        rig
    }

    /// Looks up and decides. Profilers find it by its name.
    #[inline(never)]
    pub fn decide(&mut self, chain: &Chain) -> (Decision, Whose) {
        self.now += 1_000_000;
        let model = self.places.models[0].expect("a slot");
        let prompt = chain.size();
        let whose = Whose { model, client: 1, session: None, prompt, computes: true };
        let inquiry = Inquiry {
            known: false,
            policy: Policy::PredictedTtft,
            whose,
            columns: &self.columns,
            chain,
            output_tokens_max: Some(256),
            session_ttl: 3_600_000_000_000,
        };
        let estimate = self.router.estimate(self.now, &inquiry);
        let seats = (0u16..).zip(&self.places.endpoints);
        let seats = seats.map(|(at, slot)| Seat { slot: *slot, candidate: candidate(at) });
        let decided = self.router.decide(self.now, &inquiry, &estimate, seats);
        (decided.expect("an endpoint"), whose)
    }

    /// A whole request.
    pub fn turn(&mut self, chain: &Chain) -> Decision {
        let (decision, whose) = self.decide(chain);
        let pick = *decision.picks().next().expect("a pick");
        let mut flight: Flight = self.router.dispatched(self.now, chain, &pick, &whose);
        self.now += 1_000_000;
        self.router.first_content(self.now, &mut flight);
        let tokens = chain.bytes() / 4;
        let report =
            Report { input_tokens: Some(tokens), cached_tokens: None, output_tokens: Some(99) };
        self.router.settled(self.now + 1_000_000, chain, &flight, &report);
        decision
    }
}

fn candidate(at: u16) -> Candidate {
    Candidate {
        requests: u64::from(at % 7),
        prefill_tokens: u64::from(at % 11) * 1_000,
        // So much that nothing grows too old to be believed: else the table would never fill.
        kv_tokens: Some(1 << 26),
        // Engines tell, and have others' requests, too.
        running: Some(u32::from(at % 7) * 2),
        waiting: Some(u32::from(at % 3)),
        ..Candidate::idle(EndpointId(at))
    }
}
