use std::time::Duration;

/// What somebody may use: the whole gateway, a tenant, a key or a model. What is not given is not limited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Requests in a second.
    pub requests_per_second: Option<u64>,
    /// Requests in a minute.
    pub requests_per_minute: Option<u64>,
    /// Requests at once; otherwise as many as in the whole period.
    pub requests_burst: Option<u64>,
    /// Tokens in a minute, prompts and answers together.
    pub tokens_per_minute: Option<u64>,
    /// Tokens of prompts in a minute.
    pub input_tokens_per_minute: Option<u64>,
    /// Tokens of answers in a minute.
    pub output_tokens_per_minute: Option<u64>,
    /// Tokens in a day (UTC), prompts and answers together.
    pub tokens_per_day: Option<u64>,
    /// Answers that run at the same time.
    pub concurrent_streams: Option<u64>,
    /// Tokens of one answer.
    pub max_tokens: Option<u64>,
    /// Bytes of one answer in a second.
    pub bytes_per_second: Option<u64>,
    /// Frames of one answer in a second.
    pub frames_per_second: Option<u64>,
    /// How an answer is slowed down.
    pub shape: Shape,
    /// How much of an answer may go out at once: what its pace allows in this time.
    pub shape_burst: Option<Duration>,
}

/// How an answer is slowed down to its pace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    /// What was not used may be made up for, up to the burst.
    #[default]
    TokenBucket,
    /// One after the other, evenly.
    LeakyBucket,
}

impl Shape {
    pub(super) const NAMES: &[(&str, Self)] =
        &[("token-bucket", Self::TokenBucket), ("leaky-bucket", Self::LeakyBucket)];
}

impl Limits {
    /// The bounds of one answer where several apply: the smallest length, and the slowest pace with its own shape.
    pub fn of_one_answer<'a>(all: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut tightest = Self::default();
        for limits in all {
            tightest.max_tokens = least(tightest.max_tokens, limits.max_tokens);
            let slower = |own: Option<u64>, other: Option<u64>| {
                other.is_some_and(|other| own.is_none_or(|own| other < own))
            };
            let takes_shape = slower(tightest.bytes_per_second, limits.bytes_per_second)
                || slower(tightest.frames_per_second, limits.frames_per_second);
            if takes_shape {
                (tightest.shape, tightest.shape_burst) = (limits.shape, limits.shape_burst);
            }
            tightest.bytes_per_second = least(tightest.bytes_per_second, limits.bytes_per_second);
            tightest.frames_per_second = least(tightest.frames_per_second, limits.frames_per_second);
        }
        tightest
    }
}

fn least(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_bounds_the_tightest_holds_with_its_shape() {
        let tenant = Limits { max_tokens: Some(100), bytes_per_second: Some(9), ..Limits::default() };
        let key = Limits {
            bytes_per_second: Some(5),
            frames_per_second: Some(3),
            shape: Shape::LeakyBucket,
            requests_per_minute: Some(1),
            ..Limits::default()
        };
        let tightest = Limits::of_one_answer([&tenant, &key, &Limits::default()]);
        assert_eq!((tightest.max_tokens, tightest.bytes_per_second), (Some(100), Some(5)));
        assert_eq!((tightest.frames_per_second, tightest.shape), (Some(3), Shape::LeakyBucket));
        assert_eq!(tightest.requests_per_minute, None);
    }
}
