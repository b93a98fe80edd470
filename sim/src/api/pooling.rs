//! Embeddings and reranking: numbers that depend on the text alone.

use super::body::each_text;
use super::encode::{Encoder, Meta, Sink, Step};
use super::json::Quoted;
use crate::text::mix;
use serde_json::value::RawValue;

/// Answers an embeddings request once every input is prefilled.
pub struct Embedded {
    pub meta: Meta,
    /// The JSON of each input's object.
    pub data: Vec<String>,
}

impl Encoder for Embedded {
    fn step(&mut self, step: &Step<'_>, sink: &mut dyn Sink) {
        if step.end {
            let body = format!(
                r#"{{"id":{},"object":"list","created":{},"model":{},"data":[{}],"usage":{{"prompt_tokens":{prompt},"total_tokens":{prompt},"completion_tokens":0,"prompt_tokens_details":null}}}}"#,
                Quoted(&format!("embd-{}", self.meta.id)),
                self.meta.created,
                Quoted(&self.meta.model),
                self.data.join(","),
                prompt = step.usage.prompt
            );
            sink.whole(body.as_bytes());
            sink.end();
        }
    }
}

/// Answers a rerank request once every pair is prefilled.
pub struct Ranked {
    pub meta: Meta,
    /// The JSON of each result, best first.
    pub results: Vec<String>,
}

impl Encoder for Ranked {
    fn step(&mut self, step: &Step<'_>, sink: &mut dyn Sink) {
        if step.end {
            let body = format!(
                r#"{{"id":{},"model":{},"usage":{{"prompt_tokens":{prompt},"total_tokens":{prompt}}},"results":[{}]}}"#,
                Quoted(&format!("rerank-{}", self.meta.id)),
                Quoted(&self.meta.model),
                self.results.join(","),
                prompt = step.usage.prompt
            );
            sink.whole(body.as_bytes());
            sink.end();
        }
    }
}

/// The objects of `data`, one for each key.
pub fn embeddings(keys: &[u64], dimensions: usize, base64: bool) -> Vec<String> {
    keys.iter()
        .enumerate()
        .map(|(index, key)| {
            let vector = unit_vector(*key, dimensions);
            let shown = if base64 { base64_floats(&vector) } else { plain_floats(&vector) };
            format!(r#"{{"index":{index},"object":"embedding","embedding":{shown}}}"#)
        })
        .collect()
}

/// The `top` best results; a document's score depends on it and the query alone.
pub fn ranking(documents: &[&RawValue], keys: &[u64], top: usize) -> Vec<String> {
    let mut scored: Vec<(f64, usize)> =
        keys.iter().enumerate().map(|(at, key)| (fraction(mix(*key, 3)), at)).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let shown = scored.iter().take(top).map(|(score, at)| {
        let mut text = String::new();
        each_text(documents[*at], &mut |part| text.push_str(part));
        format!(
            r#"{{"index":{at},"document":{{"text":{},"multi_modal":null}},"relevance_score":{score:.6}}}"#,
            Quoted(&text)
        )
    });
    shown.collect()
}

fn unit_vector(key: u64, dimensions: usize) -> Vec<f32> {
    let raw: Vec<f64> =
        (0..dimensions).map(|at| fraction(mix(key, at as u64)) * 2.0 - 1.0).collect();
    let length = raw.iter().map(|x| x * x).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
    raw.iter().map(|x| (x / length) as f32).collect()
}

/// A number in [0, 1).
fn fraction(hash: u64) -> f64 {
    (hash >> 11) as f64 / (1u64 << 53) as f64
}

fn plain_floats(vector: &[f32]) -> String {
    let shown: Vec<String> = vector.iter().map(|x| format!("{x:?}")).collect();
    format!("[{}]", shown.join(","))
}

/// Little-endian floats in base64 (RFC 4648, section 4), as the OpenAI SDKs ask for them.
fn base64_floats(vector: &[f32]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
    let mut text = String::from("\"");
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0u32, |sum, byte| sum << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let sextet = (group >> (18 - 6 * place)) & 63;
            text.push(if place <= chunk.len() { ALPHABET[sextet as usize] as char } else { '=' });
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_padded() {
        assert_eq!(base64_floats(&[1.0]), "\"AACAPw==\"");
        assert_eq!(base64_floats(&[1.0, -2.0, 0.5]), "\"AACAPwAAAMAAAAA/\"");
    }

    #[test]
    fn vectors_have_length_one_and_depend_on_the_text() {
        let vector = unit_vector(9, 64);
        let length: f32 = vector.iter().map(|x| x * x).sum();
        assert!((length - 1.0).abs() < 1e-4);
        assert_eq!(vector, unit_vector(9, 64));
        assert_ne!(vector, unit_vector(10, 64));
    }
}
