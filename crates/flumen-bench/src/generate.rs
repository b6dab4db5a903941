//! Threads that make the load.

use std::{
    cell::RefCell,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use flumen_wire::client::{Client, Options};
use tokio::{
    runtime::Runtime,
    task::LocalSet,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Error, Failure, Load, Plan, Report,
    exchange::{self, Arrival, Observer, wall_clock},
    leave,
    process::Sample,
    report::Window,
    resume,
    tally::Tally,
};

/// How far a run is, for whoever waits for it.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Time since the beginning.
    pub elapsed: Duration,
    /// Time that the whole run takes.
    pub total: Duration,
    /// Streams that are open.
    pub open: usize,
    /// Streams that were read to their end.
    pub completed: u64,
    /// Events so far.
    pub events: u64,
    /// Streams that failed.
    pub failed: u64,
}

/// What all threads count together.
#[derive(Debug, Default)]
pub(crate) struct Live {
    open: AtomicUsize,
    begun: AtomicU64,
    completed: AtomicU64,
    failed: AtomicU64,
    events: AtomicU64,
    bytes: AtomicU64,
    measuring: AtomicBool,
}

impl Live {
    fn window(&self) -> Window {
        Window {
            at: Instant::now(),
            completed: self.completed.load(Relaxed),
            events: self.events.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            open: self.open.load(Relaxed),
        }
    }
}

/// So many streams of an open load may be under way at once; more than that are failures.
const MOST_OPEN: usize = 50_000;

/// How often the progress is told.
const TELL: Duration = Duration::from_millis(100);

/// Makes the load of a plan and measures. Blocks for ramp, settling and duration; call it outside of any runtime.
///
/// # Errors
/// When there is no server to measure (one request is tried first), or a process to watch does not exist. Failures of
/// single streams are part of the report.
pub fn run(plan: &Plan, mut progress: impl FnMut(&Progress)) -> Result<Report, Error> {
    let runtime = runtime()?;
    runtime.block_on(probe(plan))?;
    let before = Sample::take(&plan.pids)?;
    let (live, stop) = (Arc::new(Live::default()), CancellationToken::new());
    let begin = Instant::now();
    let threads: Vec<_> = (0..plan.threads.max(1))
        .map(|number| {
            let (plan, live, stop) = (plan.clone(), Arc::clone(&live), stop.clone());
            thread::spawn(move || work(plan, number, begin, live, &stop))
        })
        .collect();
    let end = begin + plan.ramp + plan.settle + plan.duration;
    let mut wait = |until: Instant| {
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            runtime.block_on(async { sleep(left.min(TELL)).await });
            progress(&Progress {
                elapsed: begin.elapsed(),
                total: end - begin,
                open: live.open.load(Relaxed),
                completed: live.completed.load(Relaxed),
                events: live.events.load(Relaxed),
                failed: live.failed.load(Relaxed),
            });
        }
    };
    wait(begin + plan.ramp + plan.settle);
    live.measuring.store(true, Relaxed);
    let from = (live.window(), Sample::take(&plan.pids)?);
    wait(end);
    let to = (live.window(), Sample::take(&plan.pids)?);
    live.measuring.store(false, Relaxed);
    stop.cancel();
    let mut tally = Tally::new();
    for thread in threads {
        let outcome = thread.join().map_err(|_| Error::Generator("a thread panicked".to_owned()))?;
        tally.merge(outcome?);
    }
    let cancels = match &plan.simulator {
        Some(simulator) => Some(runtime.block_on(leave::latencies(simulator, &tally.left))?),
        None => None,
    };
    Ok(Report::new(plan, &tally, live.begun.load(Relaxed), [from.0, to.0], [before, from.1, to.1], cancels))
}

fn runtime() -> Result<Runtime, Error> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::Generator(format!("no runtime: {error}")))
}

fn client(plan: &Plan) -> Result<Client, Failure> {
    let options = Options { max_idle: MOST_OPEN, ..Options::default() };
    Ok(Client::new(plan.endpoint.clone(), options)?)
}

/// Whether there is a server that streams: one answer up to its first token, or until clients are to leave.
async fn probe(plan: &Plan) -> Result<(), Failure> {
    struct First(bool);
    impl Observer for First {
        fn arrived(&mut self, arrival: &Arrival) {
            self.0 |= arrival.tokens > 0;
        }
    }
    let (client, request) = (client(plan)?, plan.request("flumen-bench-probe"));
    let answer = async {
        let body = exchange::open(&client, &request, plan.timeout).await?;
        exchange::read_until(body, plan.timeout, &mut First(false), |first| first.0).await
    };
    match plan.leave_after {
        None => answer.await,
        Some(after) => timeout(after, answer).await.unwrap_or(Ok(())),
    }
}

struct Worker {
    plan: Plan,
    client: Client,
    /// For streams that are resumable.
    resuming: flumen_client::Client,
    begin: Instant,
    live: Arc<Live>,
    tally: RefCell<Tally>,
}

fn work(
    plan: Plan,
    number: usize,
    begin: Instant,
    live: Arc<Live>,
    stop: &CancellationToken,
) -> Result<Tally, Error> {
    let (client, resuming) = (client(&plan)?, resume::client(&plan)?);
    let worker = Rc::new(Worker { plan, client, resuming, begin, live, tally: RefCell::new(Tally::new()) });
    let (runtime, tasks) = (runtime()?, LocalSet::new());
    tasks.block_on(&runtime, async {
        tokio::select! {
            () = stop.cancelled() => {}
            () = Rc::clone(&worker).load(number, begin) => {}
        }
    });
    // Dropping the tasks drops their streams and their handles to the worker.
    runtime.block_on(async { drop(tasks) });
    let worker = Rc::into_inner(worker).ok_or(Error::Generator("a stream outlived its thread".to_owned()))?;
    Ok(worker.tally.into_inner())
}

impl Worker {
    async fn load(self: Rc<Self>, thread: usize, begin: Instant) {
        let threads = self.plan.threads.max(1);
        match self.plan.load {
            Load::Closed { streams } => {
                for stream in (thread..streams).step_by(threads) {
                    let share = u32::try_from(stream).unwrap_or(u32::MAX);
                    let all = u32::try_from(streams).unwrap_or(u32::MAX).max(1);
                    let start = begin + self.plan.ramp * share / all;
                    let stalls = stream < self.plan.stalled;
                    tokio::task::spawn_local(Rc::clone(&self).repeat(start, stalls));
                }
                std::future::pending::<()>().await;
            }
            Load::Open { per_second } => {
                let mut number = thread;
                loop {
                    #[expect(clippy::cast_precision_loss, reason = "fewer streams than 2^52")]
                    let start = begin + Duration::from_secs_f64(number as f64 / per_second);
                    sleep_until(start).await;
                    if self.live.open.load(Relaxed) < MOST_OPEN {
                        tokio::task::spawn_local(Rc::clone(&self).once(start));
                    } else {
                        self.failed(Failure::new(
                            "too many open",
                            format!(
                                "{MOST_OPEN} streams are open already: the server is too slow for this rate"
                            ),
                        ));
                    }
                    number += threads;
                }
            }
        }
    }

    async fn repeat(self: Rc<Self>, start: Instant, stalls: bool) {
        sleep_until(start).await;
        let mut planned = start;
        loop {
            if !Rc::clone(&self).stream(planned, stalls).await {
                // A server that refuses everything is not asked a million times a second.
                sleep(Duration::from_millis(20)).await;
            }
            planned = Instant::now();
        }
    }

    async fn once(self: Rc<Self>, planned: Instant) {
        self.stream(planned, false).await;
    }

    /// One stream; whether it went well.
    async fn stream(self: Rc<Self>, planned: Instant, stalls: bool) -> bool {
        let number = self.live.begun.fetch_add(1, Relaxed);
        let user = format!("flumen-bench-{}-{number}", std::process::id());
        let outcome = match self.plan.leave_after {
            None => self.exchange(&user, planned, stalls).await,
            Some(after) => {
                let mut exchange = Box::pin(self.exchange(&user, planned, stalls));
                tokio::select! {
                    biased;
                    outcome = &mut exchange => outcome,
                    () = sleep(after) => {
                        self.tally.borrow_mut().left.push((user.clone(), wall_clock()));
                        return true;
                    }
                }
            }
        };
        match outcome {
            Ok(()) => {
                self.live.completed.fetch_add(1, Relaxed);
                true
            }
            Err(failure) => {
                self.failed(failure);
                false
            }
        }
    }

    async fn exchange(&self, user: &str, planned: Instant, stalls: bool) -> Result<(), Failure> {
        let patience = self.plan.timeout;
        if self.plan.resume {
            let stream = resume::open(&self.resuming, &self.plan, user);
            let mut seen = Seen { worker: self, planned, last: None, _open: Open::new(&self.live.open) };
            let resumed = |took: Duration| {
                let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
                self.tally.borrow_mut().resume.saturating_record(micros);
            };
            return resume::read(stream, self.plan.chaos, self.begin, &mut seen, resumed).await;
        }
        let body = exchange::open(&self.client, &self.plan.request(user), patience).await?;
        let mut seen = Seen { worker: self, planned, last: None, _open: Open::new(&self.live.open) };
        if stalls {
            let _held = exchange::hold(body, patience, &mut seen).await?;
            return std::future::pending().await;
        }
        exchange::read(body, patience, &mut seen).await
    }

    fn failed(&self, failure: Failure) {
        self.live.failed.fetch_add(1, Relaxed);
        self.tally.borrow_mut().failed(failure);
    }
}

/// Counts as open until it is dropped.
struct Open<'a>(&'a AtomicUsize);

impl<'a> Open<'a> {
    fn new(open: &'a AtomicUsize) -> Self {
        open.fetch_add(1, Relaxed);
        Self(open)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

struct Seen<'a> {
    worker: &'a Worker,
    planned: Instant,
    /// When tokens came last.
    last: Option<Instant>,
    _open: Open<'a>,
}

impl Observer for Seen<'_> {
    fn arrived(&mut self, arrival: &Arrival) {
        let live = &self.worker.live;
        live.events.fetch_add(arrival.events, Relaxed);
        live.bytes.fetch_add(arrival.bytes, Relaxed);
        if arrival.tokens == 0 {
            return;
        }
        let mut tally = self.worker.tally.borrow_mut();
        let micros = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        match self.last.replace(arrival.at) {
            None => tally.first_token.saturating_record(micros(arrival.at - self.planned)),
            Some(last) if live.measuring.load(Relaxed) => {
                tally.gap.saturating_record(micros(arrival.at - last));
            }
            Some(_) => {}
        }
        if live.measuring.load(Relaxed) {
            for delay in &arrival.delays {
                tally.delay.saturating_record(*delay);
            }
        }
    }
}
