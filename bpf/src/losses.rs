//! What an object's programs lost, and what they cost.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd};

use kumon_collect::{Loss, ProgramCost};
use libbpf_rs::{MapCore, MapFlags, Object, Program, libbpf_sys};

/// What a counter of `losses` means, in the order of `enum loss_reason` in include/kumon.h.
const REASONS: [&str; 7] =
    ["ring buffer full", "map full", "sampled out", "no process", "missed switch", RATE_LIMIT, "not decoded"];

/// Reason of what finds no room in the metric's budget.
pub(crate) const RATE_LIMIT: &str = "rate limit";

/// Reason of the runs that the kernel left out because the program was already running on that CPU.
const MISSED_RUN: &str = "missed run";

/// The metrics of an object.
pub(crate) struct Metrics {
    /// In the order of its `enum metric`.
    pub(crate) all: &'static [&'static str],
    /// Those that are emitted.
    pub(crate) enabled: Vec<&'static str>,
    /// Those that a program serves.
    pub(crate) served_by: fn(program: &str) -> &'static [&'static str],
}

/// The counters of include/kumon.h by metric and reason, and the programs' missed runs; of the enabled metrics.
/// Counters that can't be read are left out: no number is better than a wrong zero.
pub(crate) fn losses(object: &Object, metrics: &Metrics) -> Vec<Loss> {
    let mut losses = Vec::new();
    if let Some(counts) = counts(object) {
        let reasons = metrics.all.iter().flat_map(|metric| REASONS.map(|reason| (*metric, reason)));
        losses.extend(reasons.zip(counts).map(|((metric, reason), count)| Loss { metric, reason, count }));
    }
    let missed = |(program, info): (Program<'_>, libbpf_sys::bpf_prog_info)| {
        (program.name().to_string_lossy().into_owned(), info.recursion_misses)
    };
    let missed: Vec<_> = infos(object).map(missed).collect();
    losses.extend(missed_runs(metrics, &missed));
    losses.retain(|loss| metrics.enabled.contains(&loss.metric));
    losses
}

/// A missed run is counted for each metric that the program serves: each may lack an event.
fn missed_runs(metrics: &Metrics, missed: &[(String, u64)]) -> Vec<Loss> {
    let of = |metric| {
        let serving = missed.iter().filter(|(program, _)| (metrics.served_by)(program).contains(&metric));
        Loss { metric, reason: MISSED_RUN, count: serving.map(|(_, count)| count).sum() }
    };
    metrics.all.iter().map(|&metric| of(metric)).collect()
}

/// What each loaded program cost.
pub(crate) fn programs(object: &Object, metrics: &Metrics) -> Vec<ProgramCost> {
    let cost = |(program, info): (Program<'_>, libbpf_sys::bpf_prog_info)| {
        let name = program.name().to_string_lossy().into_owned();
        ProgramCost {
            metrics: (metrics.served_by)(&name),
            backend: backend(&program.section().to_string_lossy()),
            program: name,
            runs: info.run_cnt,
            run_time: info.run_time_ns,
        }
    };
    infos(object).map(cost).collect()
}

/// How the programs of a section are attached; none of those that only look through what there is (`iter`).
fn backend(section: &str) -> Option<&'static str> {
    match section.split('/').next()? {
        "tp_btf" => Some("tp_btf"),
        "tracepoint" => Some("tracepoint"),
        "fentry" | "fexit" => Some("fentry"),
        "kprobe" => Some("kprobe"),
        "uprobe" => Some("uprobe"),
        "tc" => Some("tc"),
        "cgroup" => Some("cgroup"),
        _ => None,
    }
}

/// The totals of the counters of include/kumon.h, by metric and then by reason.
fn counts(object: &Object) -> Option<Vec<u64>> {
    sum_of_cpus(&object.maps().find(|map| map.name() == OsStr::new("losses"))?)
}

/// The totals of the numbers that each CPU has in the first element of an array.
pub(crate) fn sum_of_cpus(map: &impl MapCore) -> Option<Vec<u64>> {
    let of_cpus = map.lookup_percpu(&0_u32.to_ne_bytes(), MapFlags::ANY).ok()??;
    let mut counts = vec![0; map.value_size() as usize / size_of::<u64>()];
    for of_cpu in &of_cpus {
        let (numbers, _) = of_cpu.as_chunks();
        counts.iter_mut().zip(numbers).for_each(|(count, number)| *count += u64::from_ne_bytes(*number));
    }
    Some(counts)
}

/// Each loaded program and what the kernel tells about it.
fn infos(object: &Object) -> impl Iterator<Item = (Program<'_>, libbpf_sys::bpf_prog_info)> {
    object.progs().filter(|program| program.autoload()).filter_map(|program| {
        let mut info = libbpf_sys::bpf_prog_info::default();
        let mut size = size_of::<libbpf_sys::bpf_prog_info>() as u32;
        // SAFETY: the kernel writes at most `size` bytes into `info`, and a zeroed info asks for no arrays.
        let result = unsafe {
            libbpf_sys::bpf_obj_get_info_by_fd(
                program.as_fd().as_raw_fd(),
                (&raw mut info).cast(),
                &raw mut size,
            )
        };
        (result == 0).then_some((program, info))
    })
}

#[cfg(test)]
mod tests {
    use super::{Metrics, REASONS, missed_runs};

    #[test]
    fn a_missed_run_counts_for_every_metric_that_the_program_serves() {
        let served_by: fn(&str) -> &'static [&'static str] =
            |program| if program == "both" { &["a", "b"] } else { &["b"] };
        let metrics = Metrics { all: &["a", "b", "c"], enabled: vec!["a", "b", "c"], served_by };
        let losses = missed_runs(&metrics, &[("both".into(), 3), ("one".into(), 4)]);
        let counts: Vec<_> = losses.iter().map(|loss| (loss.metric, loss.count)).collect();
        assert_eq!(counts, [("a", 3), ("b", 7), ("c", 0)]);
    }

    #[test]
    fn every_loss_reason_of_the_kernel_side_has_its_name_here() {
        let header = include_str!("../include/kumon.h");
        let (_, body) = header.split_once("enum loss_reason {").unwrap();
        let (body, _) = body.split_once("LOSS_REASONS").unwrap();
        let names: Vec<String> = body
            .split(',')
            .filter_map(|name| name.trim().strip_prefix("LOSS_"))
            .map(|name| name.to_lowercase().replace('_', " "))
            .collect();
        assert_eq!(names, REASONS);
    }
}
