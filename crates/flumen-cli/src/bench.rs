use std::{io::IsTerminal, process::ExitCode, time::Duration};

use clap::ArgGroup;
use flumen_bench::{Chaos, Load, Plan, Progress};
use flumen_wire::client::Endpoint;
use http::HeaderValue;
use indicatif::{ProgressBar, ProgressStyle};

use crate::fail;

#[derive(Debug, clap::Args)]
#[command(
    group(ArgGroup::new("load").args(["streams", "rate"])),
    after_help = "Examples:\n  \
        flumen bench http://127.0.0.1:8080/v1 --model sim:tps=20,tokens=endless --streams 500\n  \
        flumen bench http://127.0.0.1:8080/v1 --model sim:tps=0,tokens=20 --rate 1000 --pid $(pidof flumen)\n  \
        flumen bench https://models.example.com/v1 --model m --key-env API_KEY --max-tokens 100 --json\n  \
        flumen bench http://127.0.0.1:8080/v1 --model sim:tps=50 --resume --chaos cut-every=10\n  \
        flumen bench http://127.0.0.1:8080/v1 --model sim:ttft=1h --leave-after 100ms --sim http://127.0.0.1:8081\n\n\
        Every answer is read and checked. Ends with 1 when any stream failed."
)]
pub(crate) struct Arguments {
    /// The base URL of the API
    #[arg(default_value = "http://127.0.0.1:8080/v1")]
    url: Endpoint,
    /// The model to ask; names that begin with `sim` get the directive stamp=1, so that order and delay show
    #[arg(long, short, default_value = "sim")]
    model: String,
    /// Streams at any time, each followed by the next
    #[arg(long, short, value_name = "COUNT", default_value_t = 50)]
    streams: usize,
    /// New streams per second instead; times count from the planned start
    #[arg(long, short, value_name = "PER_SECOND")]
    rate: Option<f64>,
    /// Time that is measured
    #[arg(long, short, default_value = "10s", value_parser = humantime::parse_duration, value_name = "TIME")]
    duration: Duration,
    /// Time over which the streams begin
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration, value_name = "TIME")]
    ramp: Duration,
    /// Time between the ramp and the measurement
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration, value_name = "TIME")]
    settle: Duration,
    /// How long a stream may be silent
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration, value_name = "TIME")]
    timeout: Duration,
    /// What to ask
    #[arg(long, default_value = "Tell me about the river.", value_name = "TEXT")]
    prompt: String,
    /// Longest answer, in tokens
    #[arg(long, value_name = "COUNT")]
    max_tokens: Option<u32>,
    /// The environment variable that holds the API key
    #[arg(long, value_name = "NAME")]
    key_env: Option<String>,
    /// So many of the streams stop reading after their first piece
    #[arg(long, default_value_t = 0, value_name = "COUNT")]
    stalled: usize,
    /// Asks for resumable streams, which go on when their connection breaks
    #[arg(long, conflicts_with_all = ["stalled", "leave_after"])]
    resume: bool,
    /// Cuts connections on purpose: `cut-every=EVENTS` each stream for itself, `cut-all=TIME` all at once
    #[arg(long, requires = "resume", value_parser = chaos, value_name = "WHEN")]
    chaos: Option<Chaos>,
    /// Leaves every stream after this time
    #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME")]
    leave_after: Option<Duration>,
    /// The simulator behind the server: it tells when it saw clients leave
    #[arg(long, requires = "leave_after", value_name = "URL")]
    sim: Option<Endpoint>,
    /// Samples CPU and memory of this process; may be given several times
    #[arg(long, value_name = "PID")]
    pid: Vec<u32>,
    /// Threads that make the load
    #[arg(long, default_value_t = 1, value_name = "COUNT")]
    threads: usize,
    /// Prints the report as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let plan = match arguments.plan() {
        Ok(plan) => plan,
        Err(problem) => return fail(&problem, 2),
    };
    let bar = bar();
    let report = flumen_bench::run(&plan, |progress| show(&bar, progress));
    bar.finish_and_clear();
    match report {
        Ok(report) => {
            if arguments.json {
                println!("{}", serde_json::to_string_pretty(&report).unwrap_or_default());
            } else {
                print!("{report}");
            }
            ExitCode::from(u8::from(!report.is_good()))
        }
        Err(error) => fail(&format_args!("nothing to measure at {}: {error}", plan.endpoint), 1),
    }
}

impl Arguments {
    fn plan(&self) -> Result<Plan, String> {
        if let Some(rate) = self.rate
            && !(rate > 0.0 && rate <= 1e6)
        {
            return Err(format!("--rate must be above 0 and at most 1000000, not {rate}"));
        }
        if self.duration.is_zero() {
            return Err("--duration must be longer than nothing".to_owned());
        }
        let mut plan = Plan::new(self.url.clone(), stamped(&self.model));
        plan.key = self.key_env.as_deref().map(key).transpose()?;
        plan.load = match self.rate {
            Some(per_second) => Load::Open { per_second },
            None => Load::Closed { streams: self.streams },
        };
        (plan.ramp, plan.settle, plan.duration) = (self.ramp, self.settle, self.duration);
        plan.timeout = self.timeout;
        plan.prompt.clone_from(&self.prompt);
        plan.max_tokens = self.max_tokens;
        (plan.stalled, plan.leave_after) = (self.stalled, self.leave_after);
        (plan.resume, plan.chaos) = (self.resume, self.chaos);
        plan.simulator.clone_from(&self.sim);
        plan.pids.clone_from(&self.pid);
        plan.threads = self.threads.clamp(1, 64);
        Ok(plan)
    }
}

fn chaos(text: &str) -> Result<Chaos, String> {
    let wrong = || {
        format!("`{text}` is neither cut-every=EVENTS nor cut-all=TIME, such as cut-every=10 or cut-all=5s")
    };
    let (when, much) = text.split_once('=').ok_or_else(wrong)?;
    match when {
        "cut-every" => match much.parse() {
            Ok(events @ 1..) => Ok(Chaos::CutEvery { events }),
            _ => Err(wrong()),
        },
        "cut-all" => match humantime::parse_duration(much) {
            Ok(every) if every >= Duration::from_millis(10) => Ok(Chaos::CutAll { every }),
            _ => Err(wrong()),
        },
        _ => Err(wrong()),
    }
}

fn stamped(model: &str) -> String {
    match model.split_once(':') {
        _ if model.contains("stamp=") => model.to_owned(),
        Some(("sim", _)) => format!("{model},stamp=1"),
        None if model == "sim" => "sim:stamp=1".to_owned(),
        _ => model.to_owned(),
    }
}

fn key(name: &str) -> Result<HeaderValue, String> {
    let key = std::env::var(name).map_err(|_| format!("the environment variable {name} is not set"))?;
    let mut value = HeaderValue::try_from(format!("Bearer {}", key.trim()))
        .map_err(|_| format!("the environment variable {name} holds no usable key"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(1);
    let style = ProgressStyle::with_template("{elapsed_precise} {wide_bar} {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

fn show(bar: &ProgressBar, progress: &Progress) {
    let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    bar.set_length(millis(progress.total));
    bar.set_position(millis(progress.elapsed));
    bar.set_message(format!(
        "{} open, {} done, {} events, {} failed",
        progress.open, progress.completed, progress.events, progress.failed
    ));
}

#[cfg(test)]
mod tests {
    use super::{Chaos, Duration, chaos, stamped};

    #[test]
    fn chaos_is_read_or_refused_with_a_hint() {
        assert_eq!(chaos("cut-every=10"), Ok(Chaos::CutEvery { events: 10 }));
        assert_eq!(chaos("cut-all=5s"), Ok(Chaos::CutAll { every: Duration::from_secs(5) }));
        for wrong in ["", "cut", "cut-every=0", "cut-every=x", "cut-all=0s", "cut-all=1e99s", "burn=1"] {
            assert!(chaos(wrong).unwrap_err().contains("such as"), "{wrong}");
        }
    }

    #[test]
    fn only_the_simulator_is_asked_for_stamps() {
        assert_eq!(stamped("sim"), "sim:stamp=1");
        assert_eq!(stamped("sim:tps=5"), "sim:tps=5,stamp=1");
        assert_eq!(stamped("sim:stamp=0"), "sim:stamp=0");
        assert_eq!(stamped("llama:8b"), "llama:8b");
    }
}
