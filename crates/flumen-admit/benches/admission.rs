//! What one request costs: entering, waiting, its turn, twenty charges, settling, leaving; with 1,000 tenants and 10,000 waiting.
//! `cargo bench -p flumen-admit --bench admission`

#![expect(clippy::cast_precision_loss, reason = "figures of a few digits")]

use std::{
    pin::Pin,
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use flumen_admit::{Admission, Asked, Permit, Policy, Priority, Settings, Shares, Ticket};
use tokio::time::Instant;

const TENANTS: usize = 1_000;
const WAITING: usize = 10_000;
const SLOTS: usize = 64;
const REQUESTS: usize = 200_000;
const RUNS: usize = 7;
/// How far one thread may get ahead of the other before it has to wait for it.
const SPARE: usize = 5_000;

/// Tickets whose turn has come.
type Ready = Arc<Mutex<Vec<usize>>>;

/// Does what a runtime would: remembers which ticket to look at.
struct Bell {
    ticket: usize,
    ready: Ready,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ready.lock().expect("nobody panics").push(self.ticket);
    }
}

/// Requests that one thread brings and serves.
struct Load {
    admission: Arc<Admission>,
    names: Vec<Arc<str>>,
    tickets: Vec<Option<Ticket>>,
    wakers: Vec<Waker>,
    free: Vec<usize>,
    ready: Ready,
    random: u64,
}

impl Load {
    /// Enters requests, all of which wait if no slot is free.
    fn new(admission: &Arc<Admission>, waiting: usize, seed: u64) -> Self {
        let ready = Ready::default();
        let most = waiting + SLOTS + SPARE;
        let wakers =
            (0..most).map(|ticket| Waker::from(Arc::new(Bell { ticket, ready: Arc::clone(&ready) })));
        let mut load = Self {
            admission: Arc::clone(admission),
            names: (0..TENANTS).map(|n| format!("tenant {n}").into()).collect(),
            tickets: (0..most).map(|_| None).collect(),
            wakers: wakers.collect(),
            free: (0..most).collect(),
            ready,
            random: seed,
        };
        (0..waiting).for_each(|n| load.enter(n % TENANTS));
        load
    }

    fn tenant(&mut self) -> usize {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.random >> 40).expect("24 bits") % TENANTS
    }

    fn enter(&mut self, tenant: usize) {
        let asked = Asked {
            tenant: Arc::clone(&self.names[tenant]),
            weight: 1.0,
            priority: Priority::ALL[tenant % 3],
            input: 100 + (tenant as u64 * 37) % 900,
        };
        let mut ticket = self.admission.enter(asked).expect("there is room");
        let at = self.free.pop().expect("one has been served");
        if let Some(permit) = poll(&mut ticket, &self.wakers[at]) {
            self.free.push(at);
            return serve(&permit);
        }
        self.tickets[at] = Some(ticket);
    }

    /// Serves one whose turn has come, which hands its slot on.
    fn serve(&mut self) -> bool {
        let Some(at) = self.ready.lock().expect("nobody panics").pop() else { return false };
        let mut ticket = self.tickets[at].take().expect("it waits");
        self.free.push(at);
        serve(&poll(&mut ticket, &self.wakers[at]).expect("its turn has come"));
        true
    }

    /// One comes, one goes.
    fn turn(&mut self) {
        let tenant = self.tenant();
        self.enter(tenant);
        // The turn may be the other thread's just now, or this one may have several.
        while self.serve() && self.free.len() < SPARE || self.free.len() < 2 {}
    }
}

fn poll(ticket: &mut Ticket, waker: &Waker) -> Option<Permit> {
    match Pin::new(ticket).poll(&mut Context::from_waker(waker)) {
        Poll::Ready(permit) => Some(permit.expect("nobody waits too long")),
        Poll::Pending => None,
    }
}

fn serve(permit: &Permit) {
    (0..20).for_each(|_| permit.charge(4));
    permit.settle(Some(90), Some(77));
}

/// Tickets that never give up have no timer, which would be the runtime's cost.
fn settings(policy: Policy) -> Settings {
    let (queue, queue_per_tenant, wait) = (4 * WAITING, WAITING, Duration::MAX);
    Settings { slots: SLOTS, queue, queue_per_tenant, wait, policy, ..Settings::default() }
}

/// Nanoseconds per request, by `threads` threads that share what waits.
fn measure(policy: Policy, waiting: usize, threads: usize) -> f64 {
    let admission = Admission::new(settings(policy));
    admission.set_slots(if waiting > 0 { 0 } else { SLOTS });
    let mut loads: Vec<Load> =
        (0..threads).map(|n| Load::new(&admission, waiting / threads, n as u64)).collect();
    admission.set_slots(SLOTS);
    let (barrier, left) = (Barrier::new(threads), AtomicUsize::new(threads));
    let spent: Vec<Duration> = std::thread::scope(|scope| {
        let (barrier, left) = (&barrier, &left);
        let run = |mut load: Load| {
            scope.spawn(move || {
                barrier.wait();
                let began = Instant::now();
                (0..REQUESTS / threads).for_each(|_| load.turn());
                let spent = began.elapsed();
                // Who is done goes on serving, or the other might wait for its slots.
                left.fetch_sub(1, Relaxed);
                while left.load(Relaxed) > 0 {
                    load.serve();
                }
                spent
            })
        };
        let running: Vec<_> = loads.drain(..).map(run).collect();
        running.into_iter().map(|thread| thread.join().expect("nobody panics")).collect()
    });
    spent.iter().max().expect("there is a thread").as_secs_f64() * 1e9 / REQUESTS as f64
}

fn report(what: &str, measure: impl Fn() -> f64) {
    let mut runs: Vec<f64> = (0..RUNS).map(|_| measure()).collect();
    runs.sort_unstable_by(f64::total_cmp);
    println!("{what:<66} {:>7.0} ns  ({:.0} .. {:.0})", runs[RUNS / 2], runs[0], runs[RUNS - 1]);
}

fn main() {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!(
        "{cores} cores; per request: enter, turn, charge x 20, settle, drop; median of {RUNS} runs of {REQUESTS}"
    );
    println!("{TENANTS} tenants in three classes, {SLOTS} slots");
    let weighted = Policy::Weighted(Shares::default());
    report("a slot is free, nobody waits, 1 thread", || measure(Policy::Strict, 0, 1));
    report("10,000 wait, strict classes, 1 thread", || measure(Policy::Strict, WAITING, 1));
    report("10,000 wait, weighted classes, 1 thread", || measure(weighted, WAITING, 1));
    report("10,000 wait, strict classes, 2 threads (wall time per request)", || {
        measure(Policy::Strict, WAITING, 2)
    });
    let admission = Admission::new(settings(Policy::Strict));
    let asked = Asked { tenant: "a".into(), weight: 1.0, priority: Priority::Normal, input: 1 };
    let permit =
        poll(&mut admission.enter(asked).expect("there is room"), Waker::noop()).expect("a slot is free");
    report("one charge, 1 thread", || {
        let began = Instant::now();
        (0..REQUESTS).for_each(|_| permit.charge(std::hint::black_box(4)));
        began.elapsed().as_secs_f64() * 1e9 / REQUESTS as f64
    });
}
