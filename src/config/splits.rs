//! `[[splits]]`: names that stand for several models, each with its share of the requests.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::index::{Index, Kind};
use super::names;
use super::plan::{Arm, ArmId, Named, OtherNameId, Split, SplitId, Stick, Target};
use super::reader::{At, Section};

/// Each arm costs a set of time series in every shard.
const SPLITS_MAX: usize = 1024;
/// Arms of one split: each costs a hash with every request.
const ARMS_MAX: usize = 16;

const STICKS: [(&str, Stick); 3] =
    [("session", Stick::Session), ("key", Stick::Key), ("request", Stick::Request)];

/// Reads every `[[splits]]` table. `others`: the names that are no model's own; a split's is one.
pub fn read<'a>(
    root: &Section<'a>,
    index: &mut Index<'a>,
    others: &mut Vec<Box<str>>,
) -> Vec<Split> {
    let mut splits: Vec<Split> = Vec::new();
    let mut arms: u16 = 0;
    for (name, split) in root.tables("splits", |s| read_split(s, index)) {
        let Some(name) = name else { continue };
        let id = SplitId(u16::try_from(splits.len()).unwrap_or(u16::MAX));
        let other = OtherNameId(u16::try_from(others.len()).unwrap_or(u16::MAX));
        let named = Named { target: Target::Split(id), other: Some(other) };
        index.enter(root, Kind::Split, name, split.is_some().then_some(named));
        let Some(mut split) = split else { continue };
        for arm in &mut split.arms {
            arm.id = ArmId(arms);
            // More than fit are too many splits.
            arms = arms.saturating_add(1);
        }
        others.push(name.value.into());
        splits.push(split);
    }
    if splits.len() > SPLITS_MAX {
        let at = root.given("splits").unwrap_or_default();
        root.fault(at, "too many [[splits]]", format!("keep at most {SPLITS_MAX}"));
    }
    splits
}

fn read_split<'a>(s: &Section<'a>, index: &Index<'a>) -> (Option<At<&'a str>>, Option<Split>) {
    let name = names::name(s, "name", "chat");
    let stick = s.choice("stick", "session", &STICKS);
    let salt = name.map_or("", |name| name.value);
    let arms = s.tables("arms", |arm| read_arm(arm, index, salt));
    check_arms(s, s.given("arms").unwrap_or(s.at), &arms);
    let arms: Option<Vec<Arm>> = arms.into_iter().map(|arm| Some(arm?.value)).collect();
    let parts = arms.zip(stick).zip(name);
    let split = parts.map(|((arms, stick), name)| Split { name: name.value.into(), stick, arms });
    (name, split)
}

/// Whether there is something to choose from.
fn check_arms(s: &Section<'_>, at: usize, arms: &[Option<At<Arm>>]) {
    let fault =
        |at: usize, what: &str, fix: &str| s.fault(at, format!("{} {what}", s.title()), fix);
    let sound: Vec<&At<Arm>> = arms.iter().flatten().collect();
    // What stands there instead of arms was called a fault already.
    let weightless = !sound.is_empty() && sound.iter().all(|arm| arm.value.weight == 0);
    if s.is_empty("arms") {
        fault(at, "has no arms", "add arms = [{ model = \"NAME\", weight = 1 }]");
    } else if weightless && sound.len() == arms.len() {
        fault(at, "has no arm with a weight", "give one of them a weight above 0");
    }
    if arms.len() > ARMS_MAX {
        fault(at, "has too many arms", "keep at most 16");
        return;
    }
    for (i, arm) in sound.iter().enumerate() {
        if sound[..i].iter().any(|one| one.value.model == arm.value.model) {
            fault(arm.at, "has two arms with one model", "give each model one arm");
        }
    }
}

fn read_arm(s: &Section<'_>, index: &Index<'_>, salt: &str) -> Option<At<Arm>> {
    let name = s.required("model", "llama-3.1-8b");
    let weight = s.whole("weight", 1, 0..=1_000_000) as u32;
    let name = name?;
    let model = index.model(s, name)?;
    let salt = xxh3_64_with_seed(salt.as_bytes(), 0);
    let seed = xxh3_64_with_seed(name.value.as_bytes(), salt);
    Some(At { at: name.at, value: Arm { model, weight, seed, id: ArmId(0) } })
}

/// How a way to stick is called in the file.
pub fn stick_name(stick: Stick) -> &'static str {
    STICKS.iter().find(|(_, known)| *known == stick).map_or("?", |(name, _)| name)
}
