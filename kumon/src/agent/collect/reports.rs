//! What is told of the collectors: in the status, and to whoever asks over the control socket.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use chrono::{SecondsFormat, Utc};
use kumon_collect::settings::Section;
use kumon_collect::{CollectorState, Health, LeftOut, ProgramCost};
use kumon_schema::{Row, Schema, rows};

use crate::agent::status::{CollectStatus, CollectorFault};
use crate::config::Collectors;
use crate::control::{CollectorsReport, DecidedBy, MetricReport, MetricState};

/// The collectors that fail, and at what.
pub(super) fn faults(states: &[CollectorState], now: Instant) -> BTreeMap<String, CollectorFault> {
    let fault = |of: &CollectorState| {
        let reason = of.health.fault()?.to_owned();
        let fault = CollectorFault { state: state(&of.health), reason, next_try: next_try(&of.health, now) };
        // Who reads it knows metrics by their names.
        Some((format!("{} ({})", of.name, of.metrics.join(", ")), fault))
    };
    states.iter().filter_map(fault).collect()
}

/// The metrics that are off on this kernel because nobody asks for them by name, and why.
pub(super) fn metrics_off(left_out: Vec<LeftOut>) -> BTreeMap<String, String> {
    left_out.into_iter().map(|of| (of.metric.to_owned(), of.reason)).collect()
}

pub(super) fn log_off(off: &BTreeMap<String, String>) {
    off.iter().for_each(|(metric, reason)| log::info!("{metric} is off: {reason}"));
}

/// How each metric is collected.
pub(super) fn collectors(
    status: &CollectStatus,
    states: &[CollectorState],
    programs: &[ProgramCost],
    note: Option<String>,
) -> CollectorsReport {
    let (all, now) = (all_collectors(), Instant::now());
    let metric = |schema: &Schema| {
        // A histogram comes with what it is of.
        let metric = schema.histogram_of.as_deref().unwrap_or(&schema.name);
        let of_metric = states.iter().find(|of| of.metrics.contains(&schema.name.as_str()));
        let collector = match of_metric {
            Some(of) => of.name,
            None => all.iter().find(|(_, metrics)| metrics.contains(&metric))?.0,
        };
        let health = of_metric.map(|of| &of.health);
        let cpu_time = states.iter().find(|of| of.name == collector).map_or(0, |of| of.cpu_time);
        let serving = || programs.iter().filter(|program| program.metrics.contains(&metric));
        let backends: BTreeSet<&str> = serving().filter_map(|program| program.backend).collect();
        let off = status.off.get(metric);
        Some(MetricReport {
            metric: schema.name.clone(),
            collector: collector.to_owned(),
            state: match (health, off) {
                (Some(health), _) => state(health),
                (None, Some(_)) => MetricState::Off,
                (None, None) => MetricState::Disabled,
            },
            decided_by: status.switched.get(metric).map_or(DecidedBy::Configuration, |of| of.decided_by()),
            reason: match health {
                Some(health) => health.fault().map(str::to_owned),
                None => off.cloned(),
            },
            next_try: health.and_then(|health| next_try(health, now)),
            backends: if health.is_some() {
                backends.into_iter().map(str::to_owned).collect()
            } else {
                Vec::new()
            },
            rows: status.rows.get(&schema.name).copied().unwrap_or(0),
            lost: status.lost.get(&schema.name).cloned().unwrap_or_default(),
            collector_cpu_time: cpu_time,
            runs: serving().map(|program| program.runs).sum(),
            run_time: serving().map(|program| program.run_time).sum(),
        })
    };
    CollectorsReport {
        pid: status.pid,
        memory: status.memory,
        cpu_time: status.cpu_time,
        metrics: kumon_schema::all()
            .iter()
            // Rows by 10 minutes come with those that they sum up.
            .filter(|schema| schema.name != rows::Agent::METRIC && schema.coarse_of.is_none())
            .filter_map(metric)
            .collect(),
        notes: note.into_iter().collect(),
    }
}

/// The metrics that can be switched of the collector of that name.
pub(super) fn members(collector: &str) -> Vec<&'static str> {
    let all = all_collectors();
    let mut metrics = all.into_iter().find(|(name, _)| *name == collector).map_or(Vec::new(), |(_, of)| of);
    metrics.retain(|metric| Collectors::metrics().contains(metric));
    metrics
}

/// Each collector with all metrics that it can have.
fn all_collectors() -> Vec<(&'static str, Vec<&'static str>)> {
    let mut settings = Collectors::default();
    for metric in Collectors::metrics() {
        settings.switch(metric, true);
    }
    settings.collectors().iter().map(|collector| (collector.name(), collector.metrics())).collect()
}

fn state(health: &Health) -> MetricState {
    match health {
        Health::Starting => MetricState::Starting,
        Health::Running => MetricState::Running,
        Health::Failing(_) => MetricState::Failing,
        Health::Hanging(_) => MetricState::Hanging,
        Health::Failed { .. } => MetricState::Failed,
    }
}

/// RFC 3339.
fn next_try(health: &Health, now: Instant) -> Option<String> {
    let at = Utc::now() + health.next_try()?.saturating_duration_since(now);
    Some(at.to_rfc3339_opts(SecondsFormat::Secs, true))
}
