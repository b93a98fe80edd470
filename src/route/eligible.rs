//! Which of a model's endpoints can take a request at all, before a policy chooses among them.
//!
//! Estimates of tokens may be wrong, so a prompt that looks too long for every endpoint is still sent to
//! the one that takes most, unless it is certainly too long.

use crate::config::plan::{Capabilities, Traits};

/// The part of an estimate that is certain: a prompt rarely has half the tokens of its estimate.
const CERTAIN_SHARE: u64 = 2;

/// What a request needs of its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    pub capabilities: Capabilities,
    /// Tokens of the prompt, estimated.
    pub input_tokens: u32,
    /// Tokens that its answer may have, where the client bounded them.
    pub output_tokens_max: Option<u64>,
}

/// Why an endpoint cannot take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unfit {
    /// It lacks some of these capabilities.
    Capability(Lack),
    /// Its context is too short.
    Context,
    /// It has as many requests as it may have.
    Busy,
}

impl Unfit {
    /// What is missing, in words.
    pub const fn name(self) -> &'static str {
        match self {
            Unfit::Capability(Lack::Tools) => "tools",
            Unfit::Capability(Lack::Vision) => "images",
            Unfit::Capability(Lack::JsonSchema) => "a JSON schema",
            Unfit::Capability(Lack::Isolation) => "isolated tenants",
            Unfit::Context => "context",
            Unfit::Busy => "room",
        }
    }
}

/// The first capability that is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lack {
    Tools,
    Vision,
    JsonSchema,
    /// Its engine's cache is the same for all tenants.
    Isolation,
}

/// Why no endpoint can take a request: what comes closest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nobody {
    Lacks(Lack),
    /// Even the longest context, of so many tokens, is certainly too short for so many.
    TooLong {
        tokens: u64,
        tokens_max: u64,
    },
    Busy,
}

impl Needs {
    /// Prompt and answer together, as estimated.
    fn tokens(&self) -> u64 {
        let output = self.output_tokens_max.unwrap_or(1);
        u64::from(self.input_tokens).saturating_add(output)
    }

    /// The same, where no estimate is wrong by so much.
    fn tokens_certain(&self) -> u64 {
        let output = self.output_tokens_max.unwrap_or(1);
        (u64::from(self.input_tokens) / CERTAIN_SHARE).saturating_add(output)
    }

    /// Whether an endpoint can take it; `full`: it has as many requests as it may have.
    ///
    /// # Errors
    /// The first reason why it cannot.
    pub fn fit(&self, traits: &Traits, full: bool) -> Result<(), Unfit> {
        if let Some(lack) = self.lack(traits.capabilities) {
            return Err(Unfit::Capability(lack));
        }
        if within(self.tokens(), traits.context_tokens_max) {
            return if full { Err(Unfit::Busy) } else { Ok(()) };
        }
        Err(Unfit::Context)
    }

    fn lack(&self, has: Capabilities) -> Option<Lack> {
        if has.has(self.capabilities) {
            return None;
        }
        let known = [
            (Capabilities::TOOLS, Lack::Tools),
            (Capabilities::VISION, Lack::Vision),
            (Capabilities::JSON_SCHEMA, Lack::JsonSchema),
            (Capabilities::SALTED_CHAT, Lack::Isolation),
            (Capabilities::SALTED_TEXT, Lack::Isolation),
        ];
        let missing = |one: Capabilities| self.capabilities.has(one) && !has.has(one);
        known.into_iter().find(|(one, _)| missing(*one)).map(|(_, lack)| lack)
    }

    /// The gate for this request before `all` of its model's endpoints (traits, whether it is full).
    ///
    /// # Errors
    /// None of them can take it.
    pub fn gate<'a>(
        &self,
        all: impl Iterator<Item = (&'a Traits, bool)> + Clone,
    ) -> Result<Gate, Nobody> {
        if all.clone().any(|(traits, full)| self.fit(traits, full).is_ok()) {
            return Ok(Gate::Fitting(*self));
        }
        self.last_resort(all).map(|longest| Gate::Longest(*self, longest))
    }

    /// What to do where none fits: the context that may do after all, if the estimate is wrong, or why
    /// there is none.
    fn last_resort<'a>(
        &self,
        all: impl Iterator<Item = (&'a Traits, bool)> + Clone,
    ) -> Result<u32, Nobody> {
        let able = all.clone().filter(|(traits, _)| self.lack(traits.capabilities).is_none());
        let Some(longest) = able.clone().map(|(traits, _)| traits.context_tokens_max).max() else {
            let lacks = all.filter_map(|(traits, _)| self.lack(traits.capabilities));
            return Err(lacks.min().map_or(Nobody::Busy, Nobody::Lacks));
        };
        let busy = |(traits, full): (&Traits, bool)| self.fit(traits, full) == Err(Unfit::Busy);
        if able.clone().any(busy) {
            return Err(Nobody::Busy);
        }
        if !within(self.tokens_certain(), longest) {
            let tokens_max = u64::from(longest);
            return Err(Nobody::TooLong { tokens: self.tokens(), tokens_max });
        }
        let mut last = able.filter(|(traits, _)| traits.context_tokens_max == longest);
        if last.all(|(_, full)| full) { Err(Nobody::Busy) } else { Ok(longest) }
    }
}

/// Who is let through to the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    Open,
    /// Those that can take it.
    Fitting(Needs),
    /// Nobody seems to: those with the longest context, of so many tokens.
    Longest(Needs, u32),
}

impl Gate {
    /// Whether an endpoint is let through.
    pub fn lets(&self, traits: &Traits, full: bool) -> bool {
        match self {
            Gate::Open => !full,
            Gate::Fitting(needs) => needs.fit(traits, full).is_ok(),
            Gate::Longest(needs, longest) => {
                let able = needs.lack(traits.capabilities).is_none() && !full;
                able && traits.context_tokens_max == *longest
            }
        }
    }
}

/// Whether so many tokens fit; a context of 0 is not known.
fn within(tokens: u64, context_tokens_max: u32) -> bool {
    context_tokens_max == 0 || tokens <= u64::from(context_tokens_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traits(context_tokens_max: u32, capabilities: Capabilities) -> Traits {
        Traits {
            context_tokens_max,
            requests_max: 0,
            bootstrap_port: 0,
            kv_tokens: 0,
            kv_percent_max: 0,
            capabilities,
            adapters: Vec::new(),
            labels: Default::default(),
        }
    }

    fn needs(input_tokens: u32, output: u64, capabilities: Capabilities) -> Needs {
        Needs { capabilities, input_tokens, output_tokens_max: Some(output) }
    }

    #[test]
    fn what_fits_fits_and_what_does_not_says_why() {
        let plain = needs(900, 100, Capabilities::NONE);
        let any = traits(0, Capabilities::ALL);
        assert_eq!(plain.fit(&any, false), Ok(()));
        assert_eq!(plain.fit(&traits(1_000, Capabilities::NONE), false), Ok(()));
        assert_eq!(plain.fit(&traits(999, Capabilities::ALL), false), Err(Unfit::Context));
        assert_eq!(plain.fit(&traits(0, Capabilities::ALL), false), Ok(()));
        assert_eq!(plain.fit(&traits(0, Capabilities::ALL), true), Err(Unfit::Busy));
        let seeing = needs(1, 1, Capabilities::VISION.with(Capabilities::TOOLS));
        let lacking = seeing.fit(&traits(0, Capabilities::TOOLS), false);
        assert_eq!(lacking, Err(Unfit::Capability(Lack::Vision)));
    }

    #[test]
    fn the_longest_context_is_the_last_resort_unless_it_is_certainly_too_short() {
        let fleet = [traits(1_000, Capabilities::ALL), traits(4_000, Capabilities::ALL)];
        let all = fleet.iter().map(|one| (one, false));
        let none = Capabilities::NONE;
        let tight = needs(5_000, 10, none).gate(all.clone()).expect("a last resort");
        assert_eq!([tight.lets(&fleet[0], false), tight.lets(&fleet[1], false)], [false, true]);
        let good = needs(2_000, 10, none).gate(all.clone()).expect("one that fits");
        assert_eq!([good.lets(&fleet[0], false), good.lets(&fleet[1], false)], [false, true]);
        let filled = [(&fleet[0], false), (&fleet[1], true)];
        assert_eq!(needs(5_000, 10, none).gate(filled.into_iter()), Err(Nobody::Busy));
        let long = needs(9_000, 10, none).gate(all.clone());
        assert_eq!(long, Err(Nobody::TooLong { tokens: 9_010, tokens_max: 4_000 }));
        let busy = [traits(0, Capabilities::ALL)];
        let all = busy.iter().map(|one| (one, true));
        assert_eq!(needs(1, 1, none).gate(all), Err(Nobody::Busy));
        let blind = [traits(0, Capabilities::TOOLS)];
        let all = blind.iter().map(|one| (one, false));
        let lacks = needs(1, 1, Capabilities::VISION).gate(all);
        assert_eq!(lacks, Err(Nobody::Lacks(Lack::Vision)));
    }
}
