//! The `flumen` command.

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

mod bench;
mod chat;
mod check;
mod key;
mod open_files;
mod serve;
mod sim;
mod token;
mod top;

/// LLM streams that never get stuck, slow or broken.
#[derive(Debug, Parser)]
#[command(
    name = "flumen",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    after_help = "Examples:\n  \
        flumen serve                                # a simulated model on http://127.0.0.1:8080/v1\n  \
        flumen check --example > flumen.toml        # a file to start from\n  \
        flumen serve --config flumen.toml"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the gateway
    Serve(serve::Arguments),
    /// Checks a configuration and says everything that is wrong with it
    Check(check::Arguments),
    /// Makes keys for callers of the gateway
    Key(key::Arguments),
    /// Signs a short-lived token for a web page, with the secret of a configuration
    Token(token::Arguments),
    /// Serves the model simulator alone, as an OpenAI-compatible server
    Sim(sim::Arguments),
    /// Talks with a model in the terminal
    Chat(chat::Arguments),
    /// Measures a server that streams tokens
    Bench(Box<bench::Arguments>),
    /// Shows what a running gateway does, live
    Top(top::Arguments),
    /// Prints the version
    Version,
    /// Prints a completion script for a shell
    #[command(after_help = "Example:\n  flumen completions bash > /etc/bash_completion.d/flumen")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// The exit code for a faulty configuration: `EX_CONFIG` of BSD's sysexits.
const EXIT_CONFIG: u8 = 78;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    open_files::allow_all();
    match arguments.command {
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Key(arguments) => key::run(&arguments),
        Command::Token(arguments) => token::run(&arguments),
        Command::Sim(arguments) => sim::run(&arguments),
        Command::Chat(arguments) => chat::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Top(arguments) => top::run(&arguments),
        Command::Version => {
            println!("flumen {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "flumen", &mut std::io::stdout());
            ExitCode::SUCCESS
        }
    }
}

/// Says why the command cannot go on.
fn fail(error: &dyn std::fmt::Display, code: u8) -> ExitCode {
    eprintln!("flumen: {error}");
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
