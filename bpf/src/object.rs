//! Loading, attaching and looking into BPF objects.

use std::ffi::OsStr;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd};

use libbpf_rs::skel::SkelBuilder;
use libbpf_rs::{
    Link, MapCore, MapFlags, Object, OpenMapMut, OpenObject, PrintLevel, ProgramMut, libbpf_sys,
};

use crate::{CollectorError, Loss, ProgramCost, Settings, tracepoint};

/// What a counter of `losses` means, in the order of `enum loss_reason` in include/kumon.h.
const REASONS: [&str; 2] = ["ring buffer full", "map full"];

/// More than a poll's worth of events on the largest machines.
const MAX_RING_BUFFER_BYTES: u32 = 256 << 20;

/// Reason of the runs that the kernel left out because the program was already running on that CPU.
const MISSED_RUN: &str = "missed run";

/// Makes the module `skeleton` of `src/<name>/<name>.bpf.c`, as build.rs generated it.
macro_rules! skeleton {
    ($name:literal) => {
        #[allow(unreachable_pub, clippy::all, clippy::unwrap_used)]
        mod skeleton {
            include!(concat!(env!("OUT_DIR"), "/", $name, ".skel.rs"));
        }
    };
}
pub(crate) use skeleton;

/// Opens a skeleton's object. A locked-memory limit that can't be raised is no failure: libbpf tries it by itself
/// where the kernel needs it, and loading tells whether it was enough.
pub(crate) fn open<B>(collector: &'static str) -> Result<B::Output, CollectorError>
where
    B: SkelBuilder<'static> + Default,
{
    libbpf_rs::set_print(Some((PrintLevel::Debug, |_, text| log::debug!("libbpf: {}", text.trim_end()))));
    // The skeleton borrows the place its object handle lives in; eight bytes per start stay allocated, the object
    // itself goes with the skeleton.
    let place: &'static mut MaybeUninit<OpenObject> = Box::leak(Box::new(MaybeUninit::uninit()));
    B::default().open(place).map_err(CollectorError::because(collector, "opening its BPF object"))
}

/// Sets the size of an object's ring buffer: the setting, rounded up to what the kernel takes (a power of two of at
/// least a page).
pub(crate) fn size_events(
    collector: &'static str,
    events: &mut OpenMapMut<'_>,
    settings: &Settings,
) -> Result<(), CollectorError> {
    let page = rustix::param::page_size() as u32;
    let bytes = settings.ring_buffer_bytes.clamp(page, MAX_RING_BUFFER_BYTES).next_power_of_two();
    let tried = format!("giving its ring buffer {bytes} bytes");
    events.set_max_entries(bytes).map_err(CollectorError::because(collector, &tried))
}

/// Attaches every loaded program to the hook that its section names.
pub(crate) fn attach(collector: &'static str, object: &Object) -> Result<Vec<Link>, CollectorError> {
    let loaded = object.progs_mut().filter(|program| program.autoload());
    loaded.map(|program| attach_program(collector, &program)).collect()
}

/// Attaches one program to the hook that its section names.
pub(crate) fn attach_program(
    collector: &'static str,
    program: &ProgramMut<'_>,
) -> Result<Link, CollectorError> {
    let section = program.section().to_string_lossy().into_owned();
    let link = match section.strip_prefix("tracepoint/").and_then(|event| event.split_once('/')) {
        Some((category, name)) => tracepoint::attach(program, category, name),
        None => program.attach(),
    };
    link.map_err(CollectorError::because(collector, &format!("attaching {section}")))
}

/// The counters of include/kumon.h by metric and reason, and the programs' missed runs. `metrics` stand in the order
/// of the object's `enum metric`; `metric_of` says for which of them a program's missed runs count. Counters that
/// can't be read are left out: no number is better than a wrong zero.
pub(crate) fn losses(
    object: &Object,
    metrics: &[&'static str],
    metric_of: impl Fn(&str) -> &'static str,
) -> Vec<Loss> {
    let mut losses = Vec::new();
    if let Some(map) = object.maps().find(|map| map.name() == OsStr::new("losses")) {
        for (index, metric) in metrics.iter().enumerate() {
            for (reason_index, reason) in REASONS.into_iter().enumerate() {
                let key = (index * REASONS.len() + reason_index) as u32;
                if let Some(count) = sum(&map, key) {
                    losses.push(Loss { metric, reason, count });
                }
            }
        }
    }
    let missed: Vec<_> =
        infos(object).map(|(program, info)| (metric_of(&program), info.recursion_misses)).collect();
    for &metric in metrics {
        let count = missed.iter().filter(|(of, _)| *of == metric).map(|(_, count)| count).sum();
        losses.push(Loss { metric, reason: MISSED_RUN, count });
    }
    losses
}

/// What each loaded program cost.
pub(crate) fn programs(object: &Object) -> Vec<ProgramCost> {
    let cost = |(program, info): (String, libbpf_sys::bpf_prog_info)| ProgramCost {
        program,
        runs: info.run_cnt,
        run_time: info.run_time_ns,
    };
    infos(object).map(cost).collect()
}

/// A per-CPU counter's total.
fn sum(map: &impl MapCore, key: u32) -> Option<u64> {
    let values = map.lookup_percpu(&key.to_ne_bytes(), MapFlags::ANY).ok()??;
    let number = |value: &Vec<u8>| value.first_chunk().copied().map(u64::from_ne_bytes);
    Some(values.iter().filter_map(number).sum())
}

/// Each loaded program's name and what the kernel tells about it.
fn infos(object: &Object) -> impl Iterator<Item = (String, libbpf_sys::bpf_prog_info)> {
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
        (result == 0).then(|| (program.name().to_string_lossy().into_owned(), info))
    })
}

#[cfg(test)]
mod tests {
    use super::REASONS;

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
