//! What is alike in the collectors of this crate: each reads its files once in an interval, on the scheduler's thread, or on
//! its own where that may take long.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use kumon_collect::{
    ActiveCollector, Cadence, Collector, CollectorError, Emitter, Hook, Interval, Loss, PollContext,
};

use crate::Root;
use crate::error::ReadError;

/// What feeds one metric.
pub(crate) trait Metric: Sized + 'static {
    const NAME: &'static str;
    /// What it can't do without.
    const FILE: &'static str;
    /// Whether reading may take long or hang.
    const MAY_HANG: bool;
    type Settings: MetricSettings;

    /// Opens its files, and reads what its counters have.
    fn start(root: &Root, settings: &Self::Settings) -> Result<Self, ReadError>;

    /// Reads them again, and emits what has come since.
    fn read(&mut self, period: Period, emitter: &mut Emitter<'_>) -> Result<(), ReadError>;

    /// What it could not keep up with, in total since the start.
    fn losses(&self) -> Vec<Loss> {
        Vec::new()
    }
}

/// What the settings of all of them say.
pub(crate) trait MetricSettings: Clone + fmt::Debug + Send {
    fn enabled(&self) -> bool;
    fn interval(&self) -> Duration;
}

/// The time that a row sums up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Period {
    /// Its end, ns since the Unix epoch.
    pub(crate) timestamp: i64,
    /// Its length, ns.
    pub(crate) interval: u64,
}

/// A part of a whole, to four places: as Elastic's own agents have it, and no text that is longer than it is exact. None of
/// nothing.
pub(crate) fn share(part: Option<u64>, whole: Option<u64>) -> Option<f64> {
    let (part, whole) = (part?, whole.filter(|whole| *whole > 0)?);
    Some((part as f64 / whole as f64 * 10_000.0).round() / 10_000.0)
}

/// The collector of a metric.
pub(crate) struct Reading<M: Metric> {
    root: Root,
    settings: M::Settings,
    metric: PhantomData<fn() -> M>,
}

impl<M: Metric> Reading<M> {
    pub(crate) fn new(root: &Root, settings: &M::Settings) -> Reading<M> {
        Reading { root: root.clone(), settings: settings.clone(), metric: PhantomData }
    }
}

impl<M: Metric> Collector for Reading<M> {
    fn name(&self) -> &'static str {
        M::NAME
    }

    fn metrics(&self) -> Vec<&'static str> {
        if self.settings.enabled() { vec![M::NAME] } else { Vec::new() }
    }

    fn probe(&self) -> Vec<Hook> {
        let started = M::start(&self.root, &self.settings).map(|_| "read").map_err(|e| e.to_string());
        vec![Hook::new(self.metrics(), M::FILE, started)]
    }

    fn configuration(&self) -> String {
        format!("{:?} {:?}", self.root, self.settings)
    }

    fn works_everywhere(&self) -> bool {
        true
    }

    fn cadence(&self) -> Cadence {
        if M::MAY_HANG { Cadence::OwnThread(self.settings.interval()) } else { Cadence::Drain }
    }

    fn start(&self) -> Result<Box<dyn ActiveCollector>, CollectorError> {
        let metric = M::start(&self.root, &self.settings)
            .map_err(CollectorError::because(M::NAME, "reading what the kernel counts"))?;
        Ok(Box::new(AtWork { metric, interval: Interval::new(self.settings.interval()), unread: 0 }))
    }
}

struct AtWork<M> {
    metric: M,
    interval: Interval,
    /// How much of the time before this interval could not be read, ns: the next row sums it up too.
    unread: u64,
}

impl<M: Metric> ActiveCollector for AtWork<M> {
    fn poll(&mut self, context: &mut PollContext<'_>) -> Result<(), CollectorError> {
        let Some((timestamp, length)) = self.interval.over(context) else { return Ok(()) };
        self.unread += length;
        self.metric
            .read(Period { timestamp, interval: self.unread }, &mut context.emitter)
            .map_err(CollectorError::because(M::NAME, "reading what the kernel counts"))?;
        self.unread = 0;
        Ok(())
    }

    fn losses(&self) -> Vec<Loss> {
        self.metric.losses()
    }
}
