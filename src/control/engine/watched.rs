//! What is made of an engine's readings: the view that shards get, and whether it was started anew: pure.

use std::time::{Duration, Instant};

use super::reading::Reading;
use crate::admin::state::EngineState;
use crate::route::views::EngineView;

/// What is known of one engine.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    last: Option<(Reading, Instant)>,
    /// What probes counted when it was last read.
    returns: u32,
    restarts: u32,
    view: Option<EngineView>,
}

impl Watched {
    /// Takes a look at the engine in, or that there was no answer; true if shards must hear of it.
    /// What was last read holds for `stale_after`. `probed`: whether probes reach it, and how often
    /// they saw it come back; a restart that they tell of is not told again.
    pub fn observe(
        &mut self,
        reading: Option<Reading>,
        probed: (bool, u32),
        now: Instant,
        stale_after: Duration,
    ) -> bool {
        let before = (self.view.clone(), self.restarts);
        match reading {
            Some(mut reading) => {
                let last = self.last.as_ref().map(|(last, _)| last);
                let anew = last.is_some_and(|last| restarted(last, &reading));
                if let Some(last) = last.filter(|_| !anew) {
                    keep_geometry(last, &mut reading);
                }
                self.restarts += u32::from(anew && probed == (true, self.returns));
                self.returns = probed.1;
                self.view = Some(view(&reading));
                self.last = Some((reading, now));
            }
            None => {
                let stale = |at: Instant| now.saturating_duration_since(at) >= stale_after;
                if self.last.as_ref().is_some_and(|(_, at)| stale(*at)) {
                    self.view = None;
                }
            }
        }
        before != (self.view.clone(), self.restarts)
    }

    /// How often it was seen to have started anew.
    pub fn restarts(&self) -> u32 {
        self.restarts
    }

    /// What the admin listener shows, for as long as shards go by it.
    pub fn state(&self) -> Option<EngineState> {
        let (view, (reading, _)) = (self.view.as_ref()?, self.last.as_ref()?);
        let tokens = |count: Option<f64>| count.map(|count| count as u64);
        Some(EngineState {
            running: view.running,
            waiting: view.waiting,
            kv_use: view.kv_use,
            kv_tokens: view.kv_tokens,
            block_tokens: view.block_tokens,
            prefix_queries: tokens(reading.prefix_queries),
            prefix_hits: tokens(reading.prefix_hits),
            adapters: reading.adapters.as_ref().map(|names| names.len() as u64),
        })
    }

    /// What shards get; `None` if nothing was heard for too long.
    pub fn view(&self) -> Option<&EngineView> {
        self.view.as_ref()
    }
}

/// A process that started later, or counters that fell, are those of another one.
fn restarted(last: &Reading, now: &Reading) -> bool {
    let differs = |(before, after): (f64, f64)| after > before + 1.0;
    let fell = |(before, after): (f64, f64)| after < before;
    last.started.zip(now.started).is_some_and(differs)
        || last.prompt_tokens.zip(now.prompt_tokens).is_some_and(fell)
}

/// Not every page of a process tells the shape of its cache, which stays what it was.
fn keep_geometry(last: &Reading, now: &mut Reading) {
    now.kv_tokens = now.kv_tokens.or(last.kv_tokens);
    now.block_tokens = now.block_tokens.or(last.block_tokens);
}

fn view(reading: &Reading) -> EngineView {
    EngineView {
        running: reading.running,
        waiting: reading.waiting,
        kv_use: reading.kv_use,
        kv_tokens: reading.kv_tokens.and_then(|tokens| u32::try_from(tokens).ok()),
        block_tokens: reading.block_tokens.filter(|tokens| *tokens > 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALE: Duration = Duration::from_secs(2);

    fn reading(running: u32, prompt_tokens: f64, started: f64) -> Option<Reading> {
        let (prompt_tokens, started) = (Some(prompt_tokens), Some(started));
        Some(Reading { running: Some(running), prompt_tokens, started, ..Reading::default() })
    }

    #[test]
    fn silence_is_forgiven_until_it_is_stale() {
        let (mut watched, now) = (Watched::default(), Instant::now());
        assert!(watched.observe(reading(1, 5.0, 9.0), (true, 0), now, STALE));
        assert!(
            !watched.observe(reading(1, 6.0, 9.0), (true, 0), now, STALE),
            "nothing that shards use changed"
        );
        assert!(!watched.observe(None, (true, 0), now + STALE / 2, STALE));
        assert_eq!(watched.view().unwrap().running, Some(1));
        assert!(watched.observe(None, (true, 0), now + STALE, STALE) && watched.view().is_none());
        assert!(watched.observe(reading(1, 7.0, 9.0), (true, 0), now + STALE, STALE));
        assert_eq!(watched.restarts(), 0);
    }

    #[test]
    fn a_cache_keeps_its_shape_while_its_engine_is_idle() {
        let (mut watched, now) = (Watched::default(), Instant::now());
        let read = super::super::reading::read;
        let busy = r#"[{"numActiveRequests": 3,
            "kvCacheStats": {"maxNumBlocks": 100, "usedNumBlocks": 50, "tokensPerBlock": 32}}]"#;
        watched.observe(read(busy), (true, 0), now, STALE);
        assert!(watched.observe(read("[]"), (true, 0), now + STALE, STALE));
        let view = watched.view().expect("an answer");
        assert_eq!((view.running, view.kv_use), (Some(0), Some(0.0)));
        assert_eq!((view.kv_tokens, view.block_tokens), (Some(3_200), Some(32)));
    }

    #[test]
    fn a_new_process_is_a_restart() {
        for (after, restarts) in
            [(reading(0, 9.0, 100.2), 0), (reading(0, 4.0, 100.0), 1), (reading(0, 9.0, 200.0), 1)]
        {
            let (mut watched, now) = (Watched::default(), Instant::now());
            watched.observe(reading(0, 5.0, 100.0), (true, 0), now, STALE);
            let told = watched.clone();
            watched.observe(after.clone(), (true, 0), now, STALE);
            assert_eq!(watched.restarts(), restarts);
            for probed in [(true, 1), (false, 0)] {
                let mut seen = told.clone();
                seen.observe(after.clone(), probed, now, STALE);
                assert_eq!(seen.restarts(), 0, "probes have told it, or will");
            }
        }
    }
}
