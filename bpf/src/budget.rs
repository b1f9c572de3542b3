//! Who made the rows that found no room in their metrics' budgets (include/budget.h), for the log and the status.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::time::{Duration, Instant};

use kumon_collect::{Emitter, Loss, MaxRows, RateLimited};
use kumon_schema::printable;
use libbpf_rs::{MapCore, MapFlags, MapHandle, Object, Result};
use rustix::time::{ClockId, clock_gettime};

use crate::events;
use crate::losses::RATE_LIMIT;
use crate::types::{share, share_key};

/// Room for those who are there while a budget is short, about 100 bytes of kernel memory each.
pub(crate) const SHARES: u32 = 4_096;

/// How often is read who they were, and those who have not been there any more make room.
const READ_INTERVAL: Duration = Duration::from_secs(2);
/// How often it is logged that a metric is over its budget.
const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// How many of those who made most are named.
const NAMED: usize = 3;
/// How many are remembered; those who come later are the others.
const REMEMBERED: usize = 1_000;
const OTHERS: &str = "others";

/// Who made a row: a process in a cgroup, 0 where it isn't known.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Maker {
    pub(crate) cgroup: u64,
    pub(crate) process: u32,
    pub(crate) name: Vec<u8>,
}

/// The budgets of an object's metrics.
pub(crate) struct Budgets {
    /// In the order of its `enum metric`.
    metrics: Vec<LeftOut>,
    /// None without budgets.
    shares: Option<MapHandle>,
    /// What was read of each element that is in the map.
    known: HashMap<Vec<u8>, u64>,
    read: Instant,
}

/// What one metric left out.
struct LeftOut {
    metric: &'static str,
    limit: MaxRows,
    /// Rows by who made them, since the start.
    makers: HashMap<String, u64>,
    /// Some of it is not logged yet.
    is_news: bool,
    logged: Option<Logged>,
}

/// What was known when it was logged last.
struct Logged {
    at: Instant,
    rows: u64,
    makers: HashMap<String, u64>,
}

impl Budgets {
    pub(crate) fn new(object: &Object, metrics: &[&'static str], limits: &[MaxRows]) -> Budgets {
        let left_out = |(metric, limit): (&&'static str, &MaxRows)| LeftOut {
            metric,
            limit: *limit,
            makers: HashMap::new(),
            is_news: false,
            logged: None,
        };
        let has_budget = limits.iter().any(|limit| *limit != MaxRows::UNLIMITED);
        let mut maps = object.maps().filter(|map| has_budget && map.name() == OsStr::new("shares"));
        Budgets {
            metrics: metrics.iter().zip(limits).map(left_out).collect(),
            shares: maps.next().and_then(|map| MapHandle::try_from(&map).ok()),
            known: HashMap::new(),
            read: Instant::now(),
        }
    }

    /// Whether it is time to read; always at the last poll.
    pub(crate) fn is_due(&mut self, now: Instant, last: bool) -> bool {
        let due = last || now.saturating_duration_since(self.read) >= READ_INTERVAL;
        if due {
            self.read = now;
        }
        due
    }

    /// Reads who made the rows that the kernel left out, and forgets those there who are over it.
    pub(crate) fn read(&mut self, emitter: &Emitter<'_>) -> Result<()> {
        let Some(shares) = &self.shares else { return Ok(()) };
        let time = clock_gettime(ClockId::Monotonic);
        let whole_since = (time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
            .saturating_sub(READ_INTERVAL.as_nanos() as u64);
        let (mut read, mut over) = (Vec::new(), Vec::new());
        // All at once: behind a batch that the kernel doesn't fill libbpf-rs asks for no more.
        for (bytes, value) in shares.lookup_batch(SHARES, MapFlags::ANY, MapFlags::ANY)? {
            // SAFETY: both are integers and arrays of them.
            let (key, share) = unsafe { (events::read::<share_key>(&bytes), events::read::<share>(&value)) };
            let (Some(key), Some(share)) = (key, share) else { continue };
            let before = self.known.insert(bytes.clone(), share.left_out).unwrap_or(0);
            let rows = share.left_out.saturating_sub(before);
            if rows > 0 {
                let name = events::name(&share.name).to_vec();
                read.push((key.metric, Maker { cgroup: key.cgroup, process: key.process, name }, rows));
            } else if share.budget.begin + share.budget.spent < whole_since {
                over.push(bytes);
            }
        }
        for key in over {
            shares.delete(&key)?;
            self.known.remove(&key);
        }
        for (metric, maker, rows) in read {
            if let Some(left_out) = self.metrics.get_mut(metric as usize) {
                left_out.add(&maker, rows, emitter);
            }
        }
        Ok(())
    }

    /// Takes note of rows that user space left out.
    pub(crate) fn add(&mut self, metric: &str, maker: &Maker, rows: u64, emitter: &Emitter<'_>) {
        if let Some(left_out) = self.metrics.iter_mut().find(|left_out| left_out.metric == metric) {
            left_out.add(maker, rows, emitter);
        }
    }

    /// Whether there is something to log.
    pub(crate) fn has_news(&self) -> bool {
        self.metrics.iter().any(|left_out| left_out.is_news)
    }

    /// Logs what was left out since it was logged last: at once when it is new, then once a minute.
    pub(crate) fn log(&mut self, losses: &[Loss], now: Instant, last: bool) {
        for left_out in &mut self.metrics {
            let of_metric =
                losses.iter().filter(|loss| loss.metric == left_out.metric && loss.reason == RATE_LIMIT);
            if let Some(message) = left_out.message(of_metric.map(|loss| loss.count).sum(), now, last) {
                log::warn!("{message}");
            }
        }
    }

    /// Who made most of what was left out since the start.
    pub(crate) fn rate_limited(&self) -> Vec<RateLimited> {
        let of_metric = |left_out: &LeftOut| {
            let metric = left_out.metric;
            let most = most(left_out.makers.iter().map(|(by, rows)| (by.clone(), *rows)).collect());
            most.into_iter().map(move |(by, rows)| RateLimited { metric, by, rows })
        };
        self.metrics.iter().flat_map(of_metric).collect()
    }
}

impl LeftOut {
    fn add(&mut self, maker: &Maker, rows: u64, emitter: &Emitter<'_>) {
        let names = emitter.names(maker.cgroup);
        let mut by = maker.text(Some(names.container_id()).filter(|id| !id.is_empty()));
        if self.makers.len() >= REMEMBERED && !self.makers.contains_key(&by) {
            OTHERS.clone_into(&mut by);
        }
        *self.makers.entry(by).or_default() += rows;
        self.is_news = true;
    }

    /// What is to be logged of a total of `rows`.
    fn message(&mut self, rows: u64, now: Instant, last: bool) -> Option<String> {
        let due = |logged: &Logged| last || now.saturating_duration_since(logged.at) >= LOG_INTERVAL;
        let before = self.logged.as_ref().map_or(0, |logged| logged.rows);
        if rows <= before || !self.logged.as_ref().is_none_or(due) {
            return None;
        }
        let new = |(by, rows): (&String, &u64)| {
            let before = self.logged.as_ref().and_then(|logged| logged.makers.get(by)).unwrap_or(&0);
            (by.clone(), rows - before)
        };
        let made = most(self.makers.iter().map(new).filter(|(_, rows)| *rows > 0).collect());
        let others = (rows - before).saturating_sub(made.iter().map(|(_, rows)| rows).sum());
        let others = (others > 0).then(|| (OTHERS.to_owned(), others));
        let made: Vec<String> = made
            .into_iter()
            .chain(others)
            .map(|(by, rows)| format!("{rows} of {}", printable(&by)))
            .collect();
        self.is_news = false;
        self.logged = Some(Logged { at: now, rows, makers: self.makers.clone() });
        Some(format!(
            "{}: {} rows left out by max_rows_per_second ({}): {}",
            self.metric,
            rows - before,
            self.limit.get(),
            made.join(", ")
        ))
    }
}

/// Those with the most rows, the others left out.
fn most(mut makers: Vec<(String, u64)>) -> Vec<(String, u64)> {
    makers.retain(|(by, _)| by != OTHERS);
    makers.sort_unstable_by(|one, other| (Reverse(one.1), &one.0).cmp(&(Reverse(other.1), &other.0)));
    makers.truncate(NAMED);
    makers
}

impl Maker {
    /// As people know it.
    fn text(&self, container: Option<&str>) -> String {
        /// As `docker ps` and `crictl ps` show an id.
        const DIGITS: usize = 12;
        let name = String::from_utf8_lossy(&self.name);
        match (container.map(|id| id.get(..DIGITS).unwrap_or(id)), self.process) {
            (Some(id), 0) => format!("container {id}"),
            (Some(id), _) => format!("container {id} ({name})"),
            (None, 0) if self.cgroup == 0 => "processes that are not known".to_owned(),
            (None, 0) => format!("cgroup {}", self.cgroup),
            (None, process) => format!("process {process} ({name})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::{Duration, Instant};

    use kumon_collect::MaxRows;

    use super::{LeftOut, Maker};

    fn made(rows: &[(&str, u64)]) -> HashMap<String, u64> {
        rows.iter().map(|(by, rows)| ((*by).to_owned(), *rows)).collect()
    }

    #[test]
    fn it_is_logged_at_once_and_then_once_a_minute_what_came_since() {
        let limit = MaxRows::default();
        let mut left_out =
            LeftOut { metric: "exec", limit, makers: HashMap::new(), is_news: false, logged: None };
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(left_out.message(0, start, false), None);
        left_out.makers = made(&[("a", 5), ("b", 7), ("c", 1), ("d", 2)]);
        assert_eq!(
            left_out.message(20, at(1), false).unwrap(),
            "exec: 20 rows left out by max_rows_per_second (1000): 7 of b, 5 of a, 2 of d, 6 of others"
        );
        left_out.makers = made(&[("a", 105), ("b", 7), ("c", 1), ("d", 2)]);
        assert_eq!(left_out.message(120, at(60), false), None);
        assert_eq!(
            left_out.message(120, at(61), false).unwrap(),
            "exec: 100 rows left out by max_rows_per_second (1000): 100 of a"
        );
        assert_eq!(left_out.message(120, at(200), false), None, "nothing came since");
        assert!(left_out.message(121, at(201), true).is_some_and(|text| text.ends_with(": 1 of others")));
    }

    #[test]
    fn who_made_the_rows_is_named_as_people_know_it() {
        let id = "0123456789abcdef".repeat(4);
        for (container, cgroup, process, expected) in [
            (Some(id.as_str()), 5, 7, "container 0123456789ab (nginx)"),
            (Some(id.as_str()), 5, 0, "container 0123456789ab"),
            (None, 5, 7, "process 7 (nginx)"),
            (None, 5, 0, "cgroup 5"),
            (None, 0, 0, "processes that are not known"),
        ] {
            assert_eq!(Maker { cgroup, process, name: b"nginx".to_vec() }.text(container), expected);
        }
    }
}
