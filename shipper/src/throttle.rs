//! A log that a fault which repeats doesn't fill.

use std::collections::HashMap;
use std::fmt::Arguments;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use log::Level;

/// A message of the same cause is written at most so often.
const INTERVAL: Duration = Duration::from_secs(60);

/// So many causes are told apart within a minute; what comes on top is one more.
const MAX_CAUSES: usize = 1000;

/// Writes a message as [`log::log!`] does, but of the same cause at most one a minute; how many it stands for is said
/// with the next one, or when the minute is over. The cause is what the messages have in common, as a text: not the file,
/// of which there may be 100,000, but what failed and why.
///
/// ```ignore
/// throttled!(Error, format!("reading: {e}"), "{}: can't be read: {e}", path.display());
/// ```
macro_rules! throttled {
    ($level:ident, $cause:expr, $($message:tt)+) => {
        $crate::throttle::write(log::Level::$level, module_path!(), $cause, format_args!($($message)+))
    };
}
pub(crate) use throttled;

static CAUSES: LazyLock<Mutex<Causes>> = LazyLock::new(Mutex::default);

/// What [`throttled!`] does.
pub(crate) fn write(level: Level, target: &'static str, cause: impl Into<String>, message: Arguments<'_>) {
    let (mut causes, now) = (causes(), Instant::now());
    causes.due(now).iter().for_each(Line::write);
    let line = Line { level, target, message: message.to_string() };
    if let Some(line) = causes.take(cause.into(), line, now) {
        line.write();
    }
}

/// Tells how many messages were left out whose minute is over; to be called now and then, for no further one may come.
pub(crate) fn tell_left_out() {
    causes().due(Instant::now()).iter().for_each(Line::write);
}

fn causes() -> MutexGuard<'static, Causes> {
    CAUSES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The causes of the last minute.
#[derive(Debug, Default)]
struct Causes(HashMap<String, Cause>);

#[derive(Debug)]
struct Cause {
    written: Instant,
    /// How many messages came since, and the last of them.
    left_out: u64,
    last: Line,
}

/// One line of the log.
#[derive(Debug, Clone, PartialEq)]
struct Line {
    level: Level,
    target: &'static str,
    message: String,
}

impl Line {
    fn write(&self) {
        log::log!(target: self.target, self.level, "{}", self.message);
    }
}

impl Causes {
    /// Takes what came up; answers it where it is to be written now.
    fn take(&mut self, cause: String, line: Line, now: Instant) -> Option<Line> {
        let cause =
            if self.0.len() < MAX_CAUSES || self.0.contains_key(&cause) { cause } else { String::new() };
        if let Some(known) = self.0.get_mut(&cause) {
            known.left_out += 1;
            known.last = line;
            return None;
        }
        self.0.insert(cause, Cause { written: now, left_out: 0, last: line.clone() });
        Some(line)
    }

    /// For causes whose minute is over: the last message that was left out, and how many others. Where there was none,
    /// the cause is forgotten.
    fn due(&mut self, now: Instant) -> Vec<Line> {
        let mut lines = Vec::new();
        self.0.retain(|_, cause| {
            let past = now.duration_since(cause.written);
            if past < INTERVAL || cause.left_out == 0 {
                return past < INTERVAL;
            }
            let mut line = cause.last.clone();
            if cause.left_out > 1 {
                let (others, seconds) = (cause.left_out - 1, past.as_secs());
                line.message = format!("{} (and {others} more like it in {seconds} s)", line.message);
            }
            lines.push(line);
            (cause.written, cause.left_out) = (now, 0);
            true
        });
        lines
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use log::Level;

    use super::{Causes, Line, MAX_CAUSES};

    fn line(message: &str) -> Line {
        Line { level: Level::Error, target: "test", message: message.to_owned() }
    }

    fn texts(lines: Vec<Line>) -> Vec<String> {
        lines.into_iter().map(|line| line.message).collect()
    }

    #[test]
    fn of_one_cause_a_line_a_minute_is_written_and_tells_of_the_others() {
        let (mut causes, start) = (Causes::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut written = Vec::new();
        // A hundred files, each second for 150 s.
        for second in 0..150 {
            for file in 0..100 {
                written.extend(texts(causes.due(at(second))));
                let taken = causes.take("denied".into(), line(&format!("{file} denied")), at(second));
                written.extend(taken.map(|line| line.message));
            }
        }
        written.extend(texts(causes.due(at(1000))));
        assert_eq!(
            written,
            [
                "0 denied",
                "99 denied (and 5998 more like it in 60 s)",
                "99 denied (and 5999 more like it in 60 s)",
                "99 denied (and 2999 more like it in 880 s)",
            ]
        );
        assert_eq!(texts(causes.due(at(2000))), [""; 0]);
        assert!(causes.0.is_empty());
    }

    #[test]
    fn other_causes_are_written_at_once_up_to_a_limit() {
        let (mut causes, now) = (Causes::default(), Instant::now());
        let taken = (0..10_000).filter(|n| causes.take(n.to_string(), line("x"), now).is_some()).count();
        assert_eq!((taken, causes.0.len()), (MAX_CAUSES + 1, MAX_CAUSES + 1));
        // One that comes back after its minute is news again.
        let later = now + Duration::from_secs(61);
        assert_eq!(causes.due(later).len(), 1, "what was above the limit");
        assert!(causes.take("5".into(), line("x"), later).is_some());
    }
}
