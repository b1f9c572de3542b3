//! What KuMon logs in a test.

use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use log::{LevelFilter, Metadata, Record};

/// The lines of this process.
struct Log(Mutex<Vec<String>>);

static LOG: Log = Log(Mutex::new(Vec::new()));
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Log {
    fn lines(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl log::Log for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let line = record.args().to_string();
        eprintln!("{:.3} s {} {line}", START.elapsed().as_secs_f64(), record.level());
        self.lines().push(line);
    }

    fn flush(&self) {}
}

/// Keeps from now on what this process logs, and shows it where a test fails. Repeated calls change nothing.
pub fn keep_log() {
    LazyLock::force(&START);
    if log::set_logger(&LOG).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}

/// How many of the kept lines hold all these parts.
pub fn logged(parts: &[&str]) -> usize {
    LOG.lines().iter().filter(|line| parts.iter().all(|part| line.contains(part))).count()
}
