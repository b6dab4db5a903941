//! The four tables.

use super::{
    model::{Pool, Snapshot, Stream, Tenant, Upstream},
    sheet::{Cell, Column, Form, Row, Sheet, Target, Tone, column},
    text::{UNKNOWN, count, maybe_span, name, percent, rate, share, span},
};

const POOLS: [Column; 5] = [
    column("POOL", 0, Form::Name),
    column("QUEUE", 1, Form::Figure),
    column("RUNNING", 2, Form::Figure),
    column("SLOTS", 3, Form::Figure),
    column("DRAINS/S", 4, Form::Figure),
];

const UPSTREAMS: [Column; 10] = [
    column("UPSTREAM", 0, Form::Name),
    column("STATE", 1, Form::Word),
    column("BREAKER", 2, Form::Word),
    column("IN FLIGHT", 3, Form::Figure),
    column("OF", 4, Form::Figure),
    column("TTFT", 5, Form::Figure),
    column("REQUESTS", 8, Form::Figure),
    column("FAILED", 6, Form::Figure),
    column("SHARE", 7, Form::Figure),
    column("POOL", 9, Form::Name),
];

const TENANTS: [Column; 8] = [
    column("TENANT", 0, Form::Name),
    column("POOL", 5, Form::Name),
    column("WEIGHT", 4, Form::Figure),
    column("SHARE", 1, Form::Bar),
    column("WAITING", 2, Form::Figure),
    column("OLDEST", 3, Form::Figure),
    column("RUNNING", 6, Form::Figure),
    column("SERVICE", 7, Form::Figure),
];

const STREAMS: [Column; 16] = [
    column("STREAM", 3, Form::Name),
    column("TENANT", 0, Form::Name),
    column("MODEL", 2, Form::Name),
    column("STATE", 1, Form::Word),
    column("AGE", 1, Form::Figure),
    column("PROGRESS", 4, Form::Figure),
    column("TTFT", 6, Form::Figure),
    column("UPSTREAM", 5, Form::Name),
    column("EVENTS", 7, Form::Figure),
    column("QUEUED", 8, Form::Figure),
    column("POOL", 9, Form::Name),
    column("KEY", 10, Form::Name),
    column("DIALECT", 11, Form::Name),
    column("SEAMS", 12, Form::Figure),
    column("KEPT AS", 13, Form::Name),
    column("REQUEST", 14, Form::Name),
];

pub(super) fn pools(snapshot: &Snapshot) -> Sheet {
    Sheet { columns: &POOLS, rows: snapshot.pools.iter().map(pool).collect() }
}

pub(super) fn upstreams(snapshot: &Snapshot) -> Sheet {
    let rows = snapshot.pools.iter().flat_map(|pool| pool.upstreams.iter().map(|one| upstream(pool, one)));
    Sheet { columns: &UPSTREAMS, rows: rows.collect() }
}

pub(super) fn tenants(snapshot: &Snapshot) -> Sheet {
    Sheet { columns: &TENANTS, rows: snapshot.tenants.iter().map(tenant).collect() }
}

pub(super) fn streams(snapshot: &Snapshot) -> Sheet {
    Sheet { columns: &STREAMS, rows: snapshot.streams.iter().map(stream).collect() }
}

fn pool(pool: &Pool) -> Row {
    let full = pool.slots.is_some_and(|slots| pool.running >= slots);
    let waits = if pool.waiting > 0 { Tone::Warn } else { Tone::Plain };
    let cells = vec![
        Cell::from(&pool.name),
        Cell::new(count(pool.waiting), waits),
        Cell::new(count(pool.running), if full { Tone::Warn } else { Tone::Plain }),
        limit(pool.slots),
        pool.drain_rate.map_or(UNKNOWN.to_owned(), rate).into(),
    ];
    Row { cells, target: None }
}

fn upstream(pool: &Pool, upstream: &Upstream) -> Row {
    let state = match upstream.state.raw() {
        "up" => Tone::Good,
        "slow-start" | "draining" => Tone::Warn,
        "broken" | "ejected" | "unwell" => Tone::Bad,
        _ => Tone::Plain,
    };
    let breaker = match upstream.breaker.raw() {
        "closed" => Tone::Good,
        "half-open" => Tone::Warn,
        "open" => Tone::Bad,
        _ => Tone::Plain,
    };
    let failed = share(upstream.failures, upstream.requests);
    let cells = vec![
        Cell::from(&upstream.name),
        Cell::new(upstream.state.to_string(), state),
        Cell::new(upstream.breaker.to_string(), breaker),
        count(upstream.in_flight).into(),
        limit(upstream.concurrency),
        maybe_span(upstream.first_token_ms).into(),
        count(upstream.requests).into(),
        count(upstream.failures).into(),
        Cell::new(percent(failed), failures(failed)),
        Cell::from(&pool.name),
    ];
    Row { cells, target: Some(Target::Upstream(upstream.name.clone())) }
}

fn tenant(tenant: &Tenant) -> Row {
    let part =
        Cell { text: tenant.share.map_or(UNKNOWN.to_owned(), percent), tone: Tone::Plain, bar: tenant.share };
    let waits = if tenant.waiting > 0 { Tone::Warn } else { Tone::Plain };
    let cells = vec![
        Cell::from(&tenant.name),
        name(tenant.pool.as_ref()).into(),
        tenant.weight.map_or(UNKNOWN.to_owned(), |weight| weight.to_string()).into(),
        part,
        Cell::new(count(tenant.waiting), waits),
        maybe_span(tenant.oldest_wait_ms).into(),
        count(tenant.running).into(),
        tenant.service.map_or(UNKNOWN.to_owned(), rate).into(),
    ];
    Row { cells, target: Some(Target::Tenant(tenant.name.clone(), tenant.pool.clone())) }
}

fn stream(stream: &Stream) -> Row {
    let (tone, progress) = match (stream.state.raw(), stream.position) {
        ("queued", Some(ahead)) => (Tone::Warn, format!("{} ahead", count(ahead))),
        ("queued", None) => (Tone::Warn, UNKNOWN.to_owned()),
        ("waiting", _) => (Tone::Plain, UNKNOWN.to_owned()),
        ("streaming", _) => (Tone::Good, format!("{} tok", count(stream.tokens))),
        _ => (Tone::Plain, format!("{} tok", count(stream.tokens))),
    };
    let public_id = stream.public_id.as_ref().filter(|_| stream.kept);
    let cells = vec![
        Cell::from(&stream.id),
        name(stream.tenant.as_ref()).into(),
        name(stream.model.as_ref()).into(),
        Cell::new(stream.state.to_string(), tone),
        span(stream.age_ms).into(),
        progress.into(),
        maybe_span(stream.first_token_ms).into(),
        name(stream.upstream.as_ref()).into(),
        count(stream.events).into(),
        maybe_span(stream.queue_ms).into(),
        name(stream.pool.as_ref()).into(),
        name(stream.key.as_ref()).into(),
        name(stream.dialect.as_ref()).into(),
        count(stream.seams).into(),
        name(public_id).into(),
        name(stream.request_id.as_ref()).into(),
    ];
    Row { cells, target: Some(Target::Stream(stream.id.clone())) }
}

/// A limit; nothing is limited where there is none.
fn limit(limit: Option<u64>) -> Cell {
    limit.map_or(UNKNOWN.to_owned(), count).into()
}

/// How bad it is that so many fail.
pub(super) fn failures(share: f64) -> Tone {
    match share {
        share if share >= 0.1 => Tone::Bad,
        share if share >= 0.01 => Tone::Warn,
        _ => Tone::Plain,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::example, *};

    #[test]
    fn every_row_has_every_column() {
        let snapshot = example::snapshot();
        for sheet in [pools(&snapshot), upstreams(&snapshot), tenants(&snapshot), streams(&snapshot)] {
            assert!(!sheet.rows.is_empty());
            assert!(sheet.rows.iter().all(|row| row.cells.len() == sheet.columns.len()));
        }
    }
}
