//! What `kumon run` shows: a few lines that renew themselves on a terminal, and a closing account.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::time::Instant;

use bytesize::ByteSize;
use kumon_shipper::{Delivered, Stats};

use super::cost::Cost;
use super::status::{CollectStatus, ShipStatus};

/// KuMon's rows on itself are written by both sides, so that one side's count of them balances with nothing.
const OWN: &str = "agent";

/// The lines on the terminal.
pub(super) struct Summary {
    /// The web page's address.
    page: Option<String>,
    lines: usize,
    started: Instant,
    last_cpu: u64,
    last_shown: Instant,
}

impl Summary {
    pub(super) fn new(page: Option<String>) -> Summary {
        let now = Instant::now();
        Summary { page, lines: 0, started: now, last_cpu: 0, last_shown: now }
    }

    /// Draws over what was shown last.
    pub(super) fn show(&mut self, collected: &CollectStatus, shipped: &ShipStatus) {
        let elapsed = self.last_shown.elapsed().as_nanos().max(1) as f64;
        let cost = Cost::now();
        let cpu = cost.cpu.saturating_sub(self.last_cpu) as f64 / elapsed * 100.0;
        (self.last_cpu, self.last_shown) = (cost.cpu, Instant::now());

        let mut text = format!(
            "KuMon, {} s; {cpu:.1} % of one core, {} of memory; to the {}\n",
            self.started.elapsed().as_secs(),
            ByteSize(cost.memory),
            shipped.each().map(|(_, output)| output.output.as_str()).collect::<Vec<_>>().join(" and the ")
        );
        text += &format!("{:<20}{:>14}{:>14}{:>10}\n", "metric", "rows", "delivered", "lost");
        for metric in collected.rows.keys().filter(|metric| *metric != OWN) {
            let delivered = delivered(shipped, &format!("kumon.{metric}"));
            text += &format!(
                "{metric:<20}{:>14}{delivered:>14}{:>10}\n",
                collected.rows[metric],
                lost(collected, metric)
            );
        }
        for (collector, fault) in &collected.failed {
            text += &format!("{collector} {fault}\n");
        }
        for (name, output) in shipped.each() {
            let name = name.map(|name| format!("{name} ")).unwrap_or_default();
            if let Some(fault) = &output.failed {
                text += &format!("{name}failed: {}\n", fault.reason);
            }
            if let Some(reason) = &output.halted {
                text += &format!("{name}halted: {reason}\n");
            }
        }
        if let Some(error) = &collected.spool_error {
            text += &format!("the spool: {error}\n");
        }
        if let Some(page) = &self.page {
            text += &format!("Dashboards: {page}\n");
        }
        text += "Ask in another terminal, as the same user: kumon query exec; end with Ctrl-C.\n";

        let up = if self.lines > 0 { format!("\x1b[{}A", self.lines) } else { String::new() };
        self.lines = text.matches('\n').count();
        let text = text.replace('\n', "\x1b[K\n");
        let mut out = std::io::stdout().lock();
        // A terminal that went away is no reason to stop collecting.
        let _ = write!(out, "{up}{text}\x1b[J").and_then(|()| out.flush());
    }
}

/// The rows of a dataset that all outputs have.
fn delivered(shipped: &ShipStatus, dataset: &str) -> u64 {
    let rows = shipped.each().map(|(_, output)| output.rows.get(dataset).copied().unwrap_or(0));
    rows.min().unwrap_or(0)
}

/// One account line per metric, when the agent ends; of what was shipped by output.
pub(super) fn log_final_counts(collected: &CollectStatus, shipped: &[(String, Stats)]) {
    let metrics: BTreeSet<&String> = collected.rows.keys().chain(collected.lost.keys()).collect();
    for metric in metrics.into_iter().filter(|metric| *metric != OWN) {
        let shipped: String = shipped
            .iter()
            .map(|(output, stats)| {
                let delivered = stats.datasets.get(&format!("kumon.{metric}")).copied().unwrap_or_default();
                let Delivered { created, dead_letters } = delivered;
                format!("{created} delivered to the {output}, {dead_letters} dead letters, ")
            })
            .collect();
        let none = BTreeMap::new();
        let losses = collected.lost.get(metric).unwrap_or(&none);
        let losses: Vec<String> =
            losses.iter().map(|(reason, count)| format!("{count} ({reason})")).collect();
        let losses = if losses.is_empty() { "0".to_owned() } else { losses.join(", ") };
        log::info!(
            "{metric}: {} rows written, {shipped}lost: {losses}",
            collected.rows.get(metric).copied().unwrap_or(0)
        );
    }
}

fn lost(collected: &CollectStatus, metric: &str) -> u64 {
    collected.lost.get(metric).map_or(0, |reasons| reasons.values().sum())
}
