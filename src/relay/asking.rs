//! A request on its way to a decision, as far as no endpoint's load counts: its prompt, what is asked of the
//! router, what it needs of an endpoint, and who can take it at all.
//!
//! Pure. A gateway goes by it with what its endpoints have to do ([`choose`](super::choose)), `sluice route`
//! with endpoints that have nothing to do: so both refuse the same, in the same words.

use crate::api::ask::Ask;
use crate::api::fault::Fault;
use crate::api::needs;
use crate::config::plan::{Capabilities, EndpointId, Model, ModelId, Plan, Traits};
use crate::relay::isolate::{self, Salt};
use crate::relay::seating::{Look, ModelSeat};
use crate::route::chain::{self, Chain, Root};
use crate::route::eligible::{Gate, Lack, Needs, Nobody};
use crate::route::precise::Told;
use crate::route::router::{Estimate, Inquiry, Slot, Whose};
use crate::route::size::{self, Size};

/// What is asked, and of which model.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    pub model: ModelId,
    pub ask: &'a Ask,
    pub body: &'a [u8],
    /// What engines said of it.
    pub told: Told,
}

/// On whose behalf.
#[derive(Clone, Copy)]
pub struct Sender<'s> {
    /// A hash of its key; 0 without one.
    pub client: u64,
    pub session: Option<u64>,
    /// Of an isolated request.
    pub salt: Option<&'s Salt>,
}

/// See the module.
pub struct Asking<'a> {
    pub plan: &'a Plan,
    pub seat: &'a ModelSeat,
    pub model: &'a Model,
    pub ask: &'a Ask,
    body: &'a [u8],
    told: Told,
    /// Of an isolated request, what its endpoint must be able to do.
    apart: Capabilities,
    pub chain: Chain,
    pub whose: Whose,
}

impl<'a> Asking<'a> {
    /// Reads the prompt into `chain`, if the model's policy looks at it.
    pub fn new(
        plan: &'a Plan,
        (seat, slot): (&'a ModelSeat, Slot),
        request: &Request<'a>,
        sender: &Sender<'_>,
        mut chain: Chain,
    ) -> Self {
        let Request { model, ask, body, told } = *request;
        let model = &plan.models[usize::from(model.0)];
        let prompt = match seat.look {
            Look::Prompt => {
                let salt = sender.salt.map_or_else(|| isolate::given(body, ask), Salt::json);
                chain::read(&mut chain, &root(model, salt), body, ask);
                Size::of(&chain, body, ask)
            }
            Look::Nothing | Look::Tokens => Size::of_body(body, ask),
        };
        let Sender { client, session, salt } = *sender;
        let computes = ask.op.computes();
        let prompt = prompt.counted(told.tokens);
        let whose = Whose { model: slot, client, session, prompt, computes };
        let apart = salt.map_or(Capabilities::NONE, |salt| salt.needs);
        Self { plan, seat, model, ask, body, told, apart, chain, whose }
    }

    /// What the router is asked.
    pub fn inquiry(&self) -> Inquiry<'_> {
        let max = self.ask.output_tokens_max;
        Inquiry {
            policy: self.model.policy,
            whose: self.whose,
            columns: &self.seat.columns,
            chain: &self.chain,
            output_tokens_max: max.map(|max| max.saturating_mul(self.ask.n)),
            session_ttl: self.plan.routing.session_ttl.as_nanos() as u64,
            known: self.told.everywhere,
        }
    }

    /// What its endpoint must be able to do and to hold.
    pub fn needs(&self, estimate: &Estimate) -> Needs {
        let capabilities = match self.seat.choosy {
            true => capabilities(needs::read(self.body, self.ask)),
            false => Capabilities::NONE,
        };
        let input_tokens = match self.seat.guarded {
            true => size::together(self.body, self.ask, estimate.input_tokens),
            false => estimate.input_tokens,
        };
        Needs {
            capabilities: capabilities.with(self.apart),
            input_tokens,
            output_tokens_max: self.ask.output_tokens_max,
        }
    }

    /// Who of `ids` can take it; `full`: an endpoint has no room for it now.
    ///
    /// # Errors
    /// None of them.
    pub fn gate(
        &self,
        needs: &Needs,
        ids: &[EndpointId],
        full: impl Fn(EndpointId) -> bool + Copy,
    ) -> Result<Gate, Nobody> {
        if !self.seat.guarded {
            return Ok(Gate::Open);
        }
        needs.gate(ids.iter().map(|id| (self.traits(*id), full(*id))))
    }

    /// What is configured of an endpoint.
    pub fn traits(&self, id: EndpointId) -> &'a Traits {
        &self.plan.endpoints[usize::from(id.0)].traits
    }
}

fn root<'r>(model: &'r Model, salt: &'r [u8]) -> Root<'r> {
    let name = upstream_name(model);
    Root { model: name, adapter: model.adapter.as_deref().unwrap_or_default(), salt }
}

/// The name that its endpoints know a model by.
pub fn upstream_name(model: &Model) -> &str {
    model.upstream_model.as_deref().unwrap_or(&model.name)
}

fn capabilities(asked: needs::Asked) -> Capabilities {
    let needs::Asked { tools, images, json_schema } = asked;
    let all = [
        (tools, Capabilities::TOOLS),
        (images, Capabilities::VISION),
        (json_schema, Capabilities::JSON_SCHEMA),
    ];
    let wanted = all.into_iter().filter(|(asked, _)| *asked);
    wanted.fold(Capabilities::NONE, |set, (_, one)| set.with(one))
}

/// What the client is told where nobody can take it.
pub fn fault(nobody: Nobody) -> Fault {
    match nobody {
        Nobody::Lacks(Lack::Tools) => Fault::Unsupported("tools"),
        Nobody::Lacks(Lack::Vision) => Fault::Unsupported("images"),
        Nobody::Lacks(Lack::JsonSchema) => Fault::Unsupported("a JSON schema"),
        Nobody::Lacks(Lack::Isolation) => Fault::Unsupported("isolated tenants"),
        Nobody::TooLong { tokens, tokens_max } => Fault::ContextTooLong { tokens, tokens_max },
        Nobody::Busy => Fault::Saturated { retry_after_s: 1 },
    }
}
