use std::{path::PathBuf, process::ExitCode};

use flumen_gateway::config::{Config, EXAMPLE};

use crate::{EXIT_CONFIG, fail};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    flumen check\n  \
    flumen check --config /etc/flumen/flumen.toml\n  \
    flumen check --example > flumen.toml")]
pub(crate) struct Arguments {
    /// The configuration file; without it, flumen.toml here if there is one
    #[arg(long, short, env = "FLUMEN_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Prints a file that explains every key, with its default
    #[arg(long)]
    example: bool,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    if arguments.example {
        print!("{EXAMPLE}");
        return ExitCode::SUCCESS;
    }
    let path = file(arguments.config.clone());
    match Config::load(path.as_deref(), environment()) {
        Ok(loaded) => {
            let upstreams = counted(loaded.config.upstreams.len(), "upstream");
            let models = counted(loaded.config.models.len(), "model");
            let source = path.map_or("the built-in default".to_owned(), |path| path.display().to_string());
            println!("{source}: good ({upstreams}, {models})");
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error, EXIT_CONFIG),
    }
}

/// The file that was named, or the one that lies here.
pub(crate) fn file(named: Option<PathBuf>) -> Option<PathBuf> {
    let here = PathBuf::from("flumen.toml");
    named.or_else(|| here.exists().then_some(here))
}

/// The environment, as far as it is text.
pub(crate) fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

fn counted(count: usize, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}
