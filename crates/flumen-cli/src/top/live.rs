//! The view that goes on: looks every so often, draws, and does what keys say.

use std::{io, thread, time::Duration};

use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event},
};
use tokio::{
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval_at},
};

use super::{
    model::Snapshot,
    poll::{Admin, Order, Problem},
    state::{State, Wish},
    view,
};

/// What was under way and is over.
enum Outcome {
    Looked(Box<Result<Snapshot, Problem>>),
    Done(Order, Result<(), Problem>),
}

/// Shows the gateway until the user leaves. The number of the signal that ended it, if one did.
pub(super) fn run(runtime: &Runtime, admin: &Admin, state: State, every: Duration) -> io::Result<Option<u8>> {
    let mut screen = Screen::open()?;
    runtime.block_on(Box::pin(show(&mut screen.terminal, admin, state, every)))
}

/// The terminal while it is the view's. However that ends, the terminal is as it was.
struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    /// Takes the terminal. A panic gives it back before it says anything.
    fn open() -> io::Result<Self> {
        match ratatui::try_init() {
            Ok(terminal) => Ok(Self { terminal }),
            Err(error) => {
                // Some of it may have been done.
                let _ = ratatui::try_restore();
                Err(error)
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if thread::panicking() {
            // It was given back before the panic said why; once more would put the cursor where that is written.
            return;
        }
        // A terminal that is gone needs nothing.
        let _ = self.terminal.show_cursor();
        let _ = ratatui::try_restore();
    }
}

async fn show(
    terminal: &mut DefaultTerminal,
    admin: &Admin,
    mut state: State,
    every: Duration,
) -> io::Result<Option<u8>> {
    let mut events = events();
    let mut signals = Signals::new()?;
    let mut clock = interval_at(Instant::now() + every, every);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut work: JoinSet<Outcome> = JoinSet::new();
    let mut looking = false;
    loop {
        terminal.draw(|frame| view::draw(frame, &state, Instant::now()))?;
        let mut look = false;
        tokio::select! {
            biased;
            number = signals.next() => return Ok(Some(number)),
            event = events.recv() => match event {
                Some(Ok(Event::Key(key))) => match state.press(key) {
                    Some(Wish::Quit) => return Ok(None),
                    Some(Wish::Do(order)) => {
                        let admin = admin.clone();
                        work.spawn(async move {
                            let outcome = admin.order(&order).await;
                            Outcome::Done(order, outcome)
                        });
                    }
                    None => {}
                },
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
                None => return Err(io::Error::other("the terminal is gone")),
            },
            Some(outcome) = work.join_next() => match outcome {
                Ok(Outcome::Looked(outcome)) => {
                    looking = false;
                    state.looked(*outcome);
                }
                Ok(Outcome::Done(order, outcome)) => {
                    state.done(&order, outcome);
                    // What it changed is to be seen, paused or not.
                    look = true;
                }
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(error) => return Err(io::Error::other(error)),
                },
            },
            _ = clock.tick() => look = !state.paused,
        }
        if look && !looking {
            looking = true;
            let admin = admin.clone();
            work.spawn(async move { Outcome::Looked(Box::new(admin.snapshot().await)) });
        }
    }
}

/// What the terminal says. Reading it blocks, so a thread does it; it ends with the process.
fn events() -> mpsc::Receiver<io::Result<Event>> {
    let (send, receive) = mpsc::channel(64);
    thread::spawn(move || {
        loop {
            let event = event::read();
            let failed = event.is_err();
            if send.blocking_send(event).is_err() || failed {
                break;
            }
        }
    });
    receive
}

/// The signals that end the view; the terminal has to be given back before.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// The number of the one that came.
    async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => 2,
            _ = self.terminate.recv() => 15,
            _ = self.hang_up.recv() => 1,
        }
    }
}
