//! Fairness, in virtual time: a simulation of threads around the schedule, without threads or clocks.
#![expect(clippy::cast_precision_loss, reason = "shares of small numbers")]

use proptest::prelude::*;
use tokio::time::Instant;

use super::*;

/// Work of a queue that takes so many microseconds.
#[derive(Clone, Copy, Debug)]
struct Item {
    queue: usize,
    cost: u64,
}

/// Threads that run what the schedule gives them, each turn for its cost in microseconds.
struct Machine {
    schedule: Schedule<Item>,
    start: Instant,
    now: u64,
    /// End, turn, cost and queue of what runs on each thread.
    threads: Vec<Option<(u64, Turn, u64, usize)>>,
    last: u64,
    done: Vec<u64>,
    busy: Vec<u64>,
}

impl Machine {
    fn new(policy: Policy, threads: usize, configs: &[QueueConfig]) -> Self {
        let mut schedule = Schedule::new(policy);
        for config in configs {
            schedule.add("q", *config);
        }
        let (done, busy) = (vec![0; configs.len()], vec![0; configs.len()]);
        Self { schedule, start: Instant::now(), now: 0, threads: vec![None; threads], last: 0, done, busy }
    }

    fn at(&self) -> Instant {
        self.start + Duration::from_micros(self.now)
    }

    fn push_all(&mut self, queue: usize, costs: &[u64]) {
        for &cost in costs {
            self.push(queue, cost);
        }
    }

    fn push_many(&mut self, queue: usize, count: u64, cost: u64) {
        for _ in 0..count {
            self.push(queue, cost);
        }
    }

    fn push(&mut self, queue: usize, cost: u64) -> u64 {
        let now = self.at();
        self.schedule.push(queue, now, |number| {
            self.last = number;
            Item { queue, cost }
        });
        self.last
    }

    /// Gives every free thread a turn, then lets the next one end. `false` when nothing runs.
    fn step(&mut self) -> bool {
        let now = self.at();
        for thread in self.threads.iter_mut().filter(|thread| thread.is_none()) {
            let Some((turn, item, _)) = self.schedule.next(now) else { break };
            *thread = Some((self.now + item.cost, turn, item.cost, item.queue));
        }
        let Some(next) = self
            .threads
            .iter_mut()
            .filter(|thread| thread.is_some())
            .min_by_key(|thread| thread.map(|t| t.0))
        else {
            return false;
        };
        let Some((end, turn, cost, queue)) = next.take() else { return false };
        self.now = end;
        self.schedule.finished(turn, Duration::from_micros(cost), true);
        self.done[queue] += 1;
        self.busy[queue] += cost;
        true
    }
}

fn plain(queues: usize) -> Vec<QueueConfig> {
    vec![QueueConfig::default(); queues]
}

proptest! {
    /// Whatever the mix of durations: while all queues are backlogged, their counts of finished turns differ by no more
    /// than there are threads.
    #[test]
    fn counts_of_backlogged_queues_stay_together(
        threads in 1_usize..9,
        costs in prop::collection::vec(prop::collection::vec(1_u64..5_000, 60), 2..6),
    ) {
        let mut machine = Machine::new(Policy::Count, threads, &plain(costs.len()));
        for (queue, costs) in costs.iter().enumerate() {
            machine.push_all(queue, costs);
        }
        while machine.schedule.queues().all(|queue| queue.live() > 0) {
            prop_assert!(machine.step());
            let (least, most) = (machine.done.iter().min().unwrap(), machine.done.iter().max().unwrap());
            prop_assert!(most - least <= threads as u64, "{:?} on {} threads", machine.done, threads);
        }
    }

    /// With weights: turns divided by weight stay together within the threads, and one turn of the queue that leads.
    #[test]
    fn weights_divide_the_turns(
        threads in 1_usize..9,
        queues in prop::collection::vec((1_u32..8, 1_u64..3_000), 2..5),
    ) {
        let configs: Vec<_> = queues.iter().map(|(weight, _)| QueueConfig::default().weight(*weight)).collect();
        let mut machine = Machine::new(Policy::Count, threads, &configs);
        for (queue, (weight, cost)) in queues.iter().enumerate() {
            machine.push_many(queue, u64::from(*weight) * 30, *cost);
        }
        while machine.schedule.queues().all(|queue| queue.live() > 0) {
            prop_assert!(machine.step());
            let share = |queue: usize, more: u64| (machine.done[queue] + more) as f64 / f64::from(queues[queue].0);
            for one in 0..queues.len() {
                for other in 0..queues.len() {
                    prop_assert!(share(one, 0) <= share(other, threads as u64) + 1.0 / f64::from(queues[one].0), "{:?}", machine.done);
                }
            }
        }
    }

    /// Policy `Time`: after a while, thread time is shared within 5 %, whatever a turn of each queue takes.
    #[test]
    fn time_is_shared(threads in 1_usize..5, costs in prop::collection::vec(1_u64..20_000, 2..5)) {
        let mut machine = Machine::new(Policy::Time, threads, &plain(costs.len()));
        for (queue, &cost) in costs.iter().enumerate() {
            machine.push_many(queue, 4_000_000 / cost + 1, cost);
        }
        while machine.schedule.queues().all(|queue| queue.live() > 0) {
            prop_assert!(machine.step());
        }
        // What runs still counts for the time it has had.
        let mut busy = machine.busy.clone();
        for (end, _, cost, queue) in machine.threads.iter().flatten() {
            busy[*queue] += cost - (end - machine.now);
        }
        let (least, most) = (*busy.iter().min().unwrap(), *busy.iter().max().unwrap());
        prop_assert!((most - least) as f64 <= 0.05 * most as f64, "{busy:?}");
    }

    /// Every entry that is not cancelled gets exactly one turn; nothing is left behind.
    #[test]
    fn every_live_entry_runs_once(actions in prop::collection::vec((0_usize..3, 0_u8..4), 1..200)) {
        let configs = [
            QueueConfig::default(),
            QueueConfig::default().priority(1),
            QueueConfig::default().concurrency(1.try_into().unwrap()),
        ];
        let mut machine = Machine::new(Policy::Count, 2, &configs);
        let mut numbers = Vec::new();
        let (mut pushed, mut cancelled) = (0, 0);
        for (queue, action) in actions {
            match action {
                0 | 1 => {
                    numbers.push((queue, machine.push(queue, 1)));
                    pushed += 1;
                }
                2 => {
                    // A second try, or a try for one that has begun, takes nothing.
                    if let Some(&(queue, number)) = numbers.get(numbers.len() / 2) {
                        cancelled += u64::from(machine.schedule.cancel(queue, number).is_some());
                    }
                }
                _ => {
                    machine.step();
                }
            }
        }
        while machine.step() {}
        prop_assert_eq!(machine.done.iter().sum::<u64>() + cancelled, pushed);
        prop_assert_eq!(machine.schedule.ready(), 0);
        prop_assert!(machine.schedule.queues().all(|queue| queue.live() == 0 && queue.running == 0));
    }
}

#[test]
fn a_queue_that_idled_has_saved_nothing_up() {
    let mut machine = Machine::new(Policy::Count, 1, &plain(2));
    (0..100).for_each(|_| {
        let _ = machine.push(0, 1);
    });
    (0..50).for_each(|_| assert!(machine.step()));
    (0..50).for_each(|_| {
        let _ = machine.push(1, 1);
    });
    (0..20).for_each(|_| assert!(machine.step()));
    assert!(machine.done[1] <= 11, "{:?}", machine.done);
}

#[test]
fn a_higher_priority_goes_first() {
    let configs = [QueueConfig::default(), QueueConfig::default().priority(5)];
    let mut machine = Machine::new(Policy::Count, 1, &configs);
    (0..3).for_each(|_| {
        let _ = machine.push(0, 1);
    });
    (0..3).for_each(|_| {
        let _ = machine.push(1, 1);
    });
    (0..3).for_each(|_| assert!(machine.step()));
    assert_eq!(machine.done, [0, 3]);
}

#[test]
fn a_cap_keeps_threads_free() {
    let configs = [QueueConfig::default().concurrency(3.try_into().unwrap()), QueueConfig::default()];
    let mut machine = Machine::new(Policy::Count, 4, &configs);
    (0..24).for_each(|_| {
        let _ = machine.push(0, 1_000_000);
    });
    machine.push(1, 1);
    assert!(machine.step());
    assert_eq!((machine.done[1], machine.now), (1, 1));
    assert_eq!(machine.threads.iter().flatten().count(), 3);
}

#[test]
fn a_forgotten_queue_leaves_its_place_when_its_work_is_done() {
    let mut machine = Machine::new(Policy::Count, 1, &plain(1));
    machine.push(0, 1);
    machine.schedule.queue(0).abandoned = true;
    machine.schedule.collect(0);
    assert_eq!(machine.schedule.queues().count(), 1);
    assert!(machine.step());
    assert_eq!(machine.schedule.queues().count(), 0);
}

#[test]
fn places_go_to_those_who_wait_in_their_order() {
    let mut schedule = Schedule::new(Policy::Count);
    let id = schedule.add("q", QueueConfig::default().capacity(1));
    let now = Instant::now();
    let mut first = 0;
    schedule.push(id, now, |number| {
        first = number;
        'a'
    });
    assert!(!schedule.has_room(id));
    let room = schedule.block(id);
    let (_, grant) = schedule.cancel(id, first).unwrap();
    grant.unwrap().tell();
    assert!(!schedule.has_room(id), "the place is kept for the one who waits");
    assert_eq!(room.available_permits(), 1);
    // The one who waited has left without it: the place is free for everybody.
    assert!(schedule.unblock(id, false).is_none());
    assert!(schedule.has_room(id));
    assert_eq!(room.available_permits(), 0);
}
