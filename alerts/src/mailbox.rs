//! News on their way to one endpoint: kept until delivered, retried with growing pauses, limited in rate.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::channels::{Endpoint, SendError};
use crate::notification::{Message, Notification};
use crate::state::Time;

/// News that wait; beyond that the oldest are left out, and counted in the message.
const MAX_WAITING: usize = 100;
const FIRST_PAUSE: Time = 10_000;
const MAX_PAUSE: Time = 15 * 60_000;
const HOUR: Time = 3_600_000;

/// Survives restarts as a part of [`crate::Book`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mailbox {
    pub waiting: Vec<Notification>,
    /// News that found no room.
    pub omitted: u64,
    /// Attempts that failed since the last success.
    pub attempts: u32,
    /// Not before then.
    pub next: Time,
    /// Why the last attempt failed.
    pub error: Option<String>,
    /// When messages of the last hour were delivered.
    pub delivered: Vec<Time>,
}

impl Mailbox {
    /// Takes news in.
    pub(crate) fn push(&mut self, news: Notification) {
        self.waiting.push(news);
        let surplus = self.waiting.len().saturating_sub(MAX_WAITING);
        self.waiting.drain(..surplus);
        self.omitted += surplus as u64;
    }

    /// When the next attempt is due; `None` where nothing waits.
    pub(crate) fn due(&self, endpoint: &Endpoint) -> Option<Time> {
        if self.waiting.is_empty() {
            return None;
        }
        let limit = endpoint.max_per_hour as usize;
        // The message that has to be an hour old before another may go.
        let oldest = self.delivered.len().checked_sub(limit).and_then(|index| self.delivered.get(index));
        Some(oldest.map_or(self.next, |oldest| self.next.max(oldest + HOUR)))
    }

    /// Sends all that waits in one message.
    pub(crate) fn deliver(&mut self, endpoint: &Endpoint, now: Time) -> Result<(), SendError> {
        let message = Message { notifications: &self.waiting, omitted: self.omitted };
        match endpoint.sender.send(&message) {
            Ok(()) => {
                let mut delivered = std::mem::take(&mut self.delivered);
                // A clock that was set back must not keep messages for longer than an hour.
                delivered.retain(|at| (now - HOUR..=now).contains(at));
                delivered.push(now);
                *self = Mailbox { delivered, ..Mailbox::default() };
                Ok(())
            }
            Err(error) => {
                let pause = if error.needs_person { MAX_PAUSE } else { self.pause() };
                let asked = error.retry_after.map_or(0, |after: Duration| after.as_millis() as Time);
                self.attempts = self.attempts.saturating_add(1);
                self.next = now + pause.max(asked);
                self.error = Some(error.message.clone());
                Err(error)
            }
        }
    }

    fn pause(&self) -> Time {
        FIRST_PAUSE.saturating_mul(1 << self.attempts.min(10)).min(MAX_PAUSE)
    }

    /// After the clock was set back, or when the configuration may have been mended.
    pub(crate) fn try_at_once(&mut self) {
        self.next = 0;
        self.delivered.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::{HOUR, MAX_PAUSE, Mailbox};
    use crate::alert::Severity;
    use crate::channels::{Channel, Endpoint, SendError};
    use crate::notification::{Message, Notification};

    /// Stands for a channel that fails on demand, in ways that no real server can be made to within a test's time.
    #[derive(Default, Clone)]
    struct Flaky(Arc<Mutex<Taken>>);

    #[derive(Default)]
    struct Taken {
        /// News in each message that was taken.
        messages: Vec<usize>,
        /// What the next attempts answer, the last first.
        failures: Vec<SendError>,
    }

    impl Channel for Flaky {
        fn send(&self, message: &Message) -> Result<(), SendError> {
            let mut state = self.0.lock().unwrap();
            match state.failures.pop() {
                Some(error) => Err(error),
                None => {
                    state.messages.push(message.notifications.len());
                    Ok(())
                }
            }
        }
    }

    fn endpoint(flaky: &Flaky, max_per_hour: u32) -> Endpoint {
        let sender = Box::new(flaky.clone());
        Endpoint { name: "a".into(), channel: "a".into(), max_per_hour, sender }
    }

    fn news() -> Notification {
        Notification {
            alert: "a".into(),
            title: "a".into(),
            severity: Severity::Info,
            condition: String::new(),
            description: String::new(),
            node: String::new(),
            time: 0,
            test: false,
            firing: Vec::new(),
            recovered: Vec::new(),
        }
    }

    fn failure(needs_person: bool) -> SendError {
        SendError { message: "no".into(), needs_person, retry_after: None }
    }

    #[test]
    fn failures_are_retried_with_growing_pauses_and_what_came_meanwhile_goes_along() {
        let (flaky, mut mailbox) = (Flaky::default(), Mailbox::default());
        let endpoint = endpoint(&flaky, 30);
        flaky.0.lock().unwrap().failures = vec![failure(true), failure(false), failure(false)];
        mailbox.push(news());
        let mut now = 1_000_000;
        let mut pauses = Vec::new();
        while mailbox.deliver(&endpoint, now).is_err() {
            let due = mailbox.due(&endpoint).unwrap();
            pauses.push(due - now);
            now = due;
            mailbox.push(news());
        }
        assert_eq!(pauses, [10_000, 20_000, MAX_PAUSE]);
        assert_eq!(flaky.0.lock().unwrap().messages, [4], "one message with all of it");
        assert_eq!(mailbox.due(&endpoint), None);
    }

    #[test]
    fn beyond_the_rate_limit_news_wait_and_go_as_one() {
        let (flaky, mut mailbox) = (Flaky::default(), Mailbox::default());
        let endpoint = endpoint(&flaky, 2);
        for now in [0, 1000] {
            mailbox.push(news());
            assert!(mailbox.due(&endpoint).unwrap() <= now);
            mailbox.deliver(&endpoint, now).unwrap();
        }
        mailbox.push(news());
        mailbox.push(news());
        assert_eq!(mailbox.due(&endpoint), Some(HOUR), "an hour after the first");
        mailbox.deliver(&endpoint, HOUR).unwrap();
        assert_eq!(flaky.0.lock().unwrap().messages, [1, 1, 2]);
    }

    #[test]
    fn a_flood_leaves_out_the_oldest_and_counts_them() {
        let mut mailbox = Mailbox::default();
        (0..150).for_each(|_| mailbox.push(news()));
        assert_eq!((mailbox.waiting.len(), mailbox.omitted), (100, 50));
    }
}
