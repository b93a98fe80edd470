//! What shards tell each other of prompts: a bounded queue for each shard, filled and emptied at ticks.
//!
//! What finds no room is lost and counted; the shard that missed it sends a prompt to a colder endpoint.

use crate::relay::core::Core;
use crate::route::precise::{self, CHANGES_MAX, QUESTIONS_MAX};
use crate::route::router::News;
use crate::shard::accept::Lane;

/// News that may wait for one shard, 64 bytes each.
pub const NEWS_MAX: usize = 2_048;

/// Hears what the others told, and tells them what is new.
pub fn exchange(core: &Core, lanes: &[Lane]) {
    let epoch = core.epoch();
    let series = epoch.series();
    let own = usize::from(series.index);
    if let Some(lane) = lanes.get(own) {
        hear_engines(core, &lane.precise);
    }
    core.router(|router| {
        if let Some(lane) = lanes.get(own) {
            // No more than could wait, or the others could keep this shard here.
            for news in std::iter::from_fn(|| lane.news.pop()).take(NEWS_MAX) {
                router.learn_news(&news);
                series.shard.news_heard.inc();
            }
        }
        let (mut told, mut lost) = (0, 0);
        for news in router.drain_news() {
            for (_, lane) in lanes.iter().enumerate().filter(|(at, _)| *at != own) {
                told += 1;
                lost += u64::from(lane.news.push(news).is_err());
            }
        }
        series.shard.news_told.add(told);
        series.shard.news_lost.add(lost + router.take_news_lost());
        series.shard.prefix_evictions.add(router.take_evictions());
        let table = router.table().stats();
        series.shard.prefix_blocks.set(table.entries as u64);
        series.shard.prefix_blocks_max.set(table.entries_max as u64);
    });
}

/// Hears what engines have told of their caches; whoever asked goes on, with all that was told before.
pub fn hear_engines(core: &Core, lane: &precise::Lane) {
    // What an answer rests on was told before it: answers are taken out first.
    let answers: Vec<_> = std::iter::from_fn(|| lane.answers.pop()).take(QUESTIONS_MAX).collect();
    core.router(|router| {
        let changes = std::iter::from_fn(|| lane.changes.pop());
        changes.take(CHANGES_MAX).for_each(|change| router.correct(change));
    });
    answers.into_iter().for_each(|answer| core.consults.hear(answer));
}

/// A queue for one shard's news; a single shard has nobody to hear from.
pub fn queue(shards: usize) -> crossbeam::queue::ArrayQueue<News> {
    crossbeam::queue::ArrayQueue::new(if shards > 1 { NEWS_MAX } else { 1 })
}
