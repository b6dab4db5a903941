use std::time::Duration;

/// How a simulator answers when a request does not say otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Tokens per second of one answer; 0 means as fast as possible.
    pub tokens_per_second: f64,
    /// Share of the interval by which each gap varies, 0 to 1.
    pub jitter: f64,
    /// From the request to the first token.
    pub first_token: Duration,
    /// Tokens of an answer; `None` means a plausible length of 80 to 240.
    pub tokens: Option<u32>,
    /// Tokens per event, at least 1.
    pub chunk: u32,
    /// Seed of all texts.
    pub seed: u64,
    /// What `/v1/models` lists. Every name is answered.
    pub models: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            tokens_per_second: 50.0,
            jitter: 0.2,
            first_token: Duration::from_millis(200),
            tokens: None,
            chunk: 1,
            seed: 0,
            models: vec!["sim".to_owned()],
        }
    }
}
