//! What keeps a request's prompt apart from other tenants' in an engine's cache.
//!
//! Invariants: an isolated request reaches no engine's cache without its tenant's salt, and no engine by an
//! API in which its kind is not known to honour that; what the client said in `cache_salt` parts its
//! tenant's prompts further, and no others'.

use crate::api::ask::Ask;
use crate::api::fault::Fault;
use crate::api::operation::Operation;
use crate::config::SALT_DIGITS;
use crate::config::plan::{Capabilities, ClientKey, Endpoint, EndpointId, ModelId, Plan};
use crate::json::{EditError, Edits};
use crate::relay::exit::Exit;
use crate::relay::inbound::Inbound;
use crate::relay::session;

/// What roots an isolated prompt.
#[derive(Clone, Debug)]
pub struct Salt {
    /// As it stands in the body.
    json: [u8; SALT_DIGITS + 2],
    /// What its endpoint must be able to do.
    pub needs: Capabilities,
}

impl Salt {
    pub fn json(&self) -> &[u8] {
        &self.json
    }

    /// Whether this endpoint keeps apart what carries it.
    pub fn fits(&self, endpoint: &Endpoint) -> bool {
        endpoint.traits.capabilities.has(self.needs)
    }
}

/// Who sends a prompt.
#[derive(Clone, Copy)]
pub struct Sender<'a> {
    pub key: Option<&'a ClientKey>,
    /// Whom the tenant header names.
    pub tenant: &'a [u8],
    /// The client's own salt, as JSON.
    pub given: &'a [u8],
}

/// The salt of a request for `model`, if its key or the model isolates it.
///
/// # Errors
/// No engine keeps such requests apart.
pub fn salt(
    exit: &Exit,
    inbound: &Inbound,
    ask: &Ask,
    model: ModelId,
) -> Result<Option<Box<Salt>>, Fault> {
    let plan = exit.epoch.plan();
    let header = plan.routing.tenant_header.as_deref();
    let sender = Sender {
        key: exit.row.key.and_then(|key| plan.keys.get(usize::from(key.0))),
        tenant: header.and_then(|name| session::value(inbound, name)).unwrap_or_default(),
        given: given(inbound.body(), ask),
    };
    salt_of(plan, &sender, ask.op, model)
}

/// The same, of a request that may be only thought of.
///
/// # Errors
/// No engine keeps such requests apart.
pub fn salt_of(
    plan: &Plan,
    sender: &Sender<'_>,
    op: Operation,
    model: ModelId,
) -> Result<Option<Box<Salt>>, Fault> {
    let key = sender.key;
    let wanted = key.is_some_and(|key| key.isolate) || plan.models[usize::from(model.0)].isolate;
    let Some(isolation) = plan.routing.isolation.as_ref().filter(|_| wanted) else {
        return Ok(None);
    };
    let Some(needs) = needs(op)? else { return Ok(None) };
    let key = key.map_or(&b""[..], |key| key.name.as_bytes());
    let digits = isolation.salt(&[key, sender.tenant, sender.given]);
    let mut json = [b'"'; SALT_DIGITS + 2];
    json[1..=SALT_DIGITS].copy_from_slice(&digits);
    Ok(Some(Box::new(Salt { json, needs })))
}

/// The salt of its copy for the model `to`: its own, or that which only the other model wants.
///
/// # Errors
/// No endpoint there keeps it apart.
pub fn of_copy(
    exit: &Exit,
    inbound: &Inbound,
    ask: &Ask,
    to: ModelId,
) -> Result<Option<Box<Salt>>, Fault> {
    let salt = match &exit.salt {
        Some(salt) => Some(salt.clone()),
        None => salt(exit, inbound, ask, to)?,
    };
    let Some(salt) = salt else { return Ok(None) };
    let plan = exit.epoch.plan();
    let able = |id: &EndpointId| salt.fits(&plan.endpoints[usize::from(id.0)]);
    match plan.models[usize::from(to.0)].endpoints.iter().any(able) {
        true => Ok(Some(salt)),
        false => Err(Fault::Unsupported("isolated tenants")),
    }
}

/// What an engine must be able to do for it; `None`: it leaves nothing in a cache.
fn needs(op: Operation) -> Result<Option<Capabilities>, Fault> {
    match op {
        Operation::Chat => Ok(Some(Capabilities::SALTED_CHAT)),
        Operation::Completions | Operation::Responses => Ok(Some(Capabilities::SALTED_TEXT)),
        // Which release of an engine reads it there, and for which models, is not to be seen from here.
        Operation::Embeddings | Operation::Rerank | Operation::Messages => {
            Err(Fault::Unsupported("isolated tenants by this API"))
        }
        Operation::CountTokens | Operation::ListModels | Operation::GetModel => Ok(None),
    }
}

/// The client's own salt, as JSON; empty if there is none.
pub fn given<'a>(body: &'a [u8], ask: &Ask) -> &'a [u8] {
    let given = ask.salt.clone().and_then(|span| body.get(span));
    given.filter(|json| *json != b"null").unwrap_or_default()
}

/// The salt that its endpoint gets, as JSON; empty if there is none.
pub fn sent<'a>(exit: &'a Exit, inbound: &'a Inbound, ask: &Ask) -> &'a [u8] {
    exit.salt.as_ref().map_or_else(|| given(inbound.body(), ask), |salt| salt.json())
}

/// Puts the salt into the body, in the place of the client's.
pub fn splice(exit: &Exit, ask: &Ask, edits: &mut Edits) -> Result<(), EditError> {
    let Some(salt) = &exit.salt else { return Ok(()) };
    match &ask.salt {
        Some(span) => edits.replace(span.clone(), salt.json.to_vec()),
        // Behind the model's name, which every body has.
        None => edits.insert(ask.model_span.end, [b",\"cache_salt\":", &salt.json[..]].concat()),
    }
}

/// Whether the request may go to this endpoint.
pub fn allows(exit: &Exit, endpoint: EndpointId) -> bool {
    let endpoint = || &exit.epoch.plan().endpoints[usize::from(endpoint.0)];
    exit.salt.as_ref().is_none_or(|salt| salt.fits(endpoint()))
}
