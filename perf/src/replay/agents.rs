//! A workload of coding agents: sessions that share tools and system prompt and grow turn by turn, and
//! bursts of sub-agents.
//!
//! Every session lives through the whole run: its turns are spread over it with pauses whose ratios are
//! those of observed agents (half under 2 s, a tenth over 24 s), so the load is steady. It begins with a
//! history of its own. A turn waits for the turn before; what the model said there is part of its prompt.
//! Sub-agents follow their turn by milliseconds at any pace.

use sluice_sim::engine::{MILLISECOND, SECOND, Time};

use super::random::Random;
use super::trace::{Ask, Part, Piece, Trace};

/// Bytes of a token here, as in the simulated server's text.
const TOKEN_BYTES: u32 = 4;
/// Tools and system prompt that all share: 60 KB.
const SHARED: [Piece; 2] = [
    Piece { seed: 1, tokens: 40 * 1024 / TOKEN_BYTES, part: Part::Tool },
    Piece { seed: 2, tokens: 20 * 1024 / TOKEN_BYTES, part: Part::System },
];
/// What a turn adds, question and answer together: 0.5 to 4 KB.
const GROWTH_TOKENS: (f64, f64) = (512.0 / TOKEN_BYTES as f64, 4096.0 / TOKEN_BYTES as f64);
/// The answer's share of that.
const ANSWER_SHARE: (f64, f64) = (0.2, 0.7);
/// What a session brings along.
const HISTORY_TOKENS: (f64, f64) = (512.0, 10_240.0);
/// Turns of a session: 10 to 40, 20 in the mean.
const TURNS: (f64, f64) = (10.0, 40.0);
/// Between turns: the median in seconds, and the deviation of the logarithm that puts a tenth over 24 s.
const PAUSE: (f64, f64) = (2.0, 1.94);
/// One turn in so many calls sub-agents, 7 to 50 of them, 7 or few more in half of all bursts.
const BURST_ONE_IN: u32 = 50;
const BURST: (f64, f64) = (7.0, 51.0);
const BURST_GAP_MS: u32 = 50;
/// What a sub-agent is told: for all of a burst, and for it alone.
const TASK_TOKENS: (u32, u32) = (1_024, 256);
/// At the trace's own pace a run takes so long.
const SPAN: Time = 600 * SECOND;

/// Builds the workload of `sessions` sessions from a seed.
pub fn agents(sessions: u32, seed: u64) -> Trace {
    let mut maker = Maker { random: Random::new(seed), asks: Vec::new(), seeds: 100 };
    for session in 0..sessions {
        maker.session(u64::from(session));
    }
    Trace { name: "agents".into(), asks: in_order(maker.asks) }
}

/// Sorts by time; `after` follows its request.
fn in_order(asks: Vec<Ask>) -> Vec<Ask> {
    let mut order: Vec<usize> = (0..asks.len()).collect();
    order.sort_by_key(|at| (asks[*at].at + asks[*at].offset, *at));
    let mut place = vec![0; asks.len()];
    order.iter().enumerate().for_each(|(new, old)| place[*old] = new);
    let mut sorted: Vec<Ask> = order.into_iter().map(|at| asks[at].clone()).collect();
    sorted.iter_mut().for_each(|ask| ask.after = ask.after.map(|before| place[before]));
    sorted
}

struct Maker {
    random: Random,
    asks: Vec<Ask>,
    /// The last seed that was given away.
    seeds: u64,
}

impl Maker {
    fn fresh(&mut self, tokens: u32, part: Part) -> Piece {
        self.seeds += 1;
        Piece { seed: self.seeds, tokens, part }
    }

    fn ratio(&mut self, (from, to): (f64, f64)) -> u32 {
        self.random.ratio(from, to) as u32
    }

    fn session(&mut self, session: u64) {
        let times = self.times();
        let history = self.ratio(HISTORY_TOKENS);
        let mut pieces = SHARED.to_vec();
        pieces.push(self.fresh(history, Part::User));
        let mut after = None;
        for at in times {
            let growth = self.random.ratio(GROWTH_TOKENS.0, GROWTH_TOKENS.1);
            let share = ANSWER_SHARE.0 + (ANSWER_SHARE.1 - ANSWER_SHARE.0) * self.random.share();
            let answer = (growth * share) as u32;
            let question = self.fresh(growth as u32 - answer, Part::User);
            pieces.push(question);
            let spoken = self.fresh(answer, Part::Spoken);
            let voice = Some(spoken.seed);
            let (output_tokens, session) = (answer, Some(session));
            let ask =
                Ask { at, offset: 0, after, session, pieces: pieces.clone(), output_tokens, voice };
            after = Some(self.asks.len());
            self.asks.push(ask);
            pieces.push(spoken);
            if self.random.between(1, BURST_ONE_IN) == 1 {
                self.burst(at, session);
            }
        }
    }

    /// When a session's turns come: pauses of the right ratios, stretched over the run.
    fn times(&mut self) -> Vec<Time> {
        let turns = self.ratio(TURNS);
        let mut at = self.random.log_normal(PAUSE.0, PAUSE.1);
        let mut times = Vec::with_capacity(turns as usize);
        for _ in 0..turns {
            times.push(at);
            at += self.random.log_normal(PAUSE.0, PAUSE.1);
        }
        // The pauses form a ring that begins anywhere, or every session would pause at the end.
        let turn = self.random.share() * at;
        let mut times: Vec<Time> =
            times.into_iter().map(|time| ((time + turn) % at / at * SPAN as f64) as Time).collect();
        times.sort_unstable();
        times
    }

    fn burst(&mut self, at: Time, session: Option<u64>) {
        // Squaring favours the short ones.
        let most = BURST.0 * (BURST.1 / BURST.0).powf(self.random.share().powi(2));
        let brief = self.fresh(TASK_TOKENS.0, Part::User);
        let mut offset = 0;
        for _ in 0..most as u32 {
            offset += u64::from(self.random.between(0, BURST_GAP_MS)) * MILLISECOND;
            let mut pieces = SHARED.to_vec();
            pieces.push(brief);
            pieces.push(self.fresh(TASK_TOKENS.1, Part::User));
            let output_tokens = self.ratio((64.0, 512.0));
            self.asks.push(Ask {
                at,
                offset,
                after: None,
                session,
                pieces,
                output_tokens,
                voice: None,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_decides_and_turns_follow_each_other() {
        let (one, two) = (agents(20, 5), agents(20, 5));
        assert_eq!(format!("{:?}", one.asks), format!("{:?}", two.asks));
        assert_ne!(format!("{:?}", one.asks), format!("{:?}", agents(20, 6).asks));
        for ask in &one.asks {
            let Some(before) = ask.after.map(|at| &one.asks[at]) else { continue };
            assert!(before.at <= ask.at && before.session == ask.session);
            let kept = before.pieces.len();
            assert_eq!(before.pieces[..], ask.pieces[..kept]);
            assert_eq!(ask.pieces[kept].seed, before.voice.unwrap());
            assert_eq!(ask.pieces[kept].tokens, before.output_tokens);
        }
    }

    #[test]
    fn sessions_are_as_many_and_as_large_as_said() {
        let trace = agents(200, 1);
        let turns = trace.asks.iter().filter(|ask| ask.voice.is_some()).count();
        assert!((3_600..5_200).contains(&turns), "{turns}");
        let least = SHARED.iter().map(|piece| piece.tokens).sum::<u32>();
        assert_eq!(least, 60 * 1024 / TOKEN_BYTES);
        assert!(trace.asks.iter().all(|ask| ask.input_tokens() > least));
        assert!(trace.asks.is_sorted_by_key(|ask| ask.at + ask.offset));
        // Steady: each quarter of the run has about a quarter of the turns.
        for quarter in 0..4 {
            let span = quarter * SPAN / 4..(quarter + 1) * SPAN / 4;
            let part =
                trace.asks.iter().filter(|a| a.voice.is_some() && span.contains(&a.at)).count();
            assert!((0.2..0.3).contains(&(part as f64 / turns as f64)), "{part} of {turns}");
        }
    }
}
