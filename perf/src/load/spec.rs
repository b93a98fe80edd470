//! What a load consists of: plain data that is written down beside what was measured with it.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::traffic::payload::Text;

/// Bytes of the largest body.
pub const BODY_BYTES_MAX: usize = 64 << 20;
/// Connections of one generator at most.
pub const CONNECTIONS_MAX: usize = 60_000;
/// Bytes of all shared beginnings of prompts, were they as long as the body.
pub const PREFIX_BYTES_MAX: usize = 1 << 30;
/// A measurement is no longer than this.
pub const DURATION_MAX: Duration = Duration::from_secs(6 * 3600);
/// Requests a second at most.
pub const RATE_MAX: f64 = 10_000_000.0;
/// Shared beginnings at most.
pub const PREFIXES_MAX: u32 = 4096;
/// Turns of a conversation at most.
pub const TURNS_MAX: u32 = 1_000;

/// One run of the generator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    pub target: Target,
    #[serde(default = "default_model")]
    pub model: String,
    /// Sent as a bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<String>,
    /// Further headers, as (name, value).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    pub arrivals: Arrivals,
    pub request: Shape,
    #[serde(default)]
    pub prompts: Prompts,
    /// Connections open at once at most. An arrival that would need one more is counted as unsent.
    pub connections: usize,
    /// Before the measurement, with the same traffic.
    #[serde(default, with = "seconds", rename = "warmup_seconds")]
    pub warmup: Duration,
    #[serde(with = "seconds", rename = "duration_seconds")]
    pub duration: Duration,
    /// How long a connection may say nothing while it owes an answer, and how long the last answers are
    /// awaited after the measurement.
    #[serde(default = "default_patience", with = "seconds", rename = "patience_seconds")]
    pub patience: Duration,
    /// Share of the requests that are given up, each at a random moment of its life, from 0 to 1: a quarter
    /// of the streams before their first content, the others after a random event.
    #[serde(default)]
    pub abort_share: f64,
    #[serde(default)]
    pub readers: Reader,
    /// Never sleep while waiting, so that nobody pays for waking the generator.
    #[serde(default)]
    pub spin: bool,
    #[serde(default)]
    pub seed: u64,
}

/// When requests are sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Arrivals {
    /// So many at once, each as soon as the one before it is answered.
    Closed { concurrency: usize },
    /// At equal distances.
    Fixed { per_second: f64 },
    /// At random and independently.
    Poisson { per_second: f64 },
    /// At these moments after the start of the warm-up, in order.
    Traced {
        #[serde(with = "seconds::list", rename = "at_seconds")]
        at: Vec<Duration>,
    },
}

/// What a request is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Shape {
    /// Answered whole. The body has exactly so many bytes (or the least that a request takes).
    Unary {
        body_bytes: usize,
        #[serde(default)]
        text: Text,
        #[serde(default = "default_tokens")]
        output_tokens: u32,
    },
    /// Answered event by event.
    Stream {
        body_bytes: usize,
        #[serde(default)]
        text: Text,
        output_tokens: u32,
    },
    /// Streamed turns of conversations: escaped text that grows from `first_bytes` to `last_bytes` in so many
    /// turns, each a continuation of the one before it; then a new conversation begins.
    Agent { first_bytes: usize, last_bytes: usize, turns: u32, output_tokens: u32 },
}

/// How the prompts of different requests relate. Conversations ([`Shape::Agent`]) always differ from the
/// start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Prompts {
    /// They are the same.
    #[default]
    Same,
    /// They differ from the start.
    Unique,
    /// Each begins with one of so many long texts, which is this share of it, and differs from there on.
    Shared { prefixes: u32, share: f64 },
}

/// How answers are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Reader {
    #[default]
    Fast,
    /// Each connection at this rate, with a small receive buffer.
    Slow { bytes_per_second: u32 },
}

/// An `http://` URL that the API lives under.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Target {
    /// Host and port, as in the `Host` header.
    pub authority: String,
    /// Without a slash at its end.
    pub prefix: String,
}

impl Spec {
    /// A load with nothing unusual about it.
    pub fn new(target: Target, arrivals: Arrivals, request: Shape, connections: usize) -> Self {
        Self {
            target,
            model: default_model(),
            api_key: None,
            headers: Vec::new(),
            arrivals,
            request,
            prompts: Prompts::Same,
            connections,
            warmup: Duration::from_secs(1),
            duration: Duration::from_secs(10),
            patience: default_patience(),
            abort_share: 0.0,
            readers: Reader::Fast,
            spin: false,
            seed: 0,
        }
    }

    /// Says what is wrong with it, if anything is.
    ///
    /// # Errors
    /// A value is out of bounds, or two contradict each other.
    pub fn check(&self) -> Result<(), Failure> {
        let fault = self.fault_of_arrivals().or_else(|| self.request.fault()).or_else(|| {
            let share = |share: f64| (0.0..=1.0).contains(&share);
            let text = |text: &str| text.bytes().any(|byte| byte.is_ascii_control());
            let odd = |(name, value): &(String, String)| {
                name.is_empty() || text(name) || text(value) || name.contains([' ', ':'])
            };
            match self.prompts {
                Prompts::Shared { prefixes, share: part }
                    if !share(part) || !(1..=PREFIXES_MAX).contains(&prefixes) =>
                {
                    Some("shared prompts take 1 to 4096 prefixes and a share from 0 to 1")
                }
                _ if !share(self.abort_share) => Some("the share of aborts goes from 0 to 1"),
                _ if self.headers.iter().any(odd) => Some("a header is malformed"),
                _ if self.api_key.as_deref().is_some_and(text) => Some("the key is malformed"),
                _ if self.duration.is_zero() || self.duration > DURATION_MAX => {
                    Some("a measurement takes more than nothing and at most six hours")
                }
                _ if self.readers == (Reader::Slow { bytes_per_second: 0 }) => {
                    Some("readers that read nothing")
                }
                _ if self.warmup.max(self.patience) > DURATION_MAX => {
                    Some("warm-up and patience take at most six hours")
                }
                Prompts::Shared { prefixes, .. }
                    if prefixes as usize > PREFIX_BYTES_MAX / self.request.body_bytes_max() =>
                {
                    Some("the shared beginnings take over 1 GiB together")
                }
                _ => None,
            }
        });
        fault.map_or(Ok(()), |fault| Err(fault.into()))
    }

    fn fault_of_arrivals(&self) -> Option<&'static str> {
        let possible = |rate: f64| rate > 0.0 && rate <= RATE_MAX;
        match &self.arrivals {
            _ if !(1..=CONNECTIONS_MAX).contains(&self.connections) => {
                Some("there can be 1 to 60000 connections")
            }
            Arrivals::Closed { concurrency } if !(1..=self.connections).contains(concurrency) => {
                Some("the concurrency goes from 1 to the number of connections")
            }
            Arrivals::Fixed { per_second } | Arrivals::Poisson { per_second }
                if !possible(*per_second) =>
            {
                Some("the rate must be over 0 and at most ten million a second")
            }
            Arrivals::Traced { at } if !at.is_sorted() => Some("the trace is not in order of time"),
            _ => None,
        }
    }
}

impl Shape {
    /// Whether answers come event by event.
    pub fn streams(&self) -> bool {
        !matches!(self, Shape::Unary { .. })
    }

    fn body_bytes_max(&self) -> usize {
        match *self {
            Shape::Unary { body_bytes, .. } | Shape::Stream { body_bytes, .. } => body_bytes.max(1),
            Shape::Agent { last_bytes, .. } => last_bytes.max(1),
        }
    }

    /// Events that a stream should have, at least.
    pub fn events(&self) -> Option<u64> {
        match *self {
            Shape::Unary { .. } => None,
            Shape::Stream { output_tokens, .. } | Shape::Agent { output_tokens, .. } => {
                Some(output_tokens.into())
            }
        }
    }

    fn fault(&self) -> Option<&'static str> {
        let (first, last, turns) = match *self {
            Shape::Unary { body_bytes, .. } | Shape::Stream { body_bytes, .. } => {
                (body_bytes, body_bytes, 1)
            }
            Shape::Agent { first_bytes, last_bytes, turns, .. } => (first_bytes, last_bytes, turns),
        };
        match () {
            () if last > BODY_BYTES_MAX => Some("a body has 64 MiB at most"),
            () if first > last => Some("conversations grow"),
            () if !(1..=TURNS_MAX).contains(&turns) => Some("a conversation has 1 to 1000 turns"),
            () => None,
        }
    }
}

impl Target {
    /// Where to connect: resolved now, and only once.
    ///
    /// # Errors
    /// The name is unknown.
    pub fn resolve(&self) -> Result<SocketAddr, Failure> {
        let unknown = |error| format!("cannot resolve {}: {error}", self.authority);
        let port = if self.has_port() { "" } else { ":80" };
        let mut found = format!("{}{port}", self.authority).to_socket_addrs().map_err(unknown)?;
        found.next().ok_or_else(|| format!("{} has no address", self.authority).into())
    }

    fn has_port(&self) -> bool {
        self.authority.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'))
    }

    /// The path of chats: below `/v1` where no prefix is given, else below the prefix.
    pub fn path(&self) -> String {
        match self.prefix.as_str() {
            "" => "/v1/chat/completions".to_owned(),
            whole if whole.ends_with("/completions") => whole.to_owned(),
            prefix => format!("{prefix}/chat/completions"),
        }
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        let rest = url.strip_prefix("http://").ok_or("the target is an http:// URL")?;
        let (authority, prefix) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let odd = |text: &str| text.bytes().any(|b| b.is_ascii_control() || b" ?#@".contains(&b));
        if authority.is_empty() || odd(rest) {
            return Err(format!("{url} is not a URL of the form http://host:port/path"));
        }
        let prefix = prefix.trim_end_matches('/').to_owned();
        Ok(Self { authority: authority.to_owned(), prefix })
    }
}

impl TryFrom<String> for Target {
    type Error = String;

    fn try_from(url: String) -> Result<Self, String> {
        url.parse()
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        target.to_string()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.prefix)
    }
}

fn default_model() -> String {
    "mock-model".to_owned()
}

fn default_patience() -> Duration {
    Duration::from_secs(30)
}

fn default_tokens() -> u32 {
    64
}

/// Times as seconds with a fraction.
mod seconds {
    use std::time::Duration;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        time.as_secs_f64().serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(from)?).map_err(Error::custom)
    }

    pub mod list {
        use super::{Deserialize, Deserializer, Duration, Error, Serializer};

        pub fn serialize<S: Serializer>(times: &[Duration], to: S) -> Result<S::Ok, S::Error> {
            to.collect_seq(times.iter().map(Duration::as_secs_f64))
        }

        pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Duration>, D::Error> {
            let times = Vec::<f64>::deserialize(from)?.into_iter();
            times.map(|time| Duration::try_from_secs_f64(time).map_err(Error::custom)).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(arrivals: Arrivals, request: Shape) -> Spec {
        Spec::new("http://localhost:8080".parse().unwrap(), arrivals, request, 64)
    }

    #[test]
    fn specs_survive_being_written_down() {
        let traced = Arrivals::Traced { at: vec![Duration::ZERO, Duration::from_millis(1500)] };
        let agent = Shape::Agent {
            first_bytes: 500_000,
            last_bytes: 3_000_000,
            turns: 20,
            output_tokens: 50,
        };
        let unary = Shape::Unary { body_bytes: 1024, text: Text::Escaped, output_tokens: 1 };
        for spec in [
            spec(traced, agent),
            spec(Arrivals::Closed { concurrency: 16 }, unary),
            Spec {
                prompts: Prompts::Shared { prefixes: 4, share: 0.9 },
                readers: Reader::Slow { bytes_per_second: 1000 },
                api_key: Some("sk-1".into()),
                headers: vec![("x-a".into(), "b".into())],
                ..spec(Arrivals::Poisson { per_second: 0.5 }, unary)
            },
        ] {
            let text = serde_json::to_string(&spec).unwrap();
            assert_eq!(serde_json::from_str::<Spec>(&text).unwrap(), spec, "{text}");
            assert!(spec.check().is_ok(), "{text}");
        }
    }

    #[test]
    fn the_least_spec() {
        let text = r#"{"target":"http://h/v1/","arrivals":{"kind":"fixed","per_second":10},
            "request":{"kind":"stream","body_bytes":1024,"output_tokens":8},"connections":4,
            "duration_seconds":2.5}"#;
        let spec: Spec = serde_json::from_str(text).unwrap();
        assert_eq!(spec.duration, Duration::from_millis(2500));
        assert_eq!(spec.target.to_string(), "http://h/v1");
    }

    #[test]
    fn impossible_specs_are_refused() {
        let unary = Shape::Unary { body_bytes: 1024, text: Text::Plain, output_tokens: 1 };
        let closed = |concurrency| Arrivals::Closed { concurrency };
        let shrinking = Shape::Agent { first_bytes: 2, last_bytes: 1, turns: 2, output_tokens: 1 };
        for wrong in [
            spec(closed(65), unary),
            spec(closed(0), unary),
            spec(Arrivals::Fixed { per_second: f64::NAN }, unary),
            spec(closed(1), shrinking),
            Spec { abort_share: 1.5, ..spec(closed(1), unary) },
            Spec { patience: Duration::MAX, ..spec(closed(1), unary) },
            Spec { headers: vec![("a".into(), "b\r\nc: d".into())], ..spec(closed(1), unary) },
        ] {
            assert!(wrong.check().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn targets_say_where_the_api_is() {
        for (url, path) in [
            ("http://127.0.0.1:9001", "/v1/chat/completions"),
            ("http://127.0.0.1:9001/", "/v1/chat/completions"),
            ("http://h:1/openai/v1", "/openai/v1/chat/completions"),
            ("http://h:1/v1/chat/completions", "/v1/chat/completions"),
        ] {
            assert_eq!(url.parse::<Target>().unwrap().path(), path);
        }
        for wrong in ["https://h", "h:80", "http://", "http://a b/", "http://u@h/"] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong}");
        }
        let port = |url: &str| url.parse::<Target>().unwrap().resolve().unwrap().port();
        assert_eq!(
            (port("http://127.0.0.1"), port("http://[::1]"), port("http://[::1]:8")),
            (80, 80, 8)
        );
    }
}
