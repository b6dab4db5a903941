//! Embeddings: vectors that are the same for the same text, and mean nothing.

use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    reply::Reply,
    text::{pieces, stable_hash},
};

#[derive(Deserialize)]
struct Asked {
    model: String,
    input: Value,
    #[serde(default)]
    dimensions: Option<usize>,
    #[serde(default)]
    encoding_format: Option<String>,
}

const MAX_DIMENSIONS: usize = 4096;
const MAX_INPUTS: usize = 2048;

pub(crate) fn embeddings(body: &Bytes) -> Reply {
    let bad = |message: &str| Reply::error(StatusCode::BAD_REQUEST, "invalid_request", message);
    let asked: Asked = match serde_json::from_slice(body) {
        Ok(asked) => asked,
        Err(error) => return bad(&format!("the request body is not valid: {error}")),
    };
    let dimensions = asked.dimensions.unwrap_or(256);
    if !(1..=MAX_DIMENSIONS).contains(&dimensions) {
        return bad("`dimensions` must be between 1 and 4096");
    }
    let inputs: Vec<String> = match &asked.input {
        Value::String(text) => vec![text.clone()],
        // A list of numbers is one input of tokens.
        Value::Array(items) if items.first().is_some_and(Value::is_number) => vec![asked.input.to_string()],
        Value::Array(items) => {
            items.iter().map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned)).collect()
        }
        _ => return bad("`input` must be a string or a list"),
    };
    if inputs.is_empty() || inputs.len() > MAX_INPUTS {
        return bad("`input` must have between 1 and 2048 entries");
    }
    let base64 = asked.encoding_format.as_deref() == Some("base64");
    let data: Vec<_> = inputs
        .iter()
        .enumerate()
        .map(|(index, text)| {
            let vector = vector(text, dimensions);
            let embedding = if base64 { json!(encode(&vector)) } else { json!(vector) };
            json!({"object": "embedding", "index": index, "embedding": embedding})
        })
        .collect();
    let tokens: usize = inputs.iter().map(|text| pieces(text).count()).sum();
    Reply::json(&json!({"object": "list", "data": data, "model": asked.model,
                        "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}))
}

/// A vector of length 1.
fn vector(text: &str, dimensions: usize) -> Vec<f32> {
    let mut rng = fastrand::Rng::with_seed(stable_hash(text.as_bytes()));
    let raw: Vec<f32> = (0..dimensions).map(|_| rng.f32() - 0.5).collect();
    let norm = raw.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    raw.into_iter().map(|x| x / norm).collect()
}

/// Base64 of the little-endian floats, as OpenAI's clients ask for by default.
fn encode(vector: &[f32]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits =
            group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for at in 0..4 {
            let six = (bits >> (18 - 6 * at)) & 63;
            text.push(if at <= group.len() { char::from(ALPHABET[six as usize]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_of_length_one_and_depend_on_the_text() {
        let (a, b) = (vector("a", 64), vector("b", 64));
        assert!((a.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5);
        assert_ne!(a, b);
        assert_eq!(a, vector("a", 64));
    }

    #[test]
    fn base64_is_the_standard_one() {
        assert_eq!(encode(&[1.0]), "AACAPw==");
        assert_eq!(encode(&[1.0, 2.0]), "AACAPwAAAEA=");
        assert_eq!(encode(&[1.0, 2.0, -0.5]), "AACAPwAAAEAAAAC/");
    }
}
