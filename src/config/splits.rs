//! `[[splits]]`: names that stand for several models, each with its share of the requests.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::models;
use super::names;
use super::plan::{Arm, ArmId, ModelIndex, Named, OtherNameId, Split, SplitId, Stick, Target};
use super::reader::{At, Section};

/// Each arm costs a set of time series in every shard.
const SPLITS_MAX: usize = 1024;
/// Arms of one split: each costs a hash with every request.
const ARMS_MAX: usize = 16;

const STICKS: [(&str, Stick); 3] =
    [("session", Stick::Session), ("key", Stick::Key), ("request", Stick::Request)];

/// Reads every `[[splits]]` table. `others`: the names that are no model's own; a split's is one.
pub fn read(root: &Section<'_>, index: &mut ModelIndex, others: &mut Vec<Box<str>>) -> Vec<Split> {
    let known = index.clone();
    let mut splits: Vec<Split> = Vec::new();
    let mut arms = 0;
    for (name, split) in root.tables("splits", |s| read_split(s, &known)) {
        let Some(name) = name else { continue };
        let id = SplitId(u16::try_from(splits.len()).unwrap_or(u16::MAX));
        let other = OtherNameId(u16::try_from(others.len()).unwrap_or(u16::MAX));
        let named = Named { target: Target::Split(id), other: Some(other) };
        models::enter(root, index, name, split.is_some().then_some(named));
        let Some(mut split) = split else { continue };
        for arm in &mut split.arms {
            arm.id = ArmId(arms);
            arms += 1;
        }
        others.push(name.value.into());
        splits.push(split);
        if splits.len() > SPLITS_MAX {
            root.fault(name.at, "too many [[splits]]", format!("keep at most {SPLITS_MAX}"));
            break;
        }
    }
    splits
}

fn read_split<'a>(s: &Section<'a>, index: &ModelIndex) -> (Option<At<&'a str>>, Option<Split>) {
    let name = names::name(s, "name", "chat");
    let stick = s.choice("stick", "session", &STICKS);
    let salt = name.map_or("", |name| name.value);
    let arms = s.tables("arms", |arm| read_arm(arm, index, salt));
    let at = s.given("arms").unwrap_or(s.at);
    let whole = check_arms(s, at, &arms);
    let arms: Option<Vec<Arm>> = arms.into_iter().collect();
    let parts = arms.filter(|_| whole).zip(stick).zip(name);
    let split = parts.map(|((arms, stick), name)| Split { name: name.value.into(), stick, arms });
    (name, split)
}

/// Whether there is something to choose from.
fn check_arms(s: &Section<'_>, at: usize, arms: &[Option<Arm>]) -> bool {
    let fault = |what: &str, fix: &str| {
        s.fault(at, format!("{} {what}", s.title()), fix);
        false
    };
    let sound: Vec<&Arm> = arms.iter().flatten().collect();
    if arms.is_empty() {
        return fault("has no arms", "add arms = [{ model = \"NAME\", weight = 1 }]");
    }
    if arms.len() > ARMS_MAX {
        return fault("has too many arms", "keep at most 16");
    }
    if sound.len() == arms.len() && sound.iter().all(|arm| arm.weight == 0) {
        return fault("has no arm with a weight", "give one of them a weight above 0");
    }
    let twice = |(i, arm): (usize, &&Arm)| sound[..i].iter().any(|one| one.model == arm.model);
    if sound.iter().enumerate().any(twice) {
        return fault("has two arms with one model", "give each model one arm");
    }
    true
}

fn read_arm(s: &Section<'_>, index: &ModelIndex, salt: &str) -> Option<Arm> {
    let name = s.required("model", "llama-3.1-8b");
    let weight = s.whole("weight", 1, 0..=1_000_000) as u32;
    let name = name?;
    let Target::Model(model) = models::find(s, index, name)?.target else { return None };
    let salt = xxh3_64_with_seed(salt.as_bytes(), 0);
    let seed = xxh3_64_with_seed(name.value.as_bytes(), salt);
    Some(Arm { model, weight, seed, id: ArmId(0) })
}

/// How a way to stick is called in the file.
pub fn stick_name(stick: Stick) -> &'static str {
    STICKS.iter().find(|(_, known)| *known == stick).map_or("?", |(name, _)| name)
}
