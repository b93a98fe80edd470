//! What Sluice answers from its own configuration: the model list, splits and aliases among it.

use serde_json::{Value, json};

use crate::api::family::Family;
use crate::api::fault::Fault;
use crate::api::operation::{Operation, Resolved};
use crate::config::plan::Plan;
use crate::gate::rights;
use crate::lifecycle::outcome::Outcome;
use crate::relay::answer::{JSON, id_fields, id_pair};
use crate::relay::exchange::{Exchange, Extent, FieldPair};
use crate::relay::exit::Exit;
use crate::relay::serve::flush;
use crate::relay::stop::Stop;

/// A point in time for APIs that insist on one; models here have no date of their own.
const CREATED_AT: &str = "1970-01-01T00:00:00Z";

/// Answers an operation that has no body.
pub async fn answer<X: Exchange>(
    resolved: &Resolved,
    exit: &mut Exit,
    x: &mut X,
) -> Result<Outcome, Stop> {
    let family = exit.family;
    let epoch = exit.epoch.clone();
    let value = match (&resolved.op, &resolved.model) {
        (Operation::GetModel, Some(id)) => one(epoch.plan(), id, family)?,
        _ => list(epoch.plan(), family),
    };
    let body = value.to_string();
    let id = exit.request_id;
    let ids = id_pair(id.as_bytes());
    let mut fields: Vec<FieldPair<'_>> = vec![JSON];
    fields.extend_from_slice(id_fields(family, &ids));
    exit.row.status = 200;
    x.stage_head(200, &fields, Extent::Length(body.len() as u64));
    if !exit.head_only {
        x.stage(|out| out.extend_from_slice(body.as_bytes()));
    }
    x.stage_end();
    flush(x).await?;
    Ok(Outcome::Completed)
}

fn list(plan: &Plan, family: Family) -> Value {
    let names = || plan.models.iter().map(|model| &model.name).chain(&plan.other_names);
    let data: Vec<Value> = names().map(|name| shape(name, family)).collect();
    match family {
        Family::OpenAi => json!({"object": "list", "data": data}),
        Family::Anthropic => json!({
            "first_id": names().next(),
            "last_id": names().last(),
            "has_more": false,
            "data": data,
        }),
    }
}

fn one(plan: &Plan, id: &str, family: Family) -> Result<Value, Fault> {
    rights::model(plan, id).map(|_| shape(id, family))
}

fn shape(name: &str, family: Family) -> Value {
    match family {
        Family::OpenAi => {
            json!({"id": name, "object": "model", "created": 0, "owned_by": "sluice"})
        }
        Family::Anthropic => json!({
            "type": "model",
            "id": name,
            "display_name": name,
            "created_at": CREATED_AT,
        }),
    }
}
