//! A request that was chosen and is being served.

use std::sync::Arc;

use super::{
    service::Rates,
    tenant::{Meter, Tenant, TenantId},
};
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A turn: what was charged for a request, and where more is charged.
#[derive(Debug)]
pub struct Turn {
    pub(super) tenant: TenantId,
    pub(super) class: usize,
    /// How often flow and class had come back to the queue when the turn began.
    pub(super) joins: (u64, u64),
    /// What a token cost then.
    pub(super) rates: Rates,
    meter: Arc<Meter>,
    input: AtomicU64,
    output: AtomicU64,
}

/// By how much a figure was wrong.
pub(super) struct Difference {
    pub(super) more: u64,
    pub(super) less: u64,
}

impl Turn {
    pub(super) fn new<E>(
        id: TenantId,
        class: usize,
        input: u64,
        tenant: &Tenant<E>,
        joins: (u64, u64),
    ) -> Self {
        let (input, output) = (AtomicU64::new(input), AtomicU64::new(0));
        Self {
            tenant: id,
            class,
            joins,
            rates: tenant.rates,
            meter: Arc::clone(&tenant.meter),
            input,
            output,
        }
    }

    /// Charges output tokens: two atomic additions, from any thread, without the schedule's lock.
    pub fn charge(&self, output: u64) {
        self.output.fetch_add(output, Relaxed);
        self.meter.add(self.class, output);
    }

    /// Input tokens that were charged.
    pub fn input(&self) -> u64 {
        self.input.load(Relaxed)
    }

    /// Output tokens that were charged.
    pub fn output(&self) -> u64 {
        self.output.load(Relaxed)
    }

    pub(super) fn correct_input(&self, tokens: Option<u64>) -> Difference {
        correct(&self.input, tokens)
    }

    pub(super) fn correct_output(&self, tokens: Option<u64>) -> Difference {
        correct(&self.output, tokens)
    }
}

fn correct(charged: &AtomicU64, tokens: Option<u64>) -> Difference {
    let Some(tokens) = tokens else { return Difference { more: 0, less: 0 } };
    let before = charged.swap(tokens, Relaxed);
    Difference { more: tokens.saturating_sub(before), less: before.saturating_sub(tokens) }
}
