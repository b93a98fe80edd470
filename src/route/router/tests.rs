//! A router between simulated endpoints that cache whatever they are sent.

use std::collections::HashSet;

use super::*;
use crate::api::operation::Operation;
use crate::api::read_ask;
use crate::json::Bounds;
use crate::route::chain::{self, Root};
use crate::route::precise::Change;

const ENDPOINTS: u64 = 4;
const SECOND: Nanos = 1_000_000_000;

/// A router with its plan, and what endpoints have to do.
struct World {
    router: Router,
    places: Places,
    columns: EndpointSet,
    requests: [u64; ENDPOINTS as usize],
    now: Nanos,
    op: Operation,
    /// Whether prompts are computed, or only counted.
    computes: bool,
    /// Of the engines' caches.
    block_tokens: Option<u32>,
    /// Requests that each engine says it has.
    busy: Option<u32>,
}

/// One request under way.
struct Sent {
    chain: Chain,
    decision: Decision,
    forked: bool,
    flight: Flight,
}

impl World {
    fn new(listened: bool, seed: u64) -> Self {
        let mut router = Router::new(1, listened, seed);
        let endpoints: Vec<u64> = (1..=ENDPOINTS).collect();
        let places = router.adopt(&endpoints, &[77]);
        let columns = places.endpoints.iter().flatten().map(|slot| slot.index).collect();
        let (requests, now, op) = ([0; ENDPOINTS as usize], SECOND, Operation::Chat);
        let (computes, block_tokens, busy) = (true, Some(16), None);
        Self { router, places, columns, requests, now, op, computes, block_tokens, busy }
    }

    fn send(&mut self, messages: &str, session: Option<u64>) -> Sent {
        let body = format!("{{\"model\":\"m\",\"messages\":[{messages}]}}");
        let bounds = Bounds { depth_max: 64 };
        let ask = read_ask(self.op, body.as_bytes(), &bounds).expect("lawful");
        let mut chain = self.router.chain();
        chain::read(&mut chain, &Root::default(), body.as_bytes(), &ask);
        let model = self.places.models[0].expect("a slot");
        let (prompt, computes) = (chain.size(), self.computes);
        let whose = Whose { model, client: 1, session, prompt, computes };
        let inquiry = Inquiry {
            known: false,
            policy: Policy::PredictedTtft,
            whose,
            columns: &self.columns,
            chain: &chain,
            output_tokens_max: Some(64),
            session_ttl: 3600 * SECOND,
        };
        let estimate = self.router.estimate(self.now, &inquiry);
        let (requests, block_tokens, busy) = (self.requests, self.block_tokens, self.busy);
        let seats = (0u16..).zip(&self.places.endpoints).map(|(at, slot)| Seat {
            slot: *slot,
            candidate: Candidate {
                requests: requests[usize::from(at)],
                block_tokens,
                running: busy,
                waiting: busy.map(|_| 0),
                ..Candidate::idle(EndpointId(at))
            },
        });
        let decision =
            self.router.decide(self.now, &inquiry, &estimate, seats).expect("an endpoint");
        let pick = *decision.picks().next().expect("a pick");
        let forked = self.router.forked(self.now);
        let flight = self.router.dispatched(self.now, &chain, &pick, &whose);
        Sent { chain, decision, forked, flight }
    }

    /// Sent, answered with these counts.
    fn turn(&mut self, messages: &str, report: &Report) -> Sent {
        let mut sent = self.send(messages, None);
        self.now += SECOND / 10;
        self.router.first_content(self.now, &mut sent.flight);
        self.now += SECOND / 10;
        self.router.settled(self.now, &sent.chain, &sent.flight, report);
        sent
    }
}

fn first(sent: &Sent) -> Pick {
    *sent.decision.picks().next().expect("a pick")
}

/// `turns` turns of a conversation of its own, 2 KB each.
fn conversation(name: &str, turns: usize) -> String {
    let turn = |at| {
        format!("{{\"role\":\"user\",\"content\":\"{}\"}}", format!("{name} {at} ").repeat(250))
    };
    (0..turns).map(turn).collect::<Vec<_>>().join(",")
}

#[test]
fn a_growing_conversation_stays_and_its_tokens_become_known() {
    let mut world = World::new(false, 1);
    let mut told = 0;
    let mut place = None;
    for turns in 1..10 {
        let messages = conversation("a", turns);
        // This engine has three bytes a token.
        let input = messages.len() as u64 / 3;
        let report =
            Report { input_tokens: Some(input), cached_tokens: Some(told), output_tokens: Some(9) };
        let sent = world.turn(&messages, &report);
        let pick = first(&sent);
        assert_eq!(*place.get_or_insert(pick.endpoint), pick.endpoint);
        if turns > 2 {
            let expected = u64::from(pick.cached_tokens);
            assert!(expected.abs_diff(told) < 200, "{expected} expected of {told}");
            assert_eq!(sent.decision.reason, Reason::Warm);
        }
        let estimate = u64::from(sent.decision.estimate.input_tokens);
        assert!(turns < 3 || estimate.abs_diff(input) < 100, "{estimate} for {input}");
        told = input;
    }
}

#[test]
fn a_lost_cache_is_noticed_and_forgotten_once() {
    let mut world = World::new(false, 2);
    let none = Report { input_tokens: Some(700), cached_tokens: Some(0), output_tokens: Some(9) };
    for name in ["a", "b", "c", "d", "e", "f"] {
        world.turn(&conversation(name, 2), &none);
    }
    let mut sent = world.send(&conversation("a", 3), None);
    let place = first(&sent);
    assert!(place.cached_tokens > 0);
    world.router.first_content(world.now, &mut sent.flight);
    let seen = world.router.settled(world.now, &sent.chain, &sent.flight, &none);
    assert!(seen.is_some_and(|seen| seen.lost && seen.got_tokens == 0));
    // What it was sent now it has; what it had before it has not.
    let columns: EndpointSet = place.slot.iter().map(|slot| slot.index).collect();
    let mut depths = Depths::default();
    world.router.table.depths(sent.chain.hashes(), &columns, &mut depths);
    assert_eq!(depths.get(place.slot.expect("a slot").index), sent.chain.hashes().len());
    for name in ["b", "c", "d", "e", "f"] {
        let sent = world.send(&conversation(name, 2), None);
        let again = sent.decision.pick(place.endpoint).map_or(0, |pick| pick.cached_tokens);
        assert_eq!(again, 0, "{name}");
    }
}

/// An answer to a prompt of so many tokens, of which so many were cached.
fn report(input: u64, cached: u64) -> Report {
    Report { input_tokens: Some(input), cached_tokens: Some(cached), output_tokens: Some(9) }
}

/// Of the same prompt sent twice, that it was computed anew.
fn sent_twice(world: &mut World, messages: &str) -> Foresight {
    world.turn(messages, &report(messages.len() as u64 / 4, 0));
    let mut sent = world.send(messages, None);
    assert!(first(&sent).cached_tokens > 0);
    world.router.first_content(world.now, &mut sent.flight);
    let none = report(messages.len() as u64 / 4, 0);
    world.router.settled(world.now, &sent.chain, &sent.flight, &none).expect("the engine told")
}

#[test]
fn what_does_not_fill_a_block_is_not_lost() {
    for (block_tokens, turns, lost) in [
        (Some(16), 1, true),
        (Some(544), 2, false),
        (Some(544), 8, true),
        (None, 4, false),
        (None, 16, true),
    ] {
        let mut world = World { block_tokens, ..World::new(false, 11) };
        let seen = sent_twice(&mut world, &conversation("a", turns));
        assert_eq!(seen.lost, lost, "{block_tokens:?}, {turns} turns: {seen:?}");
        let horizon = world.router.columns.iter().map(|column| column.horizon.tokens());
        let least = horizon.fold(f64::MAX, f64::min);
        assert_eq!(least, crate::route::horizon::Horizon::default().tokens());
    }
}

#[test]
fn what_was_only_counted_is_in_no_cache() {
    let mut world = World::new(true, 12);
    world.computes = false;
    world.turn(&conversation("a", 3), &report(7, 0));
    assert_eq!(world.router.drain_news().count(), 0);
    let failed = world.send(&conversation("a", 3), Some(5));
    world.router.failed(&failed.chain, &failed.flight);
    world.computes = true;
    let sent = world.send(&conversation("a", 3), Some(5));
    assert_eq!(first(&sent).cached_tokens, 0);
    let estimate = sent.decision.estimate.input_tokens;
    assert!(estimate.abs_diff(conversation("a", 3).len() as u32 / 4) < 20, "{estimate}");
}

#[test]
fn one_absurd_count_is_not_believed() {
    let mut world = World::new(true, 13);
    for input in [1 << 40, 1 << 20, 0] {
        let absurd = Report { output_tokens: Some(1 << 40), ..report(input, 0) };
        world.turn(&conversation("a", 2), &absurd);
    }
    let sent = world.send(&conversation("a", 2), None);
    let end = *sent.chain.hashes().last().expect("one");
    assert_eq!(world.router.table.tokens_at(end), None);
    let estimate = sent.decision.estimate;
    assert!(estimate.input_tokens.abs_diff(conversation("a", 2).len() as u32 / 4) < 20);
    assert!(world.router.answers.expected(1, 2, None) <= 256);
}

#[test]
fn bytes_per_token_are_not_learned_from_images() {
    let mut world = World::new(false, 14);
    let seen = |at: usize| {
        let data = format!("abc{at}").repeat(10_000);
        format!(
            r#"{{"role":"user","content":[{{"type":"image","source":{{"type":"base64","data":"{data}"}}}}]}}"#
        )
    };
    for at in 0..20 {
        world.turn(&seen(at), &report(1_200, 0));
    }
    let sent = world.send(&conversation("a", 8), None);
    let text = conversation("a", 8).len() as u32 / 4;
    assert!(sent.decision.estimate.input_tokens.abs_diff(text) < 20);
    // What the engine told of an image is known where the conversation goes on.
    let sent = world.send(&format!("{},{}", seen(3), conversation("b", 1)), None);
    let estimate = sent.decision.estimate.input_tokens;
    let expected = 1_200 + conversation("b", 1).len() as u32 / 4;
    assert!(estimate.abs_diff(expected) < 250, "{estimate} for {expected}");
}

#[test]
fn what_failed_is_not_expected_and_what_began_is() {
    let mut world = World::new(false, 3);
    let sent = world.send(&conversation("a", 2), None);
    world.router.failed(&sent.chain, &sent.flight);
    let mut again = world.send(&conversation("a", 3), None);
    assert_eq!(first(&again).cached_tokens, 0);
    world.router.first_content(world.now, &mut again.flight);
    world.router.failed(&again.chain, &again.flight);
    assert!(first(&world.send(&conversation("a", 4), None)).cached_tokens > 0);
}

#[test]
fn other_shards_learn_from_news() {
    let (mut one, mut other) = (World::new(true, 4), World::new(true, 5));
    // The same endpoints in another order have other slots there.
    let reversed: Vec<u64> = (1..=ENDPOINTS).rev().collect();
    other.places = {
        let mut router = Router::new(1, true, 6);
        let places = router.adopt(&reversed, &[77]);
        other.router = router;
        places
    };
    let report = Report { input_tokens: Some(900), cached_tokens: None, output_tokens: Some(9) };
    let place = first(&one.turn(&conversation("a", 2), &report)).endpoint;
    let news: Vec<News> = one.router.drain_news().collect();
    assert!(!news.is_empty());
    news.iter().for_each(|one| other.router.learn_news(one));
    let sent = other.send(&conversation("a", 3), None);
    assert_eq!(first(&sent).endpoint.0, ENDPOINTS as u16 - 1 - place.0);
    assert!(first(&sent).cached_tokens.abs_diff(900) < 200, "{:?}", first(&sent));
    // What was heard is not told again.
    let told: Vec<u64> = other.router.drain_news().flat_map(|n| n.hashes().to_vec()).collect();
    assert!(told.iter().all(|hash| !news.iter().any(|n| n.hashes().contains(hash))));
}

#[test]
fn an_endpoint_that_left_is_ignored() {
    let mut world = World::new(false, 7);
    let mut sent = world.send(&conversation("a", 2), None);
    let gone = first(&sent).slot.expect("a slot");
    let kept: Vec<u64> = (1..=ENDPOINTS).filter(|id| *id != u64::from(gone.index) + 1).collect();
    world.router.adopt(&[&kept[..], &[99]].concat(), &[77]);
    assert_eq!(world.router.endpoints.of(99).map(|slot| slot.index), Some(gone.index));
    world.router.first_content(world.now, &mut sent.flight);
    let report = Report { input_tokens: Some(900), cached_tokens: Some(0), output_tokens: Some(9) };
    assert_eq!(world.router.settled(world.now, &sent.chain, &sent.flight, &report), None);
    let again = world.send(&conversation("a", 3), None);
    assert!(again.decision.picks().all(|pick| pick.cached_tokens == 0));
}

#[test]
fn every_model_that_may_be_configured_has_a_line_and_so_have_those_after_a_reload() {
    let mut router = Router::new(1, false, 8);
    for from in [0, 1 << 32] {
        let models: Vec<u64> = (from..from + MODELS_MAX as u64).collect();
        let places = router.adopt(&[1, 2], &models);
        let own: HashSet<u16> = places.models.iter().flatten().map(|slot| slot.index).collect();
        assert_eq!(own.len(), MODELS_MAX);
        assert!(own.iter().all(|index| usize::from(*index) < router.lines.len()));
    }
    // Of endpoints no more than the table has columns.
    let endpoints: Vec<u64> = (0..ENDPOINTS_MAX as u64 + 3).collect();
    let places = router.adopt(&endpoints, &[7]);
    assert_eq!(places.endpoints.iter().flatten().count(), ENDPOINTS_MAX);
}

#[test]
fn a_chain_that_is_given_back_is_of_no_prompt() {
    let mut world = World::new(false, 8);
    let chain = world.send(&conversation("a", 2), None).chain;
    assert!(!chain.hashes().is_empty());
    world.router.put_chain(chain);
    let chain = world.router.chain();
    assert_eq!((chain.hashes().len(), chain.bytes(), chain.anchor()), (0, 0, 0));
}

#[test]
fn a_session_is_remembered_beyond_the_table() {
    let mut world = World::new(false, 8);
    let place = first(&world.send(&conversation("a", 2), Some(5))).slot.expect("a slot");
    world.router.table.clear(place.index);
    let sent = world.send(&conversation("a", 3), Some(5));
    assert_eq!(first(&sent).slot, Some(place));
    assert!(first(&sent).cached_tokens > 0);
    // Its engine says that it is gone, and is believed.
    let identity = u64::from(first(&sent).endpoint.0) + 1;
    world.router.correct((identity, Change::LostAll));
    let sent = world.send(&conversation("a", 4), Some(5));
    assert_eq!(sent.decision.pick(EndpointId(place.index)).map_or(0, |pick| pick.cached_tokens), 0);
}

/// An engine that tells of its cache cannot tell of a prompt that is not tokenised as it renders it.
#[test]
fn what_no_engine_tells_of_is_remembered_and_learned_as_ever() {
    for (op, told) in [(Operation::Messages, false), (Operation::Chat, true)] {
        let mut world = World::new(false, 8);
        world.op = op;
        let sent = world.send(&conversation("a", 2), Some(5));
        let place = first(&sent).slot.expect("a slot");
        world.router.correct((u64::from(first(&sent).endpoint.0) + 1, Change::Holds(1)));
        world.router.table.clear(place.index);
        let sent = world.send(&conversation("a", 3), Some(5));
        let expected = sent.decision.pick(EndpointId(place.index)).map(|pick| pick.cached_tokens);
        assert_eq!(expected.unwrap_or(0) == 0, told, "{op:?}");
    }
}

#[test]
fn a_horizon_is_learned_from_what_no_engine_tells_of() {
    for (op, told) in [(Operation::Messages, false), (Operation::Chat, true)] {
        let mut world = World::new(false, 8);
        world.op = op;
        let report =
            Report { input_tokens: Some(2_000), cached_tokens: Some(0), output_tokens: Some(9) };
        let sent = world.turn(&conversation("a", 4), &report);
        let place = usize::from(first(&sent).slot.expect("a slot").index);
        world.router.correct((u64::from(first(&sent).endpoint.0) + 1, Change::Holds(1)));
        // It was answered long ago.
        world.router.columns[place].forget();
        let before = world.router.columns[place].horizon.tokens();
        let sent = world.turn(&conversation("a", 5), &report);
        assert!(first(&sent).cached_tokens > 500);
        let after = world.router.columns[place].horizon.tokens();
        assert_eq!(after == before, told, "{op:?}");
    }
}

#[test]
fn a_chain_that_was_given_back_is_empty() {
    let mut world = World::new(false, 8);
    let sent = world.send(&conversation("a", 2), None);
    world.router.put_chain(sent.chain);
    let chain = world.router.chain();
    assert!(chain.hashes().is_empty() && chain.bytes() == 0 && chain.anchor() == 0);
}

#[test]
fn prompts_that_part_at_one_place_at_a_time_are_told_from_a_conversation() {
    let mut world = World::new(false, 9);
    let forked = |world: &mut World, messages: &str| world.send(messages, None).forked;
    let brief = conversation("a", 3);
    for turns in 3..8 {
        assert!(!forked(&mut world, &conversation("a", turns)));
    }
    let task =
        |world: &mut World, name| forked(world, &format!("{brief},{}", conversation(name, 1)));
    world.now += 2 * SECOND;
    assert!(!task(&mut world, "x"));
    assert!(task(&mut world, "y"));
    assert!(task(&mut world, "z"));
    world.now += 2 * SECOND;
    assert!(!task(&mut world, "later"));
}

/// Where a prompt was sent, the hash of its end, and its engine's word that it lost that.
fn sent_and_lost(world: &mut World) -> (Slot, u64, (u64, Change)) {
    let sent = world.send(&conversation("a", 2), None);
    let end = *sent.chain.hashes().last().expect("one");
    let identity = u64::from(first(&sent).endpoint.0) + 1;
    (first(&sent).slot.expect("a slot"), end, (identity, Change::Lost(end)))
}

#[test]
fn what_an_engine_lost_is_gone_where_nobody_knows_how_much_it_holds() {
    let mut world = World::new(false, 10);
    let (slot, end, lost) = sent_and_lost(&mut world);
    world.router.correct(lost);
    assert_eq!(world.router.table.age(end, slot.index), None);
}

#[test]
fn what_an_engine_lost_before_it_was_asked_again_is_expected_all_the_same() {
    let mut world = World::new(false, 10);
    let (slot, end, lost) = sent_and_lost(&mut world);
    // The request is on its way there.
    world.router.columns[usize::from(slot.index)].horizon.bound(80_000);
    world.router.correct(lost);
    assert!(world.router.table.age(end, slot.index).is_some());
    // Since then the engine has computed a part of what it holds.
    world.router.computes(slot, 12_000);
    world.router.correct(lost);
    assert_eq!(world.router.table.age(end, slot.index), None);
}

#[test]
fn what_an_engine_was_only_found_to_have_is_gone_once_it_says_so() {
    let mut world = World::new(false, 10);
    let (slot, _, (identity, _)) = sent_and_lost(&mut world);
    world.router.columns[usize::from(slot.index)].horizon.bound(80_000);
    for (change, age) in [(Change::Has(99), Some(1)), (Change::Lost(99), None)] {
        world.router.correct((identity, change));
        assert_eq!(world.router.table.age(99, slot.index), age);
    }
    for change in [Change::Holds(99), Change::Has(99)] {
        world.router.correct((identity, change));
        assert_eq!(world.router.table.age(99, slot.index), Some(0), "it is no older for that");
    }
}

/// Tokens that are in doubt of such a prompt.
fn doubt(world: &mut World, messages: &str, policy: Policy) -> Option<u32> {
    let body = format!("{{\"model\":\"m\",\"messages\":[{messages}]}}");
    let ask = read_ask(world.op, body.as_bytes(), &Bounds { depth_max: 64 }).expect("lawful");
    let mut chain = world.router.chain();
    chain::read(&mut chain, &Root::default(), body.as_bytes(), &ask);
    let model = world.places.models[0].expect("a slot");
    let whose = Whose { model, client: 1, session: None, prompt: chain.size(), computes: true };
    let inquiry = Inquiry {
        policy,
        whose,
        columns: &world.columns,
        chain: &chain,
        output_tokens_max: None,
        session_ttl: SECOND,
        known: false,
    };
    if !world.router.may_doubt(&inquiry) {
        return None;
    }
    let estimate = world.router.estimate(world.now, &inquiry);
    world.router.doubtful_tokens(&inquiry, &estimate)
}

#[test]
fn others_prompts_are_doubted_where_it_may_pay() {
    let mut world = World::new(false, 10);
    let (long, ttft) = (conversation("long", 6), Policy::PredictedTtft);
    assert_eq!(doubt(&mut world, &long, ttft), None, "there are no others");
    world.busy = Some(100);
    (0..64).for_each(|at| drop(world.send(&conversation(&format!("{at}"), 1), None)));
    assert!(doubt(&mut world, &long, ttft).is_some_and(|tokens| tokens > 1_024));
    assert_eq!(doubt(&mut world, &long, Policy::LeastLoaded), None, "it looks at no cache");
    assert_eq!(doubt(&mut world, &conversation("short", 1), ttft), None, "it is short");
    let image = r#"{"type":"image_url","image_url":{"url":"http://a/b"}}"#;
    let seen = format!("{long},{{\"role\":\"user\",\"content\":[{image}]}}");
    assert_eq!(doubt(&mut world, &seen, ttft), None, "no tokeniser counts images");
    drop(world.send(&long, None));
    assert_eq!(doubt(&mut world, &long, ttft), None, "it is known");
    assert!(doubt(&mut world, &conversation("long", 12), ttft).is_some(), "half of it is not");
}
