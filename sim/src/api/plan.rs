//! From a request body to what the engine runs and who writes the answer.

use super::body::Body;
use super::chat::{self, ChatStream};
use super::completions::{self, CompletionStream};
use super::encode::{Encoder, Finish, Meta};
use super::error::ApiError;
use super::llama;
use super::messages::{self, MessageStream};
use super::pooling;
use super::prompt::{self, Rendered};
use super::responses::{self, ResponseStream};
use super::tool::ToolCall;
use super::whole::Whole;
use super::{Dialect, Op, Quoted};
use crate::engine::{Prompt, chain};
use crate::text::mix;
use crate::text::voice::Voice;

/// What the server allows and assumes.
#[derive(Clone, Debug)]
pub struct Limits {
    pub dialect: Dialect,
    /// Names it serves; each has a cache of its own, as adapters have.
    pub models: Vec<String>,
    /// Decides the text.
    pub seed: u64,
    /// Tokens of prompt and output together.
    pub context_tokens_max: u32,
    /// Output where the client set no limit.
    pub output_tokens_default: u32,
    /// Length at which the model has said all, if it ever has.
    pub eos_tokens: Option<u32>,
    /// The engine's block size.
    pub block_size: u32,
    /// The engine tells of its cache, token ids included.
    pub tells_ids: bool,
    /// Length of an embedding where the client asks for none.
    pub embedding_dimensions: usize,
}

/// What the server adds to a body: the answer's identity, and misbehaviour of the text.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// For the answer's id.
    pub id: String,
    /// Unix time in seconds.
    pub created: u64,
    /// Say the same so many words over and over (0 = do not).
    pub loop_words: u32,
    /// Leave out the finish reason.
    pub no_finish: bool,
}

/// Where the pieces of text come from.
#[derive(Clone, Debug)]
pub enum Script {
    /// The model's own words.
    Voice(Voice),
    /// A tool call's pieces.
    Pieces(Vec<String>),
    /// Nothing is said (embeddings).
    Silent,
}

impl Script {
    /// Appends the text of `count` tokens from position `first` on.
    pub fn say(&self, first: u32, count: u32, text: &mut String) {
        for position in first..first + count {
            match self {
                Script::Voice(voice) => text.push_str(voice.piece(position)),
                Script::Pieces(pieces) => {
                    text.push_str(pieces.get(position as usize).map_or("", String::as_str));
                }
                Script::Silent => (),
            }
        }
    }

    /// The voice, where the engine may cache what is said.
    pub fn voice(&self) -> Option<Voice> {
        match self {
            Script::Voice(voice) => Some(*voice),
            _ => None,
        }
    }
}

/// One sequence of a request.
#[derive(Clone, Debug)]
pub struct SequencePlan {
    pub prompt: Prompt,
    pub output_tokens: u32,
    pub finish: Option<Finish>,
    pub script: Script,
    /// Whether its prompt counts in the usage: the prompt of `n` choices counts once.
    pub counted: bool,
}

/// A request that the engine runs.
pub struct Generation {
    pub stream: bool,
    pub sequences: Vec<SequencePlan>,
    pub encoder: Box<dyn Encoder>,
}

/// What to do with a request.
pub enum Plan {
    /// Run it.
    Run(Generation),
    /// Answer with this body at once.
    Reply(String),
}

/// Reads a body of `op` and plans its answer.
pub fn plan(op: Op, bytes: &[u8], limits: &Limits, context: Context) -> Result<Plan, ApiError> {
    let body = Body::read(bytes)?;
    let salt = salt(op, &body)?;
    let root = root(op, &body, salt, limits)?;
    let planner = Planner { body: &body, limits, context, root, salt };
    match op {
        Op::Chat => planner.chat(prompt::chat(&body)?, op),
        Op::Messages => planner.chat(prompt::messages(&body)?, op),
        Op::Responses => planner.chat(prompt::responses(&body)?, op),
        Op::Completions => planner.completions(),
        Op::CountTokens => Ok(Plan::Reply(planner.count_tokens(&prompt::messages(&body)?))),
        Op::Tokenize => Ok(Plan::Reply(planner.tokenize()?)),
        Op::Embeddings => planner.embeddings(),
        Op::Rerank => planner.rerank(),
    }
}

/// Checks the model's name; the root of its block chains.
fn root(op: Op, body: &Body<'_>, salt: Option<&str>, limits: &Limits) -> Result<u64, ApiError> {
    let Some(model) = &body.model else {
        // vLLM tokenises for its only model.
        return if op == Op::Tokenize { Ok(0) } else { Err(prompt::missing("model")) };
    };
    let place = limits.models.iter().position(|name| name == model);
    let place = place.ok_or_else(|| ApiError::unknown_model(model))? as u64;
    let salt = salt.unwrap_or_default();
    Ok(salt.bytes().fold(mix(place, 1), |state, byte| mix(state, u64::from(byte))))
}

/// vLLM's: a text that is not empty, and nothing that its Anthropic API looks at.
fn salt<'a>(op: Op, body: &'a Body<'_>) -> Result<Option<&'a str>, ApiError> {
    match body.cache_salt.as_deref() {
        _ if matches!(op, Op::Messages | Op::CountTokens) => Ok(None),
        Some("") => {
            let text = "Parameter 'cache_salt' must be a non-empty string if provided.";
            Err(ApiError::bad_request(text, Some("cache_salt")))
        }
        salt => Ok(salt),
    }
}

struct Planner<'a> {
    body: &'a Body<'a>,
    limits: &'a Limits,
    context: Context,
    root: u64,
    salt: Option<&'a str>,
}

impl Planner<'_> {
    /// The three APIs in which a conversation is answered.
    fn chat(self, rendered: Rendered, op: Op) -> Result<Plan, ApiError> {
        let tool = ToolCall::demanded(self.body);
        let prompt = self.prompt(&rendered)?;
        let n = if op == Op::Chat { self.choices()? } else { 1 };
        let mut sequences = Vec::with_capacity(n);
        for index in 0..n {
            let voice = self.voice(&rendered, index);
            sequences.push(self.sequence(prompt.clone(), voice, tool.as_ref(), index == 0)?);
        }
        let meta = self.meta(n, tool);
        let encoder: Box<dyn Encoder> = match (op, self.streams()) {
            _ if self.limits.dialect == Dialect::LlamaCpp => {
                llama::encoder(op, self.streams(), meta)
            }
            (Op::Messages, true) => Box::new(MessageStream::new(meta)),
            (Op::Messages, false) => Box::new(Whole::new(meta, messages::render)),
            (Op::Responses, true) => Box::new(ResponseStream::new(meta)),
            (Op::Responses, false) => Box::new(Whole::new(meta, responses::render)),
            (_, true) => Box::new(ChatStream::new(meta)),
            (_, false) => Box::new(Whole::new(meta, chat::render)),
        };
        Ok(Plan::Run(Generation { stream: self.streams(), sequences, encoder }))
    }

    fn completions(self) -> Result<Plan, ApiError> {
        let prompts = prompt::texts(self.body.prompt, "prompt")?;
        let n = self.choices()?;
        let mut sequences = Vec::with_capacity(prompts.len() * n);
        for rendered in &prompts {
            let prompt = self.prompt(rendered)?;
            for index in 0..n {
                let voice = self.voice(rendered, index).spaced();
                sequences.push(self.sequence(prompt.clone(), voice, None, index == 0)?);
            }
        }
        let meta = self.meta(sequences.len(), None);
        let streams = self.streams();
        let encoder: Box<dyn Encoder> = match (self.limits.dialect, streams) {
            (Dialect::LlamaCpp, _) => llama::encoder(Op::Completions, streams, meta),
            (_, true) => Box::new(CompletionStream::new(meta)),
            (_, false) => Box::new(Whole::new(meta, completions::render)),
        };
        Ok(Plan::Run(Generation { stream: self.streams(), sequences, encoder }))
    }

    fn embeddings(self) -> Result<Plan, ApiError> {
        let inputs = prompt::texts(self.body.input, "input")?;
        let mut sequences = Vec::with_capacity(inputs.len());
        for rendered in &inputs {
            sequences.push(silent(self.prompt(rendered)?));
        }
        let dimensions = self.body.dimensions.unwrap_or(self.limits.embedding_dimensions);
        let base64 = self.body.encoding_format.as_deref() == Some("base64");
        let keys: Vec<u64> = inputs.iter().map(|one| chain(0, &one.ids)).collect();
        let data = pooling::embeddings(&keys, dimensions.clamp(1, 8_192), base64);
        let encoder = Box::new(pooling::Embedded { meta: self.meta(inputs.len(), None), data });
        Ok(Plan::Run(Generation { stream: false, sequences, encoder }))
    }

    fn rerank(self) -> Result<Plan, ApiError> {
        let query = self.body.query.ok_or_else(|| prompt::missing("query"))?;
        let documents = self.body.documents.as_ref().ok_or_else(|| prompt::missing("documents"))?;
        let mut sequences = Vec::with_capacity(documents.len());
        let mut keys = Vec::with_capacity(documents.len());
        for document in documents {
            let rendered = prompt::pair(query, document);
            keys.push(chain(0, &rendered.ids));
            sequences.push(silent(self.prompt(&rendered)?));
        }
        if sequences.is_empty() {
            return Err(ApiError::bad_request("documents must not be empty", Some("documents")));
        }
        let top = self.body.top_n.filter(|top| *top > 0).unwrap_or(documents.len());
        let results = pooling::ranking(documents, &keys, top);
        let encoder = Box::new(pooling::Ranked { meta: self.meta(keys.len(), None), results });
        Ok(Plan::Run(Generation { stream: false, sequences, encoder }))
    }

    fn count_tokens(self, rendered: &Rendered) -> String {
        let count = rendered.ids.len();
        match self.limits.dialect {
            Dialect::LlamaCpp => format!(r#"{{"input_tokens":{count}}}"#),
            Dialect::Vllm => format!(
                r#"{{"input_tokens":{count},"context_management":{{"original_input_tokens":{count}}}}}"#
            ),
        }
    }

    fn tokenize(self) -> Result<String, ApiError> {
        if self.limits.dialect == Dialect::LlamaCpp {
            let texts = prompt::texts(self.body.content, "content")?;
            return Ok(llama::tokens(&texts));
        }
        let rendered = match self.body.messages {
            Some(_) => prompt::chat(self.body)?,
            None => {
                let mut texts = prompt::texts(self.body.prompt, "prompt")?;
                texts.pop().unwrap_or_default()
            }
        };
        let ids: Vec<String> = rendered.ids.iter().map(u32::to_string).collect();
        let strings = match (self.body.return_token_strs, self.body.prompt) {
            (Some(true), Some(raw)) => token_strings(raw),
            _ => "null".to_string(),
        };
        Ok(format!(
            r#"{{"count":{},"max_model_len":{},"tokens":[{}],"token_strs":{strings}}}"#,
            ids.len(),
            self.limits.context_tokens_max,
            ids.join(",")
        ))
    }

    fn prompt(&self, rendered: &Rendered) -> Result<Prompt, ApiError> {
        if rendered.ids.is_empty() {
            return Err(ApiError::bad_request("The prompt cannot be empty", Some("prompt")));
        }
        if rendered.ids.len() >= self.limits.context_tokens_max as usize {
            return Err(self.too_long(rendered.ids.len(), 0));
        }
        let prompt = Prompt::from_tokens(&rendered.ids, self.limits.block_size, self.root);
        Ok(if self.limits.tells_ids { prompt.with_ids(&rendered.ids, self.salt) } else { prompt })
    }

    /// The voice for this prompt: a continued message's own tokens do not change it.
    fn voice(&self, rendered: &Rendered, index: usize) -> Voice {
        let asked = &rendered.ids[..rendered.ids.len() - rendered.continued as usize];
        let key = mix(mix(self.limits.seed, chain(0, asked)), index as u64);
        let key = self.body.seed.map_or(key, |seed| mix(key, seed as u64));
        Voice::new(key).from(rendered.continued).looped(self.context.loop_words)
    }

    fn sequence(
        &self,
        prompt: Prompt,
        voice: Voice,
        tool: Option<&ToolCall>,
        counted: bool,
    ) -> Result<SequencePlan, ApiError> {
        let (script, natural) = match tool {
            None => (Script::Voice(voice), None),
            Some(tool) => {
                let pieces = tool.script();
                let length = pieces.len() as u32;
                (Script::Pieces(pieces), Some(length))
            }
        };
        let (output_tokens, finish) = self.output(prompt.tokens, natural)?;
        let finish = Some(finish).filter(|_| !self.context.no_finish);
        Ok(SequencePlan { prompt, output_tokens, finish, script, counted })
    }

    /// How many tokens, and why no more.
    fn output(&self, prompt: u32, tool: Option<u32>) -> Result<(u32, Finish), ApiError> {
        let room = self.limits.context_tokens_max - prompt;
        let asked = self.max_tokens();
        if asked == Some(0) {
            return Err(ApiError::bad_request(
                "max_tokens must be at least 1, got 0.",
                Some("max_tokens"),
            ));
        }
        if let Some(asked) = asked.filter(|asked| *asked > room) {
            return Err(self.too_long(prompt as usize, asked));
        }
        let most = asked.unwrap_or(room);
        Ok(match tool.or_else(|| self.natural_length(asked)) {
            Some(natural) if natural <= most => {
                (natural, tool.map_or(Finish::Stop, |_| Finish::ToolCalls))
            }
            _ => (most, Finish::Length),
        })
    }

    /// Where the model would stop by itself.
    fn natural_length(&self, asked: Option<u32>) -> Option<u32> {
        let ends = self.body.ignore_eos != Some(true) && self.context.loop_words == 0;
        let natural = self.limits.eos_tokens.filter(|_| ends);
        let natural = natural.or(asked.is_none().then_some(self.limits.output_tokens_default));
        natural.map(|natural| natural.max(self.body.min_tokens.unwrap_or(0)).max(1))
    }

    fn max_tokens(&self) -> Option<u32> {
        self.body.max_completion_tokens.or(self.body.max_tokens).or(self.body.max_output_tokens)
    }

    fn choices(&self) -> Result<usize, ApiError> {
        match self.body.n.unwrap_or(1) {
            n @ 1..=128 => Ok(n as usize),
            n => Err(ApiError::bad_request(
                format!("n must be between 1 and 128, got {n}."),
                Some("n"),
            )),
        }
    }

    fn streams(&self) -> bool {
        self.body.stream == Some(true)
    }

    fn meta(&self, choices: usize, tool: Option<ToolCall>) -> Meta {
        let options = self.body.stream_options.unwrap_or_default();
        let include_usage = options.include_usage == Some(true);
        Meta {
            id: self.context.id.clone(),
            created: self.context.created,
            model: self.body.model.clone().unwrap_or_default(),
            choices,
            tool,
            include_usage,
            continuous_usage: include_usage && options.continuous_usage_stats == Some(true),
            max_tokens: self.max_tokens(),
            progress: self.body.return_progress == Some(true),
            timings: self.body.timings_per_token == Some(true),
        }
    }

    fn too_long(&self, prompt: usize, output: u32) -> ApiError {
        let most = self.limits.context_tokens_max;
        let message = format!(
            "This model's maximum context length is {most} tokens. However, you requested {output} \
             output tokens and your prompt contains at least {prompt} input tokens. Please reduce \
             the length of the input prompt or the number of requested output tokens."
        );
        ApiError::bad_request(message, Some("input_tokens"))
    }
}

fn silent(prompt: Prompt) -> SequencePlan {
    let finish = Some(Finish::Stop);
    SequencePlan { prompt, output_tokens: 0, finish, script: Script::Silent, counted: true }
}

fn token_strings(raw: &serde_json::value::RawValue) -> String {
    let text = super::body::string_of(raw);
    let strings: Vec<String> =
        crate::text::tokens::pieces(&text).map(|piece| Quoted(piece).to_string()).collect();
    format!("[{}]", strings.join(","))
}
