//! `POST /v1/embeddings`: unit vectors that depend on nothing but the input.

use fastrand::Rng;
use http::StatusCode;
use serde::Deserialize;
use tokio::task::yield_now;

use crate::{error::ApiError, frames::quoted, hash::Hash, pieces, reply::Reply, request::Input};

const DIMENSIONS: usize = 1536;
const MOST_DIMENSIONS: usize = 4096;
const MOST_INPUTS: usize = 2048;
/// The most numbers of one reply, so that no request makes the process large.
const MOST_NUMBERS: usize = 4 << 20;

/// The body of a request for embeddings.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Request {
    pub(crate) model: Option<String>,
    input: Option<Input>,
    dimensions: Option<usize>,
    encoding_format: Option<String>,
}

/// Answers with one vector per input.
pub(crate) async fn reply(request: Request) -> Result<Reply, ApiError> {
    let model = request.model.ok_or_else(|| ApiError::missing("model"))?;
    let inputs = request.input.ok_or_else(|| ApiError::missing("input"))?.into_texts();
    if inputs.is_empty() || inputs.len() > MOST_INPUTS {
        return Err(ApiError::invalid("input", format!("`input` takes 1 to {MOST_INPUTS} texts")));
    }
    let dimensions = request.dimensions.unwrap_or(DIMENSIONS);
    if !(1..=MOST_DIMENSIONS).contains(&dimensions) {
        let message = format!("`dimensions` must be from 1 to {MOST_DIMENSIONS}");
        return Err(ApiError::invalid("dimensions", message));
    }
    if inputs.len() * dimensions > MOST_NUMBERS {
        return Err(ApiError::invalid("input", format!("a reply has at most {MOST_NUMBERS} numbers")));
    }
    let write = match request.encoding_format.as_deref() {
        None | Some("float") => floats,
        Some("base64") => base64,
        Some(_) => {
            return Err(ApiError::invalid("encoding_format", "`encoding_format` must be float or base64"));
        }
    };
    let (mut json, mut tokens) = (r#"{"object":"list","data":["#.to_owned(), 0);
    for (index, input) in inputs.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        json += &format!(r#"{comma}{{"object":"embedding","index":{index},"embedding":"#);
        write(&mut json, &vector(input, dimensions));
        json.push('}');
        tokens += pieces::count(input);
        // Thousands of vectors take a while, in which other tasks get their turn.
        yield_now().await;
    }
    let model = quoted(&model);
    json += &format!(r#"],"model":{model},"usage":{{"prompt_tokens":{tokens},"total_tokens":{tokens}}}}}"#);
    Ok(Reply::json(StatusCode::OK, json))
}

fn vector(input: &str, dimensions: usize) -> Vec<f32> {
    let mut rng = Rng::with_seed(Hash::new().part(input.as_bytes()).finish());
    let mut vector: Vec<f32> = (0..dimensions).map(|_| rng.f32() - 0.5).collect();
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    if length > 0.0 {
        for x in &mut vector {
            *x /= length;
        }
    }
    vector
}

fn floats(json: &mut String, vector: &[f32]) {
    json.push('[');
    for (index, number) in vector.iter().enumerate() {
        if index > 0 {
            json.push(',');
        }
        *json += &number.to_string();
    }
    json.push(']');
}

/// The numbers as little-endian bytes, in base64 (RFC 4648).
fn base64(json: &mut String, vector: &[f32]) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
    json.push('"');
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte))
            << (8 * (3 - three.len()));
        for place in 0..4 {
            let letter = char::from(ALPHABET[bits >> (18 - 6 * place) & 63]);
            json.push(if place <= three.len() { letter } else { '=' });
        }
    }
    json.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_have_length_one_and_differ() {
        let (river, tide) = (vector("river", 256), vector("tide", 256));
        let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        assert!((product(&river, &river) - 1.0).abs() < 1e-5);
        assert!(product(&river, &tide).abs() < 0.4);
        assert_eq!(river, vector("river", 256));
    }

    #[test]
    fn base64_is_padded() {
        let encode = |vector: &[f32]| {
            let mut json = String::new();
            base64(&mut json, vector);
            json
        };
        assert_eq!(encode(&[1.0]), r#""AACAPw==""#);
        assert_eq!(encode(&[1.0, -2.0]), r#""AACAPwAAAMA=""#);
        assert_eq!(encode(&[1.0, -2.0, 0.5]), r#""AACAPwAAAMAAAAA/""#);
    }
}
