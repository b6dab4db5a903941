use std::{
    io::{IsTerminal, Read},
    net::IpAddr,
    process::ExitCode,
    time::Duration,
};

use clap::ArgGroup;
use flumen_wire::client::{Client, Endpoint, Options};
use http::{HeaderMap, HeaderValue, Uri, header};
use serde_json::{Value, json};

use crate::fail;

mod answer;
mod screen;
mod session;

use answer::{Ended, ask, first_model};
use screen::{Form, Screen};

#[derive(Debug, clap::Args)]
#[command(
    group(ArgGroup::new("form").args(["json", "raw"])),
    after_help = "Examples:\n  \
        flumen chat                                              # with the gateway on this machine\n  \
        flumen chat https://api.example.com/v1 -m some-model --key-env API_KEY\n  \
        flumen chat -p 'Why do rivers meander?'\n  \
        git diff | flumen chat -p 'Review this change.'\n  \
        flumen chat --resume                                     # an answer survives a lost connection\n  \
        echo hi | flumen chat --json | jq .choices[0].delta\n\n\
        Ctrl-C cancels the answer, at the model too; a second one leaves."
)]
pub(crate) struct Arguments {
    /// The base URL of any OpenAI-compatible API
    #[arg(default_value = "http://127.0.0.1:8080/v1")]
    url: String,
    /// The model to ask; the first one that the server lists if not given
    #[arg(long, short)]
    model: Option<String>,
    /// Asks this once and ends; text from a pipe is added to it
    #[arg(long, short, value_name = "TEXT")]
    prompt: Option<String>,
    /// Tells the model how to behave
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// The environment variable that holds the API key; `OPENAI_API_KEY` for https and this machine if not given
    #[arg(long, value_name = "NAME")]
    key_env: Option<String>,
    /// Longest answer, in tokens
    #[arg(long, value_name = "COUNT")]
    max_tokens: Option<u32>,
    /// How freely the model chooses its words
    #[arg(long, value_name = "NUMBER")]
    temperature: Option<f64>,
    /// How long the server may be silent
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration, value_name = "TIME")]
    timeout: Duration,
    /// Asks for a resumable answer, which goes on when its connection breaks
    #[arg(long)]
    resume: bool,
    /// Prints each event's data as a line of JSON
    #[arg(long)]
    json: bool,
    /// Prints the body as it comes
    #[arg(long)]
    raw: bool,
}

/// The exit code of a command that Ctrl-C ended, as shells expect it.
const EXIT_INTERRUPTED: u8 = 130;

/// Whom to ask, and how.
struct Chat {
    client: Client,
    /// For answers that are resumable.
    resuming: Option<flumen_client::Client>,
    endpoint: Endpoint,
    headers: HeaderMap,
    model: String,
    system: Option<String>,
    max_tokens: Option<u32>,
    temperature: Option<f64>,
    patience: Duration,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error, 1),
    };
    let prompt = match arguments.prompt() {
        Ok(prompt) => prompt,
        Err(problem) => return fail(&problem, 2),
    };
    let mut chat = match arguments.chat() {
        Ok(chat) => chat,
        Err(problem) => return fail(&problem, 2),
    };
    if chat.model.is_empty() {
        match runtime.block_on(first_model(&chat)) {
            Ok(model) => chat.model = model,
            Err(failure) => return fail(&format_args!("{}: {failure}", chat.endpoint), 1),
        }
    }
    let mut screen = Screen::new(arguments.form());
    let Some(prompt) = prompt else { return session::run(&runtime, chat, &mut screen) };
    let messages = [json!({"role": "user", "content": prompt})];
    match runtime.block_on(ask(&chat, &messages, &mut screen)) {
        Ended::Complete(answer) => {
            screen.figures(&answer);
            ExitCode::SUCCESS
        }
        Ended::NobodyReads => ExitCode::SUCCESS,
        Ended::Cancelled(_) => ExitCode::from(EXIT_INTERRUPTED),
        Ended::Failed(failure, _) => fail(&format_args!("{}: {failure}", chat.endpoint), 1),
    }
}

impl Arguments {
    fn form(&self) -> Form {
        match (self.json, self.raw) {
            (true, _) => Form::Json,
            (_, true) => Form::Raw,
            _ => Form::Text,
        }
    }

    /// What to ask once; `None` for a conversation.
    fn prompt(&self) -> Result<Option<String>, String> {
        let mut parts: Vec<String> = self.prompt.iter().cloned().collect();
        if !std::io::stdin().is_terminal() {
            let mut piped = String::new();
            std::io::stdin()
                .read_to_string(&mut piped)
                .map_err(|error| format!("the prompt cannot be read: {error}"))?;
            let piped = piped.trim_end();
            if !piped.is_empty() {
                parts.push(piped.to_owned());
            }
            if parts.is_empty() {
                return Err("the prompt is empty".to_owned());
            }
        } else if parts.is_empty() && (!std::io::stdout().is_terminal() || self.form() != Form::Text) {
            return Err("say what to ask, with --prompt TEXT or from a pipe".to_owned());
        }
        Ok((!parts.is_empty()).then(|| parts.join("\n\n")))
    }

    fn chat(&self) -> Result<Chat, String> {
        let uri: Uri = self.url.parse().map_err(|_| format!("`{}` is not a URL", self.url))?;
        let whole = if matches!(uri.path(), "" | "/") {
            format!("{}/v1", self.url.trim_end_matches('/'))
        } else {
            self.url.clone()
        };
        let endpoint: Endpoint = whole.parse().map_err(|problem| format!("`{}`: {problem}", self.url))?;
        let client = Client::new(endpoint.clone(), Options::default()).map_err(|error| error.to_string())?;
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(key) = self.key(&uri)? {
            headers.insert(header::AUTHORIZATION, key);
        }
        let resuming = self.resume.then(|| {
            let client = flumen_client::Client::builder(&whole).idle(Some(self.timeout));
            client.build().map_err(|error| error.to_string())
        });
        Ok(Chat {
            client,
            resuming: resuming.transpose()?,
            endpoint,
            headers,
            model: self.model.clone().unwrap_or_default(),
            system: self.system.clone(),
            max_tokens: self.max_tokens,
            temperature: self.temperature,
            patience: self.timeout,
        })
    }

    /// The key. One that was not asked for by name goes nowhere where others could read it on its way.
    fn key(&self, uri: &Uri) -> Result<Option<HeaderValue>, String> {
        let (name, key) = match &self.key_env {
            Some(name) => {
                let key = std::env::var(name);
                (&**name, key.map_err(|_| format!("the environment variable {name} is not set"))?)
            }
            None => match std::env::var("OPENAI_API_KEY") {
                Ok(key) if is_private(uri) => ("OPENAI_API_KEY", key),
                _ => return Ok(None),
            },
        };
        let mut value = HeaderValue::try_from(format!("Bearer {}", key.trim()))
            .map_err(|_| format!("the environment variable {name} holds no usable key"))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

fn is_private(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    uri.scheme_str() == Some("https")
        || host == "localhost"
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl Chat {
    fn body(&self, messages: &[Value]) -> Value {
        let system = self.system.iter().map(|text| json!({"role": "system", "content": text}));
        let mut body = json!({
            "model": self.model,
            "stream": true,
            "stream_options": {"include_usage": true},
            "messages": system.chain(messages.iter().cloned()).collect::<Vec<_>>(),
        });
        if let Some(tokens) = self.max_tokens {
            body["max_tokens"] = tokens.into();
        }
        if let Some(temperature) = self.temperature {
            body["temperature"] = temperature.into();
        }
        body
    }
}

#[cfg(test)]
mod tests {
    use super::is_private;

    #[test]
    fn a_key_that_nobody_named_stays_off_open_networks() {
        for (url, private) in [
            ("https://api.example.com/v1", true),
            ("http://127.0.0.1:8080/v1", true),
            ("http://[::1]:8080/v1", true),
            ("http://localhost/v1", true),
            ("http://192.168.0.5/v1", false),
            ("http://models.example.com/v1", false),
        ] {
            assert_eq!(is_private(&url.parse().unwrap()), private, "{url}");
        }
    }
}
