use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::config::plan::EndpointId;
use crate::control::kv::batch::{Event, Stored};
use crate::route::precise::Ticket;

/// Engines of these identities serve the prompt; it is tokenised by the first.
const ENGINES: [u64; 3] = [7, 8, 9];
/// Tokens of a block.
const SIZE: u32 = 4;

struct World {
    keeper: Keeper,
    lanes: [Arc<Lane>; 2],
    rung: Arc<AtomicUsize>,
}

impl World {
    fn new() -> Self {
        let lanes = [Arc::new(Lane::default()), Arc::new(Lane::default())];
        let rung = Arc::new(AtomicUsize::new(0));
        let counted = rung.clone();
        let bell: Bell = Arc::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        let ways = lanes.iter().map(|lane| (lane.clone(), bell.clone())).collect();
        Self { keeper: Keeper::new(ways, Arc::default(), mpsc::channel(1).0), lanes, rung }
    }

    /// A prompt of two blocks was tokenised for the second shard; somebody waits for it, or nobody.
    fn tokenised(&mut self, waits: Option<&Arc<()>>) {
        self.said(prompt(waits), Some(tokens()));
    }

    /// What came of asking the first engine; no tokens: it was silent.
    fn said(&mut self, prompt: Prompt, tokens: Option<Vec<u32>>) {
        *self.keeper.under_way(&prompt) = 1;
        let (identities, tokens) = (ENGINES.into(), tokens.ok_or(Untold::Silent));
        let tokenised = Tokenised { shard: 1, identity: 7, identities, prompt, tokens };
        self.keeper.learn(tokenised);
    }

    fn stored(&mut self, identity: u64) {
        let stored = Stored {
            blocks: vec![10, 11],
            parent: None,
            tokens: tokens(),
            block_tokens: SIZE,
            adapter: 0,
            extras: Vec::new(),
        };
        self.keeper.heard(identity, &Heard::Events(vec![Event::Stored(stored)]));
    }

    /// What each shard was told.
    fn told(&self) -> [Vec<(u64, Change)>; 2] {
        self.lanes.each_ref().map(|lane| std::iter::from_fn(|| lane.changes.pop()).collect())
    }

    fn answer(&self) -> Told {
        assert_eq!(self.rung.load(Ordering::Relaxed), 1);
        let answer = self.lanes[1].answers.pop().expect("an answer");
        assert_eq!(answer.ticket, Ticket { place: 3, life: 5 });
        answer.told
    }
}

/// Somebody waits for it, or it was sent.
fn prompt(waits: Option<&Arc<()>>) -> Prompt {
    let ticket = Ticket { place: 3, life: 5 };
    Prompt {
        generation: 1,
        endpoint: EndpointId(0),
        endpoints: [0, 1, 2].map(EndpointId).into(),
        model: "m".into(),
        body: Box::default(),
        salt: Box::default(),
        blocks: [(1, 8), (2, 16)].into(),
        bytes: 16,
        waiter: waits.map(|waits| Waiter { ticket, waits: Arc::downgrade(waits) }),
    }
}

fn tokens() -> Vec<u32> {
    (0..2 * SIZE).collect()
}

/// Which of the two is heard first is chance; what was stored and then removed must be known as gone.
#[test]
fn a_prompt_that_comes_before_its_engines_first_block_is_placed_by_it() {
    let mut world = World::new();
    world.tokenised(None);
    world.stored(7);
    world.keeper.heard(7, &Heard::Events(vec![Event::Removed { blocks: vec![11] }]));
    let [others, own] = world.told();
    assert_eq!(own, [Change::Has(1), Change::Has(2), Change::Lost(2)].map(|change| (7, change)));
    assert_eq!(others, [(7, Change::Lost(2))], "who did not send it knows it from who did");
    assert!(world.keeper.early.is_empty());
}

/// One that says nothing must not make the others' blocks be told again with each event.
#[test]
fn a_prompt_that_waits_for_its_engine_is_placed_at_the_others_once() {
    let mut world = World::new();
    world.stored(8);
    world.tokenised(None);
    assert_eq!(world.told()[1], [(8, Change::Has(1)), (8, Change::Has(2))]);
    world.stored(9);
    let held = [Change::Holds(1), Change::Holds(2)];
    assert_eq!(world.told()[1], held.map(|change| (9, change)), "of the other one nothing anew");
    assert_eq!(world.keeper.early.len(), 1);
}

#[test]
fn who_waits_is_told_what_each_engine_has() {
    let mut world = World::new();
    ENGINES.iter().for_each(|identity| world.stored(*identity));
    let waits = Arc::new(());
    world.tokenised(Some(&waits));
    assert_eq!(world.answer(), Told { tokens: Some(2 * SIZE), everywhere: true });
    let [others, own] = world.told();
    assert_eq!((own.len(), others.len()), (2 * ENGINES.len(), 0));
}

#[test]
fn what_is_not_known_of_one_engine_is_said() {
    for gap in [false, true] {
        let mut world = World::new();
        ENGINES[gap.into()..].iter().for_each(|identity| world.stored(*identity));
        if gap {
            world.keeper.heard(7, &Heard::LostTrack);
            world.stored(7);
        }
        world.tokenised(Some(&Arc::new(())));
        let told = Told { tokens: Some(2 * SIZE), everywhere: !gap };
        assert_eq!(world.answer(), told, "{gap}");
    }
    let mut world = World::new();
    ENGINES[1..].iter().for_each(|identity| world.stored(*identity));
    world.tokenised(Some(&Arc::new(())));
    assert!(!world.answer().everywhere, "one has said nothing yet");
}

#[test]
fn a_lane_that_is_full_is_no_word_of_everything() {
    let mut world = World::new();
    ENGINES.iter().for_each(|identity| world.stored(*identity));
    while world.lanes[1].changes.push((0, Change::LostAll)).is_ok() {}
    world.tokenised(Some(&Arc::new(())));
    assert_eq!(world.answer(), Told { tokens: Some(2 * SIZE), everywhere: false });
}

/// The plan's engines, as the keeper gets them.
fn engines() -> Vec<tokens::Engine> {
    let text = "[server]\nlisten = \"127.0.0.1:1\"\n[[endpoints]]\nname = \"gpu\"\n\
                url = \"http://127.0.0.1:9\"\nengine = \"vllm\"\n[[models]]\nname = \"m\"\nendpoints = [\"gpu\"]\n";
    let plan = crate::config::parse(text, "f", std::path::Path::new("."), &|_| None, 1);
    let endpoint = plan.expect("a plan").endpoints.remove(0);
    let (_, addresses) = tokio::sync::watch::channel(Default::default());
    let engine = |(id, identity): (u16, u64)| tokens::Engine {
        generation: 1,
        endpoint_id: EndpointId(id),
        identity,
        endpoint: endpoint.clone(),
        addresses: addresses.clone(),
        isolates: false,
    };
    (0..).zip(ENGINES).map(engine).collect()
}

#[test]
fn an_engine_that_does_not_answer_is_passed_over_by_those_who_wait() {
    let mut world = World::new();
    world.keeper.adopt(engines());
    let waits = Arc::new(());
    let who = |world: &World, waits| world.keeper.who(&prompt(waits)).map(|one| one.identity);
    assert_eq!(who(&world, Some(&waits)), Some(7));
    world.said(prompt(Some(&waits)), None);
    assert_eq!(world.answer(), Told::default());
    assert_eq!((who(&world, Some(&waits)), who(&world, None)), (Some(8), Some(7)));
    world.said(prompt(None), Some(tokens()));
    assert_eq!(who(&world, Some(&waits)), Some(7), "it speaks again");
}

#[test]
fn nobody_is_asked_for_who_has_gone() {
    let mut world = World::new();
    world.keeper.adopt(engines());
    let (ask, sizes) = (crate::route::chain::Chain::default(), [1, 2]);
    let sent = |body| crate::route::precise::Sent {
        generation: 2,
        endpoint: EndpointId(0),
        endpoints: &[EndpointId(0)],
        model: "m",
        body,
        salt: b"",
    };
    let (lane, bytes) = (world.lanes[1].clone(), vec![0; 6 << 20]);
    for (place, size) in (0..).zip(sizes) {
        let waits = Arc::new(());
        let ticket = Ticket { place, life: 1 };
        let waiter = Waiter { ticket, waits: Arc::downgrade(&waits) };
        assert!(lane.ask(&sent(&bytes[..size << 20]), &ask, waiter));
    }
    let waits = Arc::new(());
    let waiter = || Waiter { ticket: Ticket { place: 3, life: 5 }, waits: Arc::downgrade(&waits) };
    assert!(!lane.ask(&sent(&bytes), &ask, waiter()), "so many bytes may wait");
    assert!(lane.ask(&sent(b"{}"), &ask, waiter()));
    world.keeper.look();
    assert_eq!(world.answer(), Told::default(), "its plan is another one");
    assert!(lane.answers.is_empty() && world.keeper.asked == 0);
    assert!(lane.ask(&sent(&bytes), &ask, waiter()), "their bytes are free again");
}
