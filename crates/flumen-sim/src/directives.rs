//! What one request is to do: the settings, changed by the directives in the model's name.

use std::time::Duration;

use crate::{error::ApiError, fault::Fault, settings::Settings, text::Language};

/// The longest name of a model, in bytes.
const LONGEST_NAME: usize = 1024;
/// The most bytes that `size` pads to.
const LARGEST_SIZE: usize = 2 << 20;
/// The most tokens of an answer that has an end.
const MOST_TOKENS: u32 = 100_000_000;

/// How long an answer is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// As long as answers are, up to the end of a sentence.
    Plausible,
    /// So many tokens.
    Exactly(u32),
    /// Until nobody reads any more.
    Endless,
}

/// What one request is to do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    /// Tokens per second; 0 means as fast as possible.
    pub(crate) rate: f64,
    /// Time from event to event, instead of the rate.
    pub(crate) interval: Option<Duration>,
    pub(crate) first_token: Duration,
    pub(crate) length: Length,
    /// Tokens per event.
    pub(crate) chunk: u32,
    pub(crate) seed: Option<u64>,
    pub(crate) jitter: f64,
    /// Bytes of text that every event has at least.
    pub(crate) size: usize,
    pub(crate) language: Language,
    /// Delay of the reply's header.
    pub(crate) header: Duration,
    pub(crate) fault: Option<Fault>,
    pub(crate) echo: bool,
    pub(crate) split: bool,
    /// Every event tells its number and when it was made.
    pub(crate) stamp: bool,
}

impl Plan {
    /// The plan for a request to this model, with further directives.
    pub(crate) fn new(settings: &Settings, model: &str, further: &str) -> Result<Self, ApiError> {
        let mut plan = Self {
            rate: settings.tokens_per_second,
            interval: None,
            first_token: settings.first_token,
            length: settings.tokens.map_or(Length::Plausible, Length::Exactly),
            chunk: settings.chunk,
            seed: None,
            jitter: settings.jitter,
            size: 0,
            language: Language::Auto,
            header: Duration::ZERO,
            fault: None,
            echo: false,
            split: false,
            stamp: false,
        };
        if model.len().max(further.len()) > LONGEST_NAME {
            return Err(ApiError::invalid(
                "model",
                format!("a model's name has at most {LONGEST_NAME} bytes"),
            ));
        }
        let (_, directives) = model.split_once(':').unwrap_or_default();
        let directives = directives.split(',').chain(further.split(',').map(str::trim));
        for directive in directives.filter(|directive| !directive.is_empty()) {
            let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
            plan.set(name, value).map_err(|problem| ApiError::invalid("model", problem))?;
        }
        Ok(plan)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let Some((_, expected, set)) = DIRECTIVES.iter().find(|(known, ..)| *known == name) else {
            let known: Vec<&str> = DIRECTIVES.iter().map(|(known, ..)| *known).collect();
            return Err(format!("unknown directive `{name}`; the known ones are {}", known.join(", ")));
        };
        set(self, value).ok_or_else(|| {
            let known: Vec<String> =
                DIRECTIVES.iter().map(|(known, expected, _)| format!("{known} ({expected})")).collect();
            format!(
                "directive `{name}` cannot be `{value}`: expected {expected}; the known ones are {}",
                known.join("; ")
            )
        })
    }
}

/// Puts a directive's value into the plan; `None` if it does not fit.
type Set = fn(&mut Plan, &str) -> Option<()>;

/// Every directive: its name, what it takes, and what it does.
const DIRECTIVES: [(&str, &str, Set); 14] = [
    ("tps", "0, or tokens per second from 0.001 to 1e9", |plan, value| {
        plan.rate = number(value).filter(|rate| *rate == 0.0 || (Settings::SLOWEST..=1e9).contains(rate))?;
        Some(())
    }),
    ("interval", "a time from event to event such as 20ms, up to 24h", |plan, value| {
        plan.interval = Some(duration(value)?);
        Some(())
    }),
    ("ttft", "a time such as 200ms or 1.5s, up to 24h", |plan, value| {
        plan.first_token = duration(value)?;
        Some(())
    }),
    ("tokens", "a number up to 100000000, or endless", |plan, value| {
        plan.length = match value {
            "endless" => Length::Endless,
            number => Length::Exactly(number.parse().ok().filter(|tokens| *tokens <= MOST_TOKENS)?),
        };
        Some(())
    }),
    ("chunk", "tokens per event, 1 to 10000", |plan, value| {
        plan.chunk = value.parse().ok().filter(|chunk| (1..=Settings::LARGEST_CHUNK).contains(chunk))?;
        Some(())
    }),
    ("seed", "a number", |plan, value| {
        plan.seed = Some(value.parse().ok()?);
        Some(())
    }),
    ("jitter", "a number from 0 to 1", |plan, value| {
        plan.jitter = number(value).filter(|jitter| (0.0..=1.0).contains(jitter))?;
        Some(())
    }),
    ("size", "bytes, up to 2097152", |plan, value| {
        plan.size = value.parse().ok().filter(|size| *size <= LARGEST_SIZE)?;
        Some(())
    }),
    ("lang", Language::EXPECTED, |plan, value| {
        plan.language = Language::named(value)?;
        Some(())
    }),
    ("header", "a time such as 5s, up to 24h", |plan, value| {
        plan.header = duration(value)?;
        Some(())
    }),
    ("stamp", "1 or 0", |plan, value| {
        plan.stamp = switch(value)?;
        Some(())
    }),
    ("fault", Fault::EXPECTED, |plan, value| {
        plan.fault = Some(Fault::parse(value)?);
        Some(())
    }),
    ("echo", "0 or 1", |plan, value| {
        plan.echo = switch(value)?;
        Some(())
    }),
    ("split", "0 or 1", |plan, value| {
        plan.split = switch(value)?;
        Some(())
    }),
];

fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

fn switch(text: &str) -> Option<bool> {
    match text {
        "1" | "true" => Some(true),
        "0" | "false" => Some(false),
        _ => None,
    }
}

/// Reads `200ms`, `1.5s`, `2m` and the like; a bare 0 needs no unit.
fn duration(text: &str) -> Option<Duration> {
    let unit = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (amount, unit) = text.split_at(unit);
    let seconds = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "" if amount == "0" => 1.0,
        _ => return None,
    };
    let duration = Duration::try_from_secs_f64(number(amount)? * seconds).ok()?;
    (duration <= Settings::LONGEST).then_some(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(model: &str) -> Result<Plan, String> {
        Plan::new(&Settings::default(), model, "").map_err(|error| error.message)
    }

    #[test]
    fn directives_change_the_settings() {
        let plan = plan(
            "sim:tps=100,ttft=1.5s,tokens=endless,chunk=3,seed=7,jitter=0,lang=zh,size=9,header=5s,split=1",
        )
        .unwrap();
        assert_eq!((plan.rate, plan.jitter, plan.chunk, plan.size), (100.0, 0.0, 3, 9));
        assert_eq!((plan.first_token, plan.header), (Duration::from_millis(1500), Duration::from_secs(5)));
        assert_eq!((plan.length, plan.seed), (Length::Endless, Some(7)));
        assert_eq!((plan.language, plan.echo, plan.split), (Language::Chinese, false, true));
    }

    #[test]
    fn further_directives_come_after_those_of_the_model() {
        let plan =
            Plan::new(&Settings::default(), "sim:chunk=2,seed=1", "interval=20ms, chunk=3,stamp=1").unwrap();
        assert_eq!((plan.interval, plan.chunk), (Some(Duration::from_millis(20)), 3));
        assert_eq!((plan.seed, plan.stamp), (Some(1), true));
    }

    #[test]
    fn names_without_directives_are_names() {
        assert_eq!(plan("any/name"), plan("sim:"));
    }

    #[test]
    fn bad_directives_are_named() {
        let message = plan("sim:speed=3").unwrap_err();
        assert!(
            message.contains("`speed`") && message.contains("tps") && message.contains("split"),
            "{message}"
        );
        let message = plan("sim:fault=fire@3").unwrap_err();
        assert!(message.contains("`fire@3`") && message.contains("stall@N"), "{message}");
        for bad in [
            "tps=-1",
            "tps=nan",
            "ttft=5",
            "ttft=1y",
            "ttft=30h",
            "chunk=0",
            "size=3000000",
            "jitter=1.1",
            "echo=yes",
            "tps",
        ] {
            plan(&format!("sim:{bad}")).unwrap_err();
        }
        plan(&"m".repeat(2000)).unwrap_err();
    }
}
