//! The thread that polls the collectors.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use kumon_collect::{Collector, CollectorState, Scheduler};

use super::exchange::{MAX_WAITING, Outbox, Report};

/// How long an event may stay in the kernel: events wake nobody, they are fetched.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// How often the collectors report of themselves, and those that failed are tried again.
const REPORT_INTERVAL: Duration = Duration::from_secs(2);
/// How long one piece of writing may take until it is said to hang.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the thread is told. It ends when nobody can tell it anything any more.
pub(super) enum Command {
    /// Go over to these collectors, and answer with their states.
    Replace(Vec<Box<dyn Collector>>, Sender<io::Result<Vec<CollectorState>>>),
}

pub(super) struct Polling {
    scheduler: Scheduler,
    outbox: Outbox,
    /// Whether it was logged that writing hangs.
    hangs: bool,
}

impl Polling {
    pub(super) fn new(scheduler: Scheduler, outbox: Outbox) -> Polling {
        Polling { scheduler, outbox, hangs: false }
    }

    /// Polls until nobody can send commands any more, then for the last time.
    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        let mut next_report = Instant::now();
        loop {
            let own_processes = match commands.recv_timeout(POLL_INTERVAL) {
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => self.look_at_writing(),
                Ok(Command::Replace(collectors, answer)) => {
                    let states = self.replace(collectors);
                    // Who asked may have ended.
                    let _ = answer.send(states);
                    continue;
                }
            };
            self.scheduler.poll(&own_processes, &mut self.outbox);
            let now = Instant::now();
            if now >= next_report {
                next_report = now + REPORT_INTERVAL;
                self.scheduler.retry_failed(now);
                self.report();
            }
        }
        let own_processes = self.look_at_writing();
        self.scheduler.finish(&own_processes, &mut self.outbox);
        self.report();
    }

    fn replace(&mut self, collectors: Vec<Box<dyn Collector>>) -> io::Result<Vec<CollectorState>> {
        let (own_processes, begin) = (self.look_at_writing(), Instant::now());
        let unseen = self.scheduler.replace(collectors, &own_processes, &mut self.outbox)?;
        if !unseen.is_empty() {
            let seconds = begin.elapsed().as_secs_f64();
            log::info!("collecting {} stood still for {seconds:.1} s, for new settings", unseen.join(", "));
        }
        self.outbox.exchange.lock().unseen.extend(unseen);
        self.report();
        Ok(self.scheduler.states())
    }

    /// KuMon's own processes, as the writing thread knows them; says in the log when that one hangs, and when it is over.
    fn look_at_writing(&mut self) -> Vec<u32> {
        let exchanged = self.outbox.exchange.lock();
        let hangs = exchanged.writing_since.is_some_and(|since| since.elapsed() > PATIENCE);
        if hangs && !self.hangs {
            log::error!(
                "writing to the spool or to the state folder hangs; rows wait in memory, up to {} MiB of them",
                MAX_WAITING >> 20
            );
        } else if self.hangs && !hangs {
            log::info!("writing to the spool and to the state folder goes on");
        }
        self.hangs = hangs;
        exchanged.own_processes.clone()
    }

    fn report(&self) {
        let Polling { scheduler, .. } = self;
        let report = Report {
            losses: scheduler.losses(),
            rate_limited: scheduler.rate_limited(),
            programs: scheduler.programs(),
            states: scheduler.states(),
        };
        self.outbox.exchange.lock().report = report;
    }
}
