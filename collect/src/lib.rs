//! What every collector is, whatever it reads: the kernel's events, /proc or something else.
//!
//! A [`Collector`] says what it needs and starts; an [`ActiveCollector`] is polled and emits rows, each with its
//! [`Subject`]. The [`Scheduler`] polls all of them, and tries those again that fail.

mod account;
mod active;
mod budget;
pub mod capture;
mod cgroups;
mod clock;
mod coarse;
mod collector;
mod containers;
mod emit;
mod entity;
mod error;
mod fault;
mod filter;
mod interval;
mod name_patterns;
mod own_thread;
mod retry;
mod scheduler;
pub mod settings;
mod state;
mod subject;
mod top;
mod users;

pub use active::{ActiveCollector, Loss, PollContext, ProgramCost, RateLimited};
pub use budget::MaxRows;
pub use cgroups::{CgroupNames, Cgroups, Follow, Names, cgroup2_mount};
pub use clock::{Clock, boottime, tick};
pub use collector::{Cadence, Collector, Hook, LeftOut, Refusal};
pub use containers::unreadable_runtimes;
pub use emit::{Emitter, RowSink};
pub use entity::Entities;
pub use error::CollectorError;
pub use filter::{Candidate, Cgroup, Comm, Filter, Pattern, Sample, comm_words};
pub use interval::Interval;
pub use name_patterns::NamePatterns;
pub use scheduler::Scheduler;
pub use state::{CollectorState, Health};
pub use subject::{Process, Subject};
pub use top::{OTHER, top};
