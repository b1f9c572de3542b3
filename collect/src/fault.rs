//! What polling a collector fails at, in the log: once when it is new, then once a minute, and its end.

use std::time::{Duration, Instant};

use crate::{CollectorError, Health};

/// How often a fault that lasts is logged.
const REMINDER: Duration = Duration::from_secs(60);

/// The fault of a collector at work, while it has one.
#[derive(Debug, Default)]
pub(crate) struct Fault(Option<Lasting>);

#[derive(Debug)]
struct Lasting {
    message: String,
    logged: Instant,
    /// How often it came since it was logged.
    unlogged: u64,
}

impl Fault {
    /// Logs what a poll came to.
    pub(crate) fn note(&mut self, name: &str, result: Result<(), CollectorError>, now: Instant) {
        let Err(e) = result else {
            if self.0.take().is_some() {
                log::info!("the collector {name} works again");
            }
            return;
        };
        let message = e.to_string();
        let unlogged = match &mut self.0 {
            Some(known) if known.message == message && now < known.logged + REMINDER => {
                known.unlogged += 1;
                return;
            }
            Some(known) => known.unlogged,
            None => 0,
        };
        let others = if unlogged > 0 { format!(" (and {unlogged} more times)") } else { String::new() };
        log::error!("the collector {name}: {message}{others}");
        self.0 = Some(Lasting { message, logged: now, unlogged: 0 });
    }

    pub(crate) fn health(&self) -> Health {
        match &self.0 {
            Some(lasting) => Health::Failing(lasting.message.clone()),
            None => Health::Running,
        }
    }
}
