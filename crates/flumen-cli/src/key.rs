use std::{io::Read, process::ExitCode, time::SystemTime};

use flumen_gateway::{
    config::{KeyHash, may_be_key},
    new_key,
};

use crate::fail;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Makes a key: prints it once, and the lines for the configuration, which have its digest only
    #[command(after_help = "Examples:\n  \
        flumen key new --tenant acme\n  \
        flumen key new --tenant acme --id acme-web --expires 2027-01-01T00:00:00Z\n  \
        flumen key new --tenant acme --from-stdin < key.txt >> keys.toml")]
    New(New),
}

#[derive(Debug, clap::Args)]
struct New {
    /// The tenant that the key is for
    #[arg(long, value_parser = name)]
    tenant: String,
    /// The key's name in logs and in the configuration; without it, the tenant's and some letters
    #[arg(long, value_parser = name)]
    id: Option<String>,
    /// When the key stops to be one, such as 2027-01-01T00:00:00Z
    #[arg(long, value_name = "MOMENT", value_parser = moment)]
    expires: Option<SystemTime>,
    /// Reads an existing key from standard input instead, and prints the lines for the configuration only
    #[arg(long)]
    from_stdin: bool,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let Command::New(new) = &arguments.command;
    match new.text() {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(problem) => fail(&problem, 1),
    }
}

impl New {
    fn text(&self) -> Result<String, String> {
        let key = if self.from_stdin { given()? } else { made()? };
        let hash = KeyHash::of(&key);
        // Nothing of the digest: names stand in logs.
        let id = self
            .id
            .clone()
            .map_or_else(|| Ok(format!("{}-{}", self.tenant, &made()?[3..9])), Ok::<_, String>)?;
        let mut text = String::new();
        if !self.from_stdin {
            text += &format!("{key}\n");
        }
        text += &format!("[keys.{}]\nhash = \"{hash}\"\ntenant = {}\n", quoted(&id), quoted(&self.tenant));
        if let Some(expires) = self.expires {
            text += &format!("expires = \"{}\"\n", humantime::format_rfc3339_seconds(expires));
        }
        Ok(text)
    }
}

fn made() -> Result<String, String> {
    new_key().map_err(|error| format!("there are no random numbers: {error}"))
}

fn given() -> Result<String, String> {
    let mut text = String::new();
    let read = std::io::stdin().take(16 << 10).read_to_string(&mut text);
    read.map_err(|error| format!("standard input: {error}"))?;
    let key = text.trim();
    may_be_key(key).map_err(|problem| format!("the key on standard input {problem}"))?;
    Ok(key.to_owned())
}

/// A TOML string; names have visible characters only.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

pub(crate) fn name(text: &str) -> Result<String, String> {
    let fits = (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { Ok(text.to_owned()) } else { Err("a name has 1 to 128 visible ASCII characters".to_owned()) }
}

fn moment(text: &str) -> Result<SystemTime, String> {
    humantime::parse_rfc3339(text).map_err(|_| "not a moment such as 2027-01-01T00:00:00Z".to_owned())
}
