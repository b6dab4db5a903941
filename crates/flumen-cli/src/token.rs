use std::{path::PathBuf, process::ExitCode, time::Duration};

use flumen_gateway::{TokenWish, config::Config, sign_token};

use crate::{
    EXIT_CONFIG,
    check::{environment, file},
    fail,
    key::name,
};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    flumen token --tenant acme --config flumen.toml\n  \
    flumen token --tenant acme --lives 5m --model 'gpt-*' --origin https://chat.example.com")]
pub(crate) struct Arguments {
    /// The tenant that the token stands for
    #[arg(long, value_parser = name)]
    tenant: String,
    /// How long it lives, at most auth.tokens.longest
    #[arg(long, default_value = "5m", value_parser = humantime::parse_duration)]
    lives: Duration,
    /// A model that it may ask, or a pattern that ends with `*`; may be given several times; all of its tenant's without
    #[arg(long, value_name = "MODEL")]
    model: Vec<String>,
    /// The only page that may use it, by scheme and host
    #[arg(long)]
    origin: Option<String>,
    /// The configuration file, which has the secret; without it, flumen.toml here if there is one
    #[arg(long, short, env = "FLUMEN_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let loaded = match Config::load(file(arguments.config.clone()).as_deref(), environment()) {
        Ok(loaded) => loaded,
        Err(error) => return fail(&error, EXIT_CONFIG),
    };
    let wish = TokenWish {
        tenant: arguments.tenant.clone(),
        lives: arguments.lives,
        models: (!arguments.model.is_empty()).then(|| arguments.model.clone()),
        origin: arguments.origin.clone(),
    };
    match sign_token(&loaded.config, &wish) {
        Ok((token, _)) => {
            println!("{token}");
            ExitCode::SUCCESS
        }
        Err(problem) => fail(&problem, 1),
    }
}
