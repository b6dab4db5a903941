//! The figures as Markdown.

use crate::{
    measure::Figures,
    pool::{PREFILL, SEQUENCE, SLOTS, STEP},
    scenario::{SECONDS, Scenario},
    scheduler::Kind,
};

pub(crate) fn opening() -> String {
    format!(
        "# How fair admission is\n\n\
        ```sh\ncargo run -p flumen-admit --example fairness --release -- --out bench/fairness\n```\n\n\
        A simulated pool with continuous batching: {SLOTS} slots; a step takes {:.0} ms, {:.1} ms per sequence and {:.1} ms per token of \
        the prompts that join, and writes one token for each sequence. {SECONDS:.0} s of virtual time and fixed random numbers: the \
        same figures at every run. They say how schedulers compare, not how fast a model is.\n\n\
        * **FCFS**: first come, first served.\n\
        * **RPM**: the same, each tenant so many requests a minute; what is over is refused.\n\
        * **LCF**: least counter first, without lifting who comes back.\n\
        * **VTC**: ours, the `schedule` of this crate as it is.\n\n\
        Service is input tokens + 2 x output tokens, divided by the weight.\n\n\
        * The **gap** is how far apart the service of two tenants has come since both have been waiting, the widest of all pairs: \
        what theorem 4.4 of Sheng et al. (OSDI 2024) bounds. Whoever waits for nothing has no gap, so it says little of RPM, which refuses.\n\
        * The **difference** is the measure of the paper's tables: of the minute around a moment, the sum over tenants of how far each is \
        behind the one that was served most, as far as it had asked for more than it got. It counts the part of the minute in which a \
        tenant was not there, too: it sees no wrong in making up for that.\n\nTime to first token counts requests that were served; of tenants that ask for more than there is, it \
        grows as long as they do.\n\n",
        STEP * 1e3,
        SEQUENCE * 1e3,
        PREFILL * 1e3,
    )
}

pub(crate) fn section(scenario: &Scenario, figures: &[Figures]) -> String {
    let mut text = format!(
        "## {}\n\n{} RPM allows {} a minute.\n\n",
        scenario.title, scenario.about, scenario.per_minute
    );
    text += "| | Max gap | Mean gap | Max difference | Mean difference | Tokens/s | Refused |";
    for (group, ..) in &figures[0].first_tokens {
        text += &format!(" First token: {group} |");
    }
    let columns = 6 + figures[0].first_tokens.len();
    text += &format!("\n|---|{}\n", "---:|".repeat(columns));
    for (kind, figures) in Kind::ALL.iter().zip(figures) {
        let figure = [
            figures.gap,
            figures.mean_gap,
            figures.most,
            figures.mean,
            figures.throughput,
            figures.refused as f64,
        ];
        text += &format!("| {} | {} |", kind.name(), figure.map(count).join(" | "));
        for &(_, mean, late) in &figures.first_tokens {
            text += &format!(" {} / {} s |", seconds(mean), seconds(late));
        }
        text.push('\n');
    }
    let bound = count(figures[0].bound);
    text + &format!(
        "\nFirst token: mean / 99th percentile. The gap that the paper proves for VTC is at most {bound}.\n\n"
    )
}

fn seconds(time: f64) -> String {
    if time < 10.0 { format!("{time:.2}") } else { format!("{time:.0}") }
}

/// With commas between thousands.
fn count(value: f64) -> String {
    let digits = format!("{value:.0}");
    let group = |(at, digit): (usize, char)| {
        let comma = at > 0 && (digits.len() - at).is_multiple_of(3);
        comma.then_some(',').into_iter().chain([digit])
    };
    digits.chars().enumerate().flat_map(group).collect()
}
