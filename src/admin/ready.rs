//! Whether this process should get traffic: a pure function of what is known.

use std::collections::BTreeMap;

use serde::Serialize;

use super::state::{EndpointState, State};
use crate::config::plan::Target;
use crate::telemetry::ShardState;

/// What readiness depends on.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Generation of the plan in force; 0 if there is none.
    pub generation: u64,
    pub draining: bool,
    /// A shard has room for the usage row of one more request.
    pub usage_has_room: bool,
    pub shards: Vec<ShardState>,
    pub models: Vec<ModelFacts>,
}

/// One model and its endpoints.
#[derive(Clone, Debug)]
pub struct ModelFacts {
    pub name: Box<str>,
    pub endpoints: Vec<(Box<str>, EndpointState)>,
}

/// The answer's body.
#[derive(Debug, Serialize)]
pub struct Readiness {
    pub ready: bool,
    pub generation: u64,
    pub conditions: Conditions,
    pub shards: Vec<&'static str>,
    pub models: BTreeMap<Box<str>, ModelReport>,
}

/// Each must hold. With `?model=` the last is about that model alone.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub struct Conditions {
    pub plan_loaded: bool,
    pub shards_listening: bool,
    pub not_draining: bool,
    /// Without it every request is refused: its usage could not be written.
    pub usage_has_room: bool,
    pub model_servable: bool,
}

/// One model's part of the body.
#[derive(Debug, Serialize)]
pub struct ModelReport {
    /// `servable`, or its best endpoint's state.
    pub state: &'static str,
    pub endpoints: BTreeMap<Box<str>, &'static str>,
}

impl Facts {
    /// What `state` says.
    pub fn of(state: &State) -> Self {
        let (plan, rows) = (&state.plan, &state.registry.rows);
        let endpoint = |id: &crate::config::plan::EndpointId| {
            let at = usize::from(id.0);
            let known = state.endpoints.get(at).copied().unwrap_or(EndpointState::Unknown);
            (plan.endpoints[at].name.clone(), known)
        };
        let model = |model: &crate::config::plan::Model| ModelFacts {
            name: model.name.clone(),
            endpoints: model.endpoints.iter().map(endpoint).collect(),
        };
        // A split is served while one of its arms is.
        let models = |name: &str| match plan.model_index.get(name).map(|named| named.target) {
            Some(Target::Split(id)) => {
                plan.splits[usize::from(id.0)].arms.iter().map(|arm| arm.model).collect()
            }
            Some(Target::Model(id)) => vec![id],
            None => Vec::new(),
        };
        let others = plan.other_names.iter().map(|name| ModelFacts {
            name: name.clone(),
            endpoints: models(name)
                .into_iter()
                .flat_map(|id| model(&plan.models[usize::from(id.0)]).endpoints)
                .collect(),
        });
        Self {
            generation: plan.generation,
            draining: state.draining,
            usage_has_room: rows.iter().any(|rows| rows.usage.taken() < rows.usage.capacity()),
            shards: state.registry.shards.iter().map(|shard| shard.state()).collect(),
            models: plan.models.iter().map(model).chain(others).collect(),
        }
    }
}

impl ModelFacts {
    fn best(&self) -> EndpointState {
        let states = self.endpoints.iter().map(|(_, state)| *state);
        states.max().unwrap_or(EndpointState::Down)
    }

    fn servable(&self) -> bool {
        self.best() == EndpointState::Up
    }

    fn report(&self) -> ModelReport {
        let state = if self.servable() { "servable" } else { self.best().name() };
        let endpoints =
            self.endpoints.iter().map(|(name, state)| (name.clone(), state.name())).collect();
        ModelReport { state, endpoints }
    }
}

/// Judges the whole gateway, or one model of it. Status: 200 if ready, 404 if there is no such
/// model, 503 otherwise.
pub fn judge(facts: &Facts, model: Option<&str>) -> (u16, Readiness) {
    let wanted = |one: &&ModelFacts| model.is_none_or(|name| *one.name == *name);
    let known = model.is_none() || facts.models.iter().any(|one| wanted(&one));
    let listening = |state: &ShardState| *state == ShardState::Serving;
    let conditions = Conditions {
        plan_loaded: facts.generation > 0,
        shards_listening: !facts.shards.is_empty() && facts.shards.iter().all(listening),
        not_draining: !facts.draining,
        usage_has_room: facts.usage_has_room,
        model_servable: facts.models.iter().filter(wanted).any(ModelFacts::servable),
    };
    let ready = conditions.plan_loaded
        && conditions.shards_listening
        && conditions.not_draining
        && conditions.usage_has_room
        && conditions.model_servable;
    let status = match (known, ready) {
        (false, _) => 404,
        (true, true) => 200,
        (true, false) => 503,
    };
    let models = facts.models.iter().filter(wanted).map(|one| (one.name.clone(), one.report()));
    let readiness = Readiness {
        ready,
        generation: facts.generation,
        conditions,
        shards: facts.shards.iter().map(|state| state.name()).collect(),
        models: models.collect(),
    };
    (status, readiness)
}

#[cfg(test)]
mod tests {
    use super::*;
    use EndpointState::{Down, Unknown, Unresolved, Up};
    use ShardState::{Dead, Draining, Serving, Starting};

    fn model(name: &str, states: &[EndpointState]) -> ModelFacts {
        let endpoint = |(i, state): (usize, &EndpointState)| (format!("e{i}").into(), *state);
        ModelFacts {
            name: name.into(),
            endpoints: states.iter().enumerate().map(endpoint).collect(),
        }
    }

    fn facts(shards: &[ShardState], draining: bool) -> Facts {
        let models = vec![
            model("up", &[Down, Up]),
            model("down", &[Down, Unresolved]),
            model("new", &[Unknown, Down]),
            model("lost", &[Unresolved]),
            model("none", &[]),
        ];
        let shards = shards.to_vec();
        Facts { generation: 1, draining, usage_has_room: true, shards, models }
    }

    #[test]
    fn the_table() {
        for (shards, draining, wanted, status) in [
            (&[Serving, Serving][..], false, None, 200),
            (&[Serving], false, Some("up"), 200),
            (&[Serving], false, Some("down"), 503),
            (&[Serving], false, Some("new"), 503),
            (&[Serving], false, Some("lost"), 503),
            (&[Serving], false, Some("none"), 503),
            (&[Serving], false, Some("missing"), 404),
            (&[Serving], false, Some(""), 404),
            (&[Serving, Starting], false, None, 503),
            (&[Serving, Dead], false, Some("up"), 503),
            (&[Draining], true, None, 503),
            (&[Serving], true, Some("up"), 503),
            (&[Serving], true, Some("missing"), 404),
            (&[], false, None, 503),
        ] {
            let (got, body) = judge(&facts(shards, draining), wanted);
            assert_eq!(got, status, "{shards:?} {draining} {wanted:?}");
            assert_eq!(body.ready, status == 200);
        }
    }

    #[test]
    fn no_plan_and_no_servable_model_are_not_ready() {
        let mut facts = facts(&[Serving], false);
        facts.generation = 0;
        assert_eq!(judge(&facts, None).0, 503);
        facts.generation = 1;
        facts.usage_has_room = false;
        assert_eq!(judge(&facts, None).0, 503);
        facts.usage_has_room = true;
        facts.models.remove(0);
        let (status, body) = judge(&facts, None);
        assert_eq!((status, body.conditions.model_servable), (503, false));
        assert!(body.conditions.plan_loaded && body.conditions.shards_listening);
    }

    #[test]
    fn the_body_names_each_models_state() {
        let (_, body) = judge(&facts(&[Serving], false), None);
        let states: Vec<_> = body.models.iter().map(|(name, one)| (&**name, one.state)).collect();
        assert_eq!(
            states,
            [
                ("down", "down"),
                ("lost", "unresolved"),
                ("new", "unknown"),
                ("none", "down"),
                ("up", "servable")
            ]
        );
        assert_eq!(body.models["up"].endpoints["e1"], "up");
        let (_, one) = judge(&facts(&[Serving], false), Some("up"));
        assert_eq!(one.models.len(), 1);
    }
}
