//! What the admin API shows.

use std::{sync::Arc, time::SystemTime};

use axum::{
    Json,
    extract::{Path, State},
};
use http::StatusCode;
use serde_json::{Value, json};

use super::{Admin, ms};
use crate::{
    error::Failure,
    live::{Entry, Phase},
};

/// A list has at most so many entries.
const MOST: usize = 1000;

/// `GET /admin/overview`
pub(super) async fn overview(State(admin): State<Admin>) -> Json<Value> {
    let core = &admin.core;
    let all = core.roll().all();
    let count = |phase: Phase| all.iter().filter(|entry| entry.phase() == phase).count();
    let running: u64 = all.iter().map(|entry| entry.events()).sum();
    let (totals, kept) = (core.metrics().totals(), core.store().holding());
    let uptime = SystemTime::now().duration_since(admin.started).unwrap_or_default();
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_ms": ms(uptime),
        "draining": core.shutdown().is_draining(),
        "connections": core.gate().open(),
        "streams": {
            "queued": count(Phase::Queued),
            "waiting": count(Phase::Waiting),
            "streaming": count(Phase::Streaming),
        },
        "requests": totals.requests,
        "failed": totals.failed,
        "tokens_in": totals.tokens_in,
        "tokens_out": totals.tokens_out.saturating_add(running),
        "kept": {"streams": kept.streams, "bytes": kept.bytes},
    }))
}

/// `GET /admin/streams`
pub(super) async fn streams(State(admin): State<Admin>) -> Json<Value> {
    let all = admin.core.roll().all();
    let data: Vec<_> = all.iter().filter_map(|entry| shown(entry)).take(MOST).collect();
    Json(json!({"data": data}))
}

/// `GET /admin/streams/{id}`
pub(super) async fn stream(State(admin): State<Admin>, Path(id): Path<u64>) -> Result<Json<Value>, Failure> {
    shown(&*entry(&admin, id)?).map(Json).ok_or_else(not_found)
}

pub(super) fn entry(admin: &Admin, id: u64) -> Result<Arc<Entry>, Failure> {
    admin.core.roll().get(id).ok_or_else(not_found)
}

fn not_found() -> Failure {
    let message = "there is no such stream, or it has ended";
    Failure::rejected(StatusCode::NOT_FOUND, "stream_not_found", message)
}

fn shown(entry: &Entry) -> Option<Value> {
    let record = entry.record()?;
    let (facts, phase) = (record.facts(), entry.phase());
    Some(json!({
        "id": entry.id.to_string(),
        "request_id": facts.request_id,
        "stream_id": facts.stream_id,
        "tenant": facts.tenant.as_ref().map(|tenant| tenant.label()),
        "key": facts.key.as_deref(),
        "model": facts.model,
        "pool": entry.pool,
        "upstream": facts.upstream,
        "dialect": facts.dialect,
        "state": phase.as_str(),
        "position": (phase == Phase::Queued).then(|| entry.position()),
        "age_ms": ms(record.started().elapsed()),
        "queue_ms": facts.queued.map(ms),
        "first_token_ms": facts.first_token.map(ms),
        "events": entry.events(),
        "tokens": entry.events(),
        "kept": facts.outlives,
        "seams": facts.seams,
    }))
}

/// `GET /admin/tenants`
pub(super) async fn tenants(State(admin): State<Admin>) -> Json<Value> {
    let mut data = Vec::new();
    for pool in admin.core.pools().all() {
        for tenant in pool.admission().snapshot().tenants {
            data.push(json!({
                "tenant": if tenant.name.is_empty() { "anonymous" } else { &tenant.name },
                "pool": pool.name(),
                "weight": tenant.weight,
                "waiting": tenant.waiting,
                "running": tenant.running,
                "oldest_wait_ms": tenant.oldest_wait.map(ms),
                "service": tenant.service,
                "share": tenant.share,
            }));
        }
    }
    Json(json!({"data": data}))
}

/// `GET /admin/pools`
pub(super) async fn pools(State(admin): State<Admin>) -> Json<Value> {
    let pools = admin.core.pools();
    let data: Vec<_> = pools
        .all()
        .map(|pool| {
            let now = pool.admission().snapshot();
            let upstreams: Vec<_> = pool.members().map(|member| member.standing()).collect();
            json!({
                "pool": pool.name(),
                "slots": now.slots,
                "running": now.in_flight,
                "waiting": now.waiting,
                "drain_rate": now.drain_rate,
                "adaptive": now.adaptive,
                "upstreams": upstreams,
            })
        })
        .collect();
    Json(json!({"data": data}))
}
