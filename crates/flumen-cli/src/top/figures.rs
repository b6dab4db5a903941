//! The figures of the gateway as a whole.

use super::{
    history::Rates,
    model::Snapshot,
    sheet::{Cell, Tone},
    tables::failures,
    text::{bytes, count, percent, rate, share, span},
};

/// What the gateway is, and what it does; what matters most comes first.
pub(super) fn figures(snapshot: &Snapshot, rates: Option<Rates>) -> Vec<Cell> {
    let overview = &snapshot.overview;
    let streams = overview.streams;
    let failed = share(overview.failed, overview.requests);
    let mut figures = vec![Cell::from(format!("flumen {}", overview.version))];
    if overview.draining {
        figures.push(Cell::new("DRAINING", Tone::Warn));
    }
    figures.push(format!("up {}", span(overview.uptime_ms)).into());
    let queued = if streams.queued > 0 { Tone::Warn } else { Tone::Plain };
    figures.push(Cell::new(format!("{} queued", count(streams.queued)), queued));
    figures.push(format!("{} waiting", count(streams.waiting)).into());
    figures.push(format!("{} streaming", count(streams.streaming)).into());
    if let Some(rates) = rates {
        figures.push(format!("{} tokens/s", rate(rates.tokens)).into());
        figures.push(format!("{} requests/s", rate(rates.requests)).into());
    }
    figures.push(Cell::new(format!("{} failed", percent(failed)), failures(failed)));
    figures.push(format!("{} connections", count(overview.connections)).into());
    figures.push(format!("{} kept ({})", count(overview.kept.streams), bytes(overview.kept.bytes)).into());
    figures.push(format!("{} requests", count(overview.requests)).into());
    let (into, out) = (count(overview.tokens_in), count(overview.tokens_out));
    figures.push(format!("{into} tokens in, {out} out").into());
    figures
}
