//! `[[shadows]]`: models whose requests are copied to another model, whose answers nobody gets.

use std::collections::HashSet;

use super::endpoints::Known;
use super::index::Index;
use super::isolation;
use super::plan::{EndpointId, Model, ModelId, Shadow, ShadowId};
use super::reader::{At, Section};

/// Each shadow costs a set of time series in every shard.
const SHADOWS_MAX: usize = 1024;

/// Reads every `[[shadows]]` table, and tells each model of its own.
pub fn read(
    root: &Section<'_>,
    endpoints: &Known,
    models: &mut [Model],
    index: &Index<'_>,
) -> Vec<Shadow> {
    let mut shadows: Vec<Shadow> = Vec::new();
    let mut seen = HashSet::new();
    for (name, shadow) in root.tables("shadows", |s| read_shadow(s, endpoints, models, index)) {
        if let Some(name) = name.filter(|name| !seen.insert(name.value)) {
            let what = format!("the model {:?} has two shadows", name.value);
            root.fault(name.at, what, "keep one of them");
        }
        shadows.extend(shadow);
    }
    if shadows.len() > SHADOWS_MAX {
        let at = root.given("shadows").unwrap_or_default();
        root.fault(at, "too many [[shadows]]", format!("keep at most {SHADOWS_MAX}"));
    }
    for (id, shadow) in (0..).map(ShadowId).zip(&shadows) {
        if let Some(model) = models.get_mut(usize::from(shadow.of.0)) {
            model.shadow = Some(id);
        }
    }
    shadows
}

/// The model whose requests are copied, and all of it.
fn read_shadow<'m>(
    s: &Section<'m>,
    endpoints: &Known,
    models: &'m [Model],
    index: &Index<'_>,
) -> (Option<At<&'m str>>, Option<Shadow>) {
    let model = |id: ModelId| models.get(usize::from(id.0));
    let of = s.required("model", "llama-3.1-8b");
    let to = s.required("copy_to", "llama-3.1-8b-next");
    let percent = s.whole("percent", 100, 1..=100) as u32;
    let of_id = of.and_then(|name| index.single(s, name));
    let to_id = to.and_then(|name| index.single(s, name));
    // An alias is its model, whatever it is called here.
    let copied = of_id.and_then(model);
    let name = of.zip(copied).map(|(of, model)| At { at: of.at, value: &*model.name });
    if let (Some(copied), Some(copies), Some(to)) = (copied, to_id.and_then(model), to) {
        check_apart(s, copied, (copies, to.at));
        check_isolation(s, endpoints, copied, (copies, to.at));
    }
    (name, of_id.zip(to_id).map(|(of, to)| Shadow { of, to, percent }))
}

/// Copies must take nothing from the requests they are made of, so they have endpoints of their own.
fn check_apart(s: &Section<'_>, of: &Model, (copies, at): (&Model, usize)) {
    let fix = "copy to a model with endpoints of its own";
    if of.name == copies.name {
        s.fault(at, format!("{:?} is its own shadow", of.name), fix);
    } else if copies.endpoints.iter().any(|id| of.uses(*id)) {
        s.fault(at, format!("{:?} and {:?} share an endpoint", of.name, copies.name), fix);
    }
}

/// A copy of an isolated request goes only where it is kept apart, too.
fn check_isolation(s: &Section<'_>, known: &Known, of: &Model, (copies, at): (&Model, usize)) {
    let mut ids = copies.endpoints.iter().peekable();
    let able = |id: &EndpointId| known.get(*id).is_some_and(isolation::is_able);
    if of.isolate && ids.peek().is_some() && !ids.any(able) {
        let what =
            format!("{:?} isolates tenants, and no engine of {:?} can", of.name, copies.name);
        s.fault(at, what, "copy to a model with endpoints of vllm, sglang or tensorrt-llm");
    }
}
