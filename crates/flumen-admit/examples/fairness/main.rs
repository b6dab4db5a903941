//! Replays arrivals against a simulated pool with continuous batching, under four schedulers, and says how fair each was.
//!
//! `cargo run -p flumen-admit --example fairness --release -- --out bench/fairness`
//!
//! Everything is virtual time and fixed random numbers: the output is the same at every run.

#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures to look at, of a few digits"
)]

mod gap;
mod measure;
mod plot;
mod pool;
mod scenario;
mod scheduler;
mod table;

use std::{error::Error, fs, path::PathBuf};

use crate::{
    measure::{Figures, differences, shares},
    plot::{Chart, Line, svg},
    pool::{Outcome, run},
    scenario::{Scenario, all},
    scheduler::Kind,
};

const COLOURS: [&str; 4] = ["#b04a3a", "#c79a2b", "#6b7f99", "#1f6f5c"];

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let out = match (arguments.next().as_deref(), arguments.next()) {
        (None, _) => None,
        (Some("--out"), Some(directory)) => Some(PathBuf::from(directory)),
        _ => return Err("usage: fairness [--out DIR]".into()),
    };
    let mut text = table::opening();
    let mut pictures = Vec::new();
    for scenario in all() {
        let outcomes = Kind::ALL.map(|kind| run(&scenario, kind));
        let figures: Vec<Figures> = outcomes.iter().map(|outcome| Figures::of(&scenario, outcome)).collect();
        text += &table::section(&scenario, &figures);
        for (name, picture) in draw(&scenario, &outcomes) {
            text += &format!("![{}]({name})\n\n", scenario.title);
            pictures.push((name, picture));
        }
    }
    println!("{text}");
    if let Some(out) = out {
        fs::create_dir_all(&out)?;
        fs::write(out.join("README.md"), text.trim_end().to_owned() + "\n")?;
        for (name, picture) in pictures {
            fs::write(out.join(name), picture)?;
        }
    }
    Ok(())
}

fn draw(scenario: &Scenario, outcomes: &[Outcome; 4]) -> Vec<(String, String)> {
    let lines = |values: fn(&Scenario, &Outcome) -> Vec<(f64, f64)>| {
        let lines = Kind::ALL.iter().zip(outcomes).zip(COLOURS);
        let line = |((kind, outcome), colour): ((&Kind, &Outcome), &'static str)| Line {
            name: kind.name().to_owned(),
            colour,
            points: values(scenario, outcome),
        };
        lines.map(line).collect::<Vec<Line>>()
    };
    let chart = |what: &str, values| Chart {
        title: format!("{}: {what}", scenario.title),
        y: "weighted tokens".to_owned(),
        top: None,
        lines: lines(values),
    };
    let gap = chart("widest gap between two that wait", |_, outcome| outcome.gaps.clone());
    let difference = chart("service difference within a minute", differences);
    let mut pictures = vec![
        (format!("{}-gap.svg", scenario.name), svg(&[gap])),
        (format!("{}-difference.svg", scenario.name), svg(&[difference])),
    ];
    if scenario.name == "on-off" {
        let charts = Kind::ALL.iter().zip(outcomes).map(|(kind, outcome)| Chart {
            title: format!("{}: share of the service", kind.name()),
            y: "share within 10 s".to_owned(),
            top: Some(1.0),
            lines: shares(outcome)
                .into_iter()
                .zip(&scenario.tenants)
                .zip([COLOURS[2], COLOURS[0]])
                .map(|((points, tenant), colour)| Line { name: tenant.group.to_owned(), colour, points })
                .collect(),
        });
        pictures.push(("on-off-shares.svg".to_owned(), svg(&charts.collect::<Vec<Chart>>())));
    }
    pictures
}
