use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use crate::fail;

mod args;
#[cfg(test)]
mod example;
mod figures;
mod history;
mod live;
mod model;
mod plain;
mod poll;
mod sheet;
mod state;
mod tables;
mod text;
mod view;

pub(crate) use args::Arguments;
use poll::Admin;
use state::State;

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let authorization = match arguments.authorization() {
        Ok(authorization) => authorization,
        Err(problem) => return fail(&problem, 2),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error, 1),
    };
    let admin = match Admin::new(arguments.admin.clone(), authorization, arguments.timeout) {
        Ok(admin) => admin,
        Err(problem) => return fail(&problem, 1),
    };
    // What fails at first is said on the command line; a view of nothing would help nobody.
    let snapshot = match runtime.block_on(admin.snapshot()) {
        Ok(snapshot) => snapshot,
        Err(problem) => return fail(&problem, 1),
    };
    if arguments.once || !io::stdout().is_terminal() {
        return match io::stdout().write_all(plain::report(&snapshot).as_bytes()) {
            // Nobody who stops reading is an error.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => fail(&error, 1),
            _ => ExitCode::SUCCESS,
        };
    }
    let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let state = State::new(arguments.admin.to_string(), snapshot, colours);
    match live::run(&runtime, &admin, state, arguments.every) {
        Ok(None) => ExitCode::SUCCESS,
        // As shells expect it.
        Ok(Some(signal)) => ExitCode::from(128 + signal),
        Err(error) => fail(&format_args!("this terminal cannot be used: {error}; see --once"), 1),
    }
}
