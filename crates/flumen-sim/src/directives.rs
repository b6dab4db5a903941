//! What a model's name may carry after its first colon.

use std::{str::FromStr, time::Duration};

use http::StatusCode;

use crate::{settings::Settings, text::Language};

/// One request's settings: those of the simulator, changed by the model's name.
///
/// `tps=RATE` (0: as fast as possible), `ttft=TIME`, `tokens=COUNT|endless`, `chunk=COUNT`, `seed=NUMBER`,
/// `jitter=SHARE`, `size=BYTES` (of each delta), `lang=en|zh|ja|de|es|emoji|code|md|mix`, `header=TIME` (delays the
/// response head), `echo=1` (the answer is the last user message), `split=1` (packets end within characters),
/// `fault=KIND`; see [`Fault`].
#[derive(Clone, Debug, PartialEq)]
pub struct Directives {
    pub(crate) tokens_per_second: f64,
    pub(crate) first_token: Duration,
    pub(crate) tokens: Option<u64>,
    pub(crate) chunk: u32,
    pub(crate) seed: Option<u64>,
    pub(crate) jitter: f64,
    pub(crate) size: usize,
    pub(crate) language: Language,
    pub(crate) header: Duration,
    pub(crate) echo: bool,
    pub(crate) split: bool,
    pub(crate) fault: Option<Fault>,
}

/// What goes wrong, after how many token events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `stall@N`: nothing more is ever sent.
    Stall(u64),
    /// `cut@N`: the connection is cut.
    Cut(u64),
    /// `end@N`: the body ends well, but without an end mark.
    End(u64),
    /// `error@N`: an error event, then the end.
    Error(u64),
    /// `garbage@N`: bytes that are no events, then the end.
    Garbage(u64),
    /// `unterminated@N`: half an event, then the end.
    Unterminated(u64),
    /// `status:CODE`: this status instead of an answer.
    Status(StatusCode),
}

/// A directive that cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a directive of the simulator; known: tps, ttft, tokens, chunk, seed, jitter, size, lang, header, \
     echo, split, fault (stall@N, cut@N, end@N, error@N, garbage@N, unterminated@N, status:CODE)"
)]
pub struct InvalidDirective(String);

const MAX_SIZE: usize = 2 << 20;
const MAX_WAIT: Duration = Duration::from_hours(1);

impl Directives {
    /// Reads the directives of a model's name.
    ///
    /// # Errors
    /// When one is unknown or has a senseless value.
    pub fn parse(model: &str, settings: &Settings) -> Result<Self, InvalidDirective> {
        let mut all = Self {
            tokens_per_second: settings.tokens_per_second,
            first_token: settings.first_token,
            tokens: settings.tokens.map(u64::from),
            chunk: settings.chunk.max(1),
            seed: None,
            jitter: settings.jitter,
            size: 0,
            language: Language::Mix,
            header: Duration::ZERO,
            echo: false,
            split: false,
            fault: None,
        };
        let list = model.split_once(':').map_or("", |(_, list)| list);
        for directive in list.split(',').filter(|directive| !directive.is_empty()) {
            let known = directive.split_once('=').and_then(|(key, value)| all.set(key.trim(), value.trim()));
            known.ok_or_else(|| InvalidDirective(directive.chars().take(64).collect()))?;
        }
        Ok(all)
    }

    fn set(&mut self, key: &str, value: &str) -> Option<()> {
        match key {
            "tps" => self.tokens_per_second = number(value, 1e9)?,
            "ttft" => self.first_token = duration(value)?,
            "tokens" if value == "endless" => self.tokens = Some(u64::MAX),
            "tokens" => self.tokens = Some(value.parse().ok()?),
            "chunk" => self.chunk = value.parse().ok().filter(|chunk| (1..=10_000).contains(chunk))?,
            "seed" => self.seed = Some(value.parse().ok()?),
            "jitter" => self.jitter = number(value, 1.0)?,
            "size" => self.size = value.parse().ok().filter(|size| *size <= MAX_SIZE)?,
            "lang" => self.language = value.parse().ok()?,
            "header" => self.header = duration(value)?,
            "echo" => self.echo = flag(value)?,
            "split" => self.split = flag(value)?,
            "fault" => self.fault = Some(value.parse().ok()?),
            _ => return None,
        }
        Some(())
    }
}

impl FromStr for Fault {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if let Some(code) = text.strip_prefix("status:") {
            let status: StatusCode = code.parse().map_err(drop)?;
            return if status.as_u16() >= 400 { Ok(Self::Status(status)) } else { Err(()) };
        }
        let (kind, at) = text.split_once('@').ok_or(())?;
        let at = at.parse().map_err(drop)?;
        Ok(match kind {
            "stall" => Self::Stall(at),
            "cut" => Self::Cut(at),
            "end" => Self::End(at),
            "error" => Self::Error(at),
            "garbage" => Self::Garbage(at),
            "unterminated" => Self::Unterminated(at),
            _ => return Err(()),
        })
    }
}

fn number(text: &str, most: f64) -> Option<f64> {
    text.parse().ok().filter(|number| (0.0..=most).contains(number))
}

fn flag(text: &str) -> Option<bool> {
    match text {
        "1" | "true" => Some(true),
        "0" | "false" => Some(false),
        _ => None,
    }
}

fn duration(text: &str) -> Option<Duration> {
    let (digits, unit) = match text.strip_suffix("ms") {
        Some(digits) => (digits, 0.001),
        None => (text.strip_suffix('s')?, 1.0),
    };
    let seconds = number(digits, MAX_WAIT.as_secs_f64() / unit)? * unit;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(model: &str) -> Result<Directives, InvalidDirective> {
        Directives::parse(model, &Settings::default())
    }

    #[test]
    fn names_carry_settings() {
        let all = parse(
            "sim:tps=100,ttft=50ms,tokens=7,chunk=3,seed=9,jitter=0,lang=zh,size=99,header=1.5s,fault=cut@2",
        );
        let all = all.unwrap();
        assert_eq!((all.tokens_per_second, all.first_token), (100.0, Duration::from_millis(50)));
        assert_eq!((all.tokens, all.chunk, all.seed, all.size), (Some(7), 3, Some(9), 99));
        assert_eq!((all.header, all.fault), (Duration::from_millis(1500), Some(Fault::Cut(2))));
        assert_eq!(parse("any/model").unwrap(), parse("sim:").unwrap());
        assert_eq!(
            parse("a:fault=status:503").unwrap().fault,
            Some(Fault::Status(StatusCode::SERVICE_UNAVAILABLE))
        );
        assert_eq!(parse("a:tokens=endless").unwrap().tokens, Some(u64::MAX));
    }

    #[test]
    fn senseless_directives_are_named() {
        for bad in [
            "x=1",
            "tps",
            "tps=-1",
            "tps=nan",
            "ttft=5",
            "ttft=2h",
            "chunk=0",
            "size=9999999",
            "lang=xx",
            "fault=cut",
            "fault=status:200",
            "fault=status:xyz",
            "echo=2",
            "header=99999999999s",
        ] {
            let error = parse(&format!("sim:{bad}")).unwrap_err();
            assert!(error.to_string().starts_with(&format!("`{bad}` is not")), "{error}");
        }
    }
}
