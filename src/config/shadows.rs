//! `[[shadows]]`: models whose requests are copied to another model, whose answers nobody gets.

use super::models;
use super::plan::{Model, ModelId, ModelIndex, Shadow, ShadowId, Target};
use super::reader::{At, Section};

/// Each shadow costs a set of time series in every shard.
const SHADOWS_MAX: usize = 1024;

/// Reads every `[[shadows]]` table, and tells each model of its own.
pub fn read(root: &Section<'_>, models: &mut [Model], index: &ModelIndex) -> Vec<Shadow> {
    let mut shadows: Vec<Shadow> = Vec::new();
    let read = |s: &Section<'_>| read_shadow(s, models, index);
    for found in root.tables("shadows", read) {
        let Some((at, shadow)) = found else { continue };
        if shadows.iter().any(|other| other.of == shadow.of) {
            let name = models.get(usize::from(shadow.of.0)).map_or("", |model| &model.name);
            let what = format!("the model {name:?} has two shadows");
            root.fault(at, what, "keep one of them");
        }
        shadows.push(shadow);
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

/// `None` only after a fault.
fn read_shadow(s: &Section<'_>, models: &[Model], index: &ModelIndex) -> Option<(usize, Shadow)> {
    let of = s.required("model", "llama-3.1-8b");
    let to = s.required("copy_to", "llama-3.1-8b-next");
    let percent = s.whole("percent", 100, 1..=100) as u32;
    let (of, to) = (of?, to?);
    let (of_id, to_id) = (one_model(s, index, of), one_model(s, index, to));
    let (of_id, to_id) = (of_id?, to_id?);
    check_apart(s, models, (of_id, of), (to_id, to));
    Some((of.at, Shadow { of: of_id, to: to_id, percent }))
}

fn one_model(s: &Section<'_>, index: &ModelIndex, name: At<&str>) -> Option<ModelId> {
    match models::find(s, index, name)?.target {
        Target::Model(id) => Some(id),
        Target::Split(_) => {
            let what = format!("{:?} is a split", name.value);
            s.fault(name.at, what, "name a model; each arm may have a shadow of its own");
            None
        }
    }
}

/// Copies must take nothing from the requests they are made of, so they have endpoints of their own.
fn check_apart(
    s: &Section<'_>,
    models: &[Model],
    of: (ModelId, At<&str>),
    to: (ModelId, At<&str>),
) {
    let endpoints = |id: ModelId| models.get(usize::from(id.0)).map(|model| &model.endpoints[..]);
    let (Some(own), Some(others)) = (endpoints(of.0), endpoints(to.0)) else { return };
    if own.iter().any(|endpoint| others.contains(endpoint)) {
        let what = format!("{:?} and {:?} share an endpoint", of.1.value, to.1.value);
        s.fault(to.1.at, what, "copy to a model with endpoints of its own");
    }
}
