//! Task flows: services that fetch, compute, read files and stream, composed of tasks.
//!
//! * [`Task`] is a unit of work; its methods and [`series`], [`parallel`], [`branch`], [`switch`], [`each`], [`dynamic`],
//!   [`race`], [`GraphBuilder`] compose tasks. [`Catalog`] composes them at run time.
//! * [`Context`] travels with a run: shared values, deadline, cancel, and the way out for frames.
//! * [`Run`] and [`Streaming`] are runs that were started: cancel them, look at them, read what they emit.
//! * [`executor`] has threads for work that computes or blocks, in named queues that get fair shares.
//! * [`file`](mod@file) has file work on such an executor, [`wait`] what flows wait on.
//!
//! This crate opens no socket. Control flows through it, data past it: a stage that emits frames writes into a bounded
//! log of `flumen-stream`, and the slowest reader sets the pace.

pub mod executor;
pub mod file;
pub mod wait;

mod backoff;
mod branch;
mod catalog;
mod contest;
mod context;
mod error;
mod graph;
mod module;
mod observe;
mod out;
mod parallel;
mod pipe;
mod progress;
mod recover;
mod repeat;
mod run;
mod series;
mod sketch;
mod streaming;
mod task;
mod time;

pub use backoff::Backoff;
pub use branch::{Branch, Switch, branch, switch};
pub use catalog::{Catalog, DefinitionError, ValueTask};
pub use contest::{Any, First, Race, race};
pub use context::Context;
pub use error::{Error, ErrorKind, Result, ResultExt};
pub use graph::{Graph, GraphBuilder, GraphError, Inputs, Node};
pub use module::{Module, ModuleStats, Named};
pub use out::Out;
pub use parallel::{Group, Parallel, Settled, parallel};
pub use pipe::{AsReady, Frames, Ordered, Pipe, Tagged};
pub use progress::{Events, RunTree, TaskEvent, TaskEventKind, TaskState};
pub use recover::{Catch, Fallback, Finally, Outcome, Retry};
pub use repeat::{Each, Forever, Repeat, Times, While, each};
pub use run::{Run, RunHandle};
pub use series::{Dynamic, Series, Then, dynamic, series};
pub use sketch::Sketch;
pub use streaming::Streaming;
pub use task::{BoxTask, Func, Task, task};
pub use time::{Delay, Timeout, delay};

/// The name of a task: what errors, events and drawings call it.
pub type Name = std::borrow::Cow<'static, str>;
