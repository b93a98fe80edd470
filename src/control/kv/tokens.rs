//! Asking an engine how it tokenises a prompt (vLLM's `/tokenize`; SGLang's has the same shape).

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::watch;

use crate::config::plan::{Endpoint, EndpointId, Plan};
use crate::control::client::{Ask, Client};
use crate::control::fleet::Addresses;
use crate::route::cost::is_credible;
use crate::route::precise::Prompt;
use crate::route::size::{Content, Size};

/// For one prompt that was sent…
const PATIENCE: Duration = Duration::from_secs(10);
/// …and for one that is to be sent; whoever waits has gone before.
const PATIENCE_ASKED: Duration = Duration::from_millis(500);
/// What an answer may hold, bytes: a number of some digits for each token, hardly more tokens than bytes.
const ANSWER_BYTES_MIN: usize = 64 << 10;
const ANSWER_BYTES_PER_BYTE: usize = 12;

/// An engine that can be asked.
#[derive(Clone, Debug)]
pub struct Engine {
    pub generation: u64,
    pub endpoint_id: EndpointId,
    /// What its cache depends on.
    pub identity: u64,
    pub endpoint: Endpoint,
    pub addresses: watch::Receiver<Addresses>,
    /// Some tenants share no cache with others.
    pub isolates: bool,
}

/// The plan's engines that tell of their caches.
pub fn engines(
    plan: &Plan,
    addresses: impl Fn(usize) -> watch::Receiver<Addresses>,
) -> Vec<Engine> {
    let telling = plan.endpoints.iter().enumerate().filter(|(_, one)| one.kv_events.is_some());
    let engine = |(at, endpoint): (usize, &Endpoint)| Engine {
        generation: plan.generation,
        endpoint_id: EndpointId(at as u16),
        identity: endpoint.cache_identity(),
        endpoint: endpoint.clone(),
        addresses: addresses(at),
        isolates: plan.isolates,
    };
    telling.map(engine).collect()
}

/// A prompt, and what became of the question.
#[derive(Debug)]
pub struct Tokenised {
    /// Whose prompt it is.
    pub shard: usize,
    /// Of the engine that was asked.
    pub identity: u64,
    /// Of all known engines that serve the prompt's model.
    pub identities: Box<[u64]>,
    pub prompt: Prompt,
    pub tokens: Result<Vec<u32>, Untold>,
}

/// Why there are no tokens.
#[derive(Debug)]
pub enum Untold {
    /// It does not take such a prompt, or its answer is not understood or not believed.
    Refused,
    /// There was no answer.
    Silent,
}

/// Of a request's body, what its prompt is made of; `/tokenize` has the same names for it.
#[derive(Deserialize, Serialize)]
struct Body<'a> {
    /// Not the client's, which the engine may not know.
    #[serde(skip_deserializing)]
    model: &'a str,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    messages: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    tools: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    prompt: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    chat_template: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    chat_template_kwargs: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    add_generation_prompt: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    continue_final_message: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    add_special_tokens: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Answer {
    tokens: Vec<u32>,
}

/// Asks `engine` for the tokens of `prompt`. Prompts that are token ids already need no question.
pub async fn tokenise(
    engine: &Engine,
    client: &mut Client,
    prompt: &Prompt,
) -> Result<Vec<u32>, Untold> {
    let tokens = match ids(&prompt.body) {
        Some(ids) => ids,
        None => ask(engine, client, prompt).await?,
    };
    // Who waits for it goes by their number.
    let text = Size { bytes: prompt.bytes, content: Content::Text };
    let believed = prompt.waiter.is_none() || is_credible(&text, tokens.len() as u64);
    if believed { Ok(tokens) } else { Err(Untold::Refused) }
}

async fn ask(engine: &Engine, client: &mut Client, prompt: &Prompt) -> Result<Vec<u32>, Untold> {
    let question = question(&prompt.body, &prompt.model).ok_or(Untold::Refused)?;
    let path = format!("{}/tokenize", engine.endpoint.path_prefix).into();
    let answer_bytes_max = ANSWER_BYTES_MIN + ANSWER_BYTES_PER_BYTE * question.len();
    let ask = Ask { path, body: Some(question), answer_bytes_max };
    let addresses: Vec<SocketAddr> = engine.addresses.borrow().to_vec();
    let patience = if prompt.waiter.is_some() { PATIENCE_ASKED } else { PATIENCE };
    let answer = client.ask(&addresses, 0, patience, &ask).await.map_err(|_| Untold::Silent)?;
    let whole = (answer.status == 200).then_some(answer.body).ok_or(Untold::Refused)?;
    let answer = serde_json::from_slice::<Answer>(&whole).map_err(|_| Untold::Refused)?;
    Ok(answer.tokens)
}

/// The question, in the bytes that the client chose; `None` for what `/tokenize` does not take.
fn question(body: &[u8], model: &str) -> Option<Vec<u8>> {
    let mut body: Body<'_> = serde_json::from_slice(body).ok()?;
    body.model = model;
    // A list of prompts is several; a prompt and messages are two readings.
    let text = body.prompt.is_some_and(|prompt| prompt.get().starts_with('"'));
    match (body.messages.is_some(), text) {
        (true, false) if body.prompt.is_none() => serde_json::to_vec(&body).ok(),
        (false, true) => serde_json::to_vec(&body).ok(),
        _ => None,
    }
}

/// A prompt of token ids.
fn ids(body: &[u8]) -> Option<Vec<u32>> {
    let body: Body<'_> = serde_json::from_slice(body).ok()?;
    serde_json::from_str(body.prompt?.get()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(body: &str, model: &str) -> Option<String> {
        question(body.as_bytes(), model).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn questions_hold_the_prompt_and_nothing_else() {
        let chat = r#"{"stream":true,"model":"a","messages":[{"role":"user","content":"h\u0069"}],"tools":[1]}"#;
        let expected =
            r#"{"model":"a","messages":[{"role":"user","content":"h\u0069"}],"tools":[1]}"#;
        assert_eq!(asked(chat, "a").as_deref(), Some(expected));
        assert_eq!(
            asked(r#"{"add_special_tokens":false,"model":"a","prompt":"x"}"#, "a").unwrap(),
            r#"{"model":"a","prompt":"x","add_special_tokens":false}"#
        );
        for no in [r#"{"model":"a","prompt":["x","y"]}"#, r#"{"model":"a","input":"x"}"#, "{"] {
            assert_eq!(asked(no, "a"), None, "{no}");
        }
    }

    #[test]
    fn the_model_has_the_name_that_its_engine_knows() {
        let asked = asked(r#"{"model":"best","prompt":"x"}"#, r#"org/"m""#).unwrap();
        assert_eq!(asked, r#"{"model":"org/\"m\"","prompt":"x"}"#);
    }

    #[test]
    fn token_ids_are_taken_as_they_are() {
        assert_eq!(ids(br#"{"model":"a","prompt":[1,2,3]}"#), Some(vec![1, 2, 3]));
        assert_eq!(ids(br#"{"model":"a","prompt":"1"}"#), None);
        assert_eq!(ids(br#"{"model":"a","prompt":[[1],[2]]}"#), None);
    }
}
