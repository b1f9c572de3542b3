//! How a collector is.

use std::time::Instant;

/// What has become of a collector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectorState {
    pub name: &'static str,
    pub metrics: Vec<&'static str>,
    /// As [`crate::Collector::works_everywhere`] has it.
    pub works_everywhere: bool,
    pub health: Health,
    /// CPU time that starting and polling it took, ns, since the scheduler began.
    pub cpu_time: u64,
}

/// How a collector is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Health {
    /// Its own thread is starting it.
    #[default]
    Starting,
    Running,
    /// It is at work and fails at something.
    Failing(String),
    /// What it does takes far longer than it should.
    Hanging(String),
    /// It is not at work, and is started again.
    Failed {
        reason: String,
        next_try: Instant,
    },
}

impl Health {
    /// What is wrong; none while all is well.
    pub fn fault(&self) -> Option<&str> {
        match self {
            Health::Starting | Health::Running => None,
            Health::Failing(reason) | Health::Hanging(reason) | Health::Failed { reason, .. } => Some(reason),
        }
    }

    /// When it is started again, where it is not at work.
    pub fn next_try(&self) -> Option<Instant> {
        match self {
            Health::Failed { next_try, .. } => Some(*next_try),
            _ => None,
        }
    }
}
