//! Charging and giving back.

use std::time::Duration;

use super::{Schedule, Turn, service::cost, tenant::TenantId};

impl<E> Schedule<E> {
    /// Sets what was charged for a turn right: the difference is charged, or given back where that is no credit for having been
    /// away. `None` stands for a figure that is not known better. The last call holds.
    pub fn settle(&mut self, now: Duration, turn: &Turn, input: Option<u64>, output: Option<u64>) {
        self.tick(now);
        let (id, class) = (turn.tenant, turn.class);
        self.collect(id, class);
        let input = turn.correct_input(input.map(|tokens| tokens.max(1)));
        let output = turn.correct_output(output);
        self.charge(id, class, input.more, output.more);
        self.give_back(turn, input.less, output.less);
        self.seat(id, class);
    }

    /// Brings the counters up to what was streamed; says whether that was anything.
    pub(super) fn collect(&mut self, id: TenantId, class: usize) -> bool {
        let tokens = self.tenants.known(id).meter.take(class);
        if tokens > 0 {
            self.charge(id, class, 0, tokens);
            self.seat(id, class);
        }
        tokens > 0
    }

    #[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
    pub(super) fn charge(&mut self, id: TenantId, class: usize, input: u64, output: u64) {
        let weights = self.rules.weights;
        let tenant = self.tenants.known(id);
        let rates = tenant.rates;
        let service = input as f64 * weights.input + output as f64 * weights.output;
        tenant.service += service;
        tenant.recent.add(self.now, service);
        self.recent.add(self.now, service);
        let flow = self.tenants.flow(id, class);
        flow.counter += cost(input, rates.input) + cost(output, rates.output);
        let state = &mut self.classes[class];
        state.counter += cost(input, state.rates.input) + cost(output, state.rates.output);
    }

    /// Takes back what was charged too much.
    ///
    /// Had it not been charged, the tenant would have been lifted that much further when it came back since. So what was
    /// charged before that comes out of what the counter was above the floor then, and what was charged before it came
    /// back twice is lost: the other way round the tenant would gain by asking for more than it takes.
    #[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
    fn give_back(&mut self, turn: &Turn, input: u64, output: u64) {
        if input == 0 && output == 0 {
            return;
        }
        let weights = self.rules.weights;
        let tenant = self.tenants.known(turn.tenant);
        let service = input as f64 * weights.input + output as f64 * weights.output;
        tenant.service -= service;
        tenant.recent.add(self.now, -service);
        self.recent.add(self.now, -service);
        // The weight may have changed since: never more than was charged.
        let rates = tenant.rates;
        let less = cost(input, turn.rates.input.min(rates.input))
            + cost(output, turn.rates.output.min(rates.output));
        let flow = self.tenants.flow(turn.tenant, turn.class);
        let less = match flow.joins - turn.joins.0 {
            0 => less,
            1 => less.min(flow.slack),
            _ => 0,
        };
        if flow.joins > turn.joins.0 {
            flow.slack -= less;
        }
        flow.counter = flow.counter.saturating_sub(less);
        let state = &mut self.classes[turn.class];
        if state.joins == turn.joins.1 {
            let less = cost(input, state.rates.input) + cost(output, state.rates.output);
            state.counter = state.counter.saturating_sub(less);
        }
    }
}
