use std::{path::PathBuf, time::Duration};

use clap::ArgGroup;
use flumen_wire::client::Endpoint;
use http::HeaderValue;

#[derive(Debug, clap::Args)]
#[command(
    group(ArgGroup::new("token").args(["token_env", "token_file"])),
    after_help = "Examples:\n  \
        flumen top                                               # the gateway on this machine\n  \
        flumen top --admin http://10.0.0.5:9191 --token-env ADMIN_TOKEN\n  \
        flumen top --once                                        # tables, for a script or a report\n\n\
        In the view, ? shows the keys. It changes nothing in the gateway unless a key asks for it."
)]
pub(crate) struct Arguments {
    /// Where the gateway has its admin API: `listen` under `[admin]` in its configuration
    #[arg(long, default_value = "http://127.0.0.1:9191", value_name = "URL")]
    pub(super) admin: Endpoint,
    /// The environment variable that holds the token
    #[arg(long, value_name = "NAME")]
    token_env: Option<String>,
    /// The file that holds the token
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Time from one look to the next
    #[arg(long, default_value = "1s", value_parser = every, value_name = "TIME")]
    pub(super) every: Duration,
    /// How long an answer may take
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub(super) timeout: Duration,
    /// Prints what there is now, as tables, and ends; so it is too where the output is no terminal
    #[arg(long)]
    pub(super) once: bool,
}

impl Arguments {
    /// What proves who asks.
    pub(super) fn authorization(&self) -> Result<Option<HeaderValue>, String> {
        let (source, token) = if let Some(name) = &self.token_env {
            let token = std::env::var(name);
            let token = token.map_err(|_| format!("the environment variable {name} is not set"))?;
            (format!("the environment variable {name}"), token)
        } else if let Some(file) = &self.token_file {
            let token = std::fs::read_to_string(file);
            let token = token.map_err(|error| format!("{}: {error}", file.display()))?;
            (file.display().to_string(), token)
        } else {
            return Ok(None);
        };
        let token = token.trim();
        let value = HeaderValue::try_from(format!("Bearer {token}")).ok().filter(|_| !token.is_empty());
        let mut value = value.ok_or_else(|| format!("{source} holds no usable token"))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

fn every(text: &str) -> Result<Duration, String> {
    let every = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if (Duration::from_millis(100)..=Duration::from_hours(1)).contains(&every) {
        Ok(every)
    } else {
        Err("it must be from 100ms to 1h".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_neither_too_often_nor_never() {
        assert_eq!(every("250ms"), Ok(Duration::from_millis(250)));
        for wrong in ["0s", "99ms", "2h", "x", ""] {
            assert!(every(wrong).is_err(), "{wrong}");
        }
    }
}
