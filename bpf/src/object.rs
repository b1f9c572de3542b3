//! Loading, attaching and looking into BPF objects.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd};

use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use libbpf_rs::{
    Link, MapCore, MapFlags, MapHandle, Object, OpenMapMut, OpenObject, PrintLevel, ProgramMut, libbpf_sys,
};

use crate::interval::IntervalMaps;
use crate::selection::Selection;
use crate::settings::MAX_RING_BUFFER_BYTES;
use crate::started::Metrics;
use crate::{CollectorError, Loss, ProgramCost, Settings, tracepoint};

/// What a counter of `losses` means, in the order of `enum loss_reason` in include/kumon.h.
const REASONS: [&str; 5] = ["ring buffer full", "map full", "sampled out", "no process", "missed switch"];

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

/// Opens a skeleton's object and sets in it what all objects have alike. A locked-memory limit that can't be raised
/// is no failure: libbpf tries it by itself where the kernel needs it, and loading tells whether it was enough.
pub(crate) fn open<B>(
    collector: &'static str,
    settings: &Settings,
    selection: Selection,
) -> Result<Opened<B::Output>, CollectorError>
where
    B: SkelBuilder<'static> + Default,
{
    listen_to_libbpf();
    // The skeleton borrows the place its object handle lives in; eight bytes per start stay allocated, the object
    // itself goes with the skeleton.
    let place: &'static mut MaybeUninit<OpenObject> = Box::leak(Box::new(MaybeUninit::uninit()));
    let opened = B::default().open(place);
    let mut skeleton = opened.map_err(CollectorError::because(collector, "opening its BPF object"))?;
    selection.configure(collector, skeleton.open_object_mut())?;
    for mut map in skeleton.open_object_mut().maps_mut() {
        if map.name() == OsStr::new("events") {
            size_events(collector, &mut map, settings)?;
        }
    }
    Ok(Opened { collector, skeleton, selection, intervals: Vec::new() })
}

/// Lets libbpf's messages go to the log, instead of to standard error.
pub(crate) fn listen_to_libbpf() {
    libbpf_rs::set_print(Some((PrintLevel::Debug, take_note)));
}

thread_local! {
    /// The program or map that libbpf first complained of since a load began, and its words.
    static COMPLAINT: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Takes a message of libbpf, which comes in the thread that called it.
fn take_note(level: PrintLevel, text: String) {
    let text = text.trim_end();
    log::debug!("{text}");
    let text = text.trim_start_matches("libbpf: ");
    let names_what = text.starts_with("prog '") || text.starts_with("map '");
    if level == PrintLevel::Warn && names_what {
        COMPLAINT.with_borrow_mut(|first| {
            if first.is_empty() {
                text.clone_into(first);
            }
        });
    }
}

/// An object before it is loaded: what the collector wants else can still be set in its skeleton.
pub(crate) struct Opened<S> {
    collector: &'static str,
    pub(crate) skeleton: S,
    selection: Selection,
    intervals: Vec<Turns>,
}

/// The name of an array of maps, and the maps that are to take turns in it.
type Turns = (&'static str, [MapHandle; 2]);

/// An object in the kernel, not attached yet.
pub(crate) struct Loaded<S> {
    pub(crate) collector: &'static str,
    pub(crate) skeleton: S,
    pub(crate) selection: Selection,
    intervals: Vec<Turns>,
}

impl<S: OpenSkel<'static>> Opened<S> {
    /// Makes room for so many keys in the map `name`.
    pub(crate) fn size_map(&mut self, name: &str, keys: u32) -> Result<(), CollectorError> {
        let tried = format!("making room for {keys} keys in its map {name}");
        for mut map in self.skeleton.open_object_mut().maps_mut().filter(|map| map.name() == OsStr::new(name))
        {
            map.set_max_entries(keys).map_err(CollectorError::because(self.collector, &tried))?;
        }
        Ok(())
    }

    /// Makes the maps of `INTERVAL_MAPS(name, …)`, with room for so many keys; [`Loaded::interval`] gives them out.
    pub(crate) fn make_interval(&mut self, name: &'static str, keys: u32) -> Result<(), CollectorError> {
        let tried = format!("making its maps {name} for {keys} keys");
        for mut map in self.skeleton.open_object_mut().maps_mut().filter(|map| map.name() == OsStr::new(name))
        {
            let maps = IntervalMaps::make(&mut map, keys);
            self.intervals.push((name, maps.map_err(CollectorError::because(self.collector, &tried))?));
        }
        Ok(())
    }

    /// Loads the programs whose autoload is on, and fills the maps that all objects have.
    pub(crate) fn load(self) -> Result<Loaded<S::Output>, CollectorError> {
        let Opened { collector, skeleton, mut selection, intervals } = self;
        COMPLAINT.with_borrow_mut(String::clear);
        let skeleton = skeleton.load().map_err(|e| {
            let complaint = COMPLAINT.take();
            let about = if complaint.is_empty() { complaint } else { format!(" ({complaint})") };
            CollectorError::because(collector, &format!("loading its BPF programs{about}"))(e)
        })?;
        selection
            .install(skeleton.object())
            .map_err(CollectorError::because(collector, "setting its filters"))?;
        Ok(Loaded { collector, skeleton, selection, intervals })
    }
}

impl<S: Skel<'static>> Loaded<S> {
    /// The maps that [`Opened::make_interval`] made, at work in their array.
    pub(crate) fn interval(&mut self, name: &'static str) -> Result<IntervalMaps, CollectorError> {
        let maps = self.intervals.iter().position(|(array, _)| *array == name);
        let array = self.skeleton.object().maps().find(|map| map.name() == OsStr::new(name));
        let interval = match (maps, array) {
            (Some(index), Some(array)) => IntervalMaps::new(&array, self.intervals.swap_remove(index).1),
            _ => Err(std::io::Error::from(std::io::ErrorKind::NotFound).into()),
        };
        interval.map_err(CollectorError::because(self.collector, &format!("opening its maps {name}")))
    }

    /// Attaches every loaded program to the hook that its section names; not the iterators, which are run.
    pub(crate) fn attach(&self) -> Result<Vec<Link>, CollectorError> {
        let hooked = |program: &ProgramMut<'_>| {
            program.autoload() && !program.section().as_encoded_bytes().starts_with(b"iter/")
        };
        let loaded = self.skeleton.object().progs_mut().filter(hooked);
        loaded.map(|program| attach_program(self.collector, &program)).collect()
    }
}

/// Sets the size of an object's ring buffer: the setting, rounded up to what the kernel takes (a power of two of at
/// least a page).
fn size_events(
    collector: &'static str,
    events: &mut OpenMapMut<'_>,
    settings: &Settings,
) -> Result<(), CollectorError> {
    let page = rustix::param::page_size() as u32;
    let bytes = settings.ring_buffer_bytes.clamp(page, MAX_RING_BUFFER_BYTES).next_power_of_two();
    let tried = format!("giving its ring buffer {bytes} bytes");
    events.set_max_entries(bytes).map_err(CollectorError::because(collector, &tried))
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

/// The counters of include/kumon.h by metric and reason, and the programs' missed runs; of the enabled metrics.
/// Counters that can't be read are left out: no number is better than a wrong zero.
pub(crate) fn losses(object: &Object, metrics: &Metrics) -> Vec<Loss> {
    let mut losses = Vec::new();
    if let Some(counts) = counts(object) {
        let reasons = metrics.all.iter().flat_map(|metric| REASONS.map(|reason| (*metric, reason)));
        losses.extend(reasons.zip(counts).map(|((metric, reason), count)| Loss { metric, reason, count }));
    }
    let missed: Vec<_> = infos(object).map(|(program, info)| (program, info.recursion_misses)).collect();
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
pub(crate) fn programs(object: &Object) -> Vec<ProgramCost> {
    let cost = |(program, info): (String, libbpf_sys::bpf_prog_info)| ProgramCost {
        program,
        runs: info.run_cnt,
        run_time: info.run_time_ns,
    };
    infos(object).map(cost).collect()
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
    use kumon_testing::require_bpf;
    use libbpf_rs::{AsRawLibbpf, MapCore, libbpf_sys, skel::OpenSkel};

    use super::{Opened, REASONS, missed_runs};
    use crate::started::Metrics;
    use crate::{Settings, block::Block, sched::Sched};

    /// Arrays of maps, and how many keys their maps take as the kernel says. Both maps of an array must be alike in what
    /// Linux before 5.10 compares with the one that the array was made for (bpf_map_meta_equal of
    /// kernel/bpf/map_in_map.c), and that one must be the first of them.
    fn intervals<S: OpenSkel<'static>>(mut opened: Opened<S>) -> Vec<(&'static str, u32)> {
        let mut sizes = Vec::new();
        for (name, maps) in &opened.intervals {
            let compared = maps.each_ref().map(|map| {
                let info = map.info().unwrap().info;
                [info.type_, info.key_size, info.value_size, info.map_flags, info.max_entries]
            });
            assert_eq!(compared[0], compared[1], "{name}");
            sizes.push((*name, compared[0][4]));
        }
        for map in opened.skeleton.open_object_mut().maps_mut() {
            if sizes.iter().any(|(name, _)| map.name() == *name) {
                // SAFETY: it is a map of an open object.
                let described = unsafe { libbpf_sys::bpf_map__inner_map(map.as_libbpf_object().as_ptr()) };
                assert!(described.is_null(), "{}: made for the map that is described", map.name().display());
            }
        }
        sizes
    }

    #[test]
    fn arrays_of_maps_are_made_for_maps_of_the_very_size_that_they_get() {
        if !require_bpf() {
            return;
        }
        let mut settings = Settings::default();
        settings.cputime.max_ended = 11;
        settings.biolatency.max_keys = 22;
        settings.bitesize.max_processes = 33;
        let mut sizes = intervals(Sched::new(&settings).open().unwrap());
        settings.runqlat.per_cgroup = true;
        settings.runqlat.max_cgroups = 44;
        sizes.extend(intervals(Sched::new(&settings).open().unwrap()));
        sizes.extend(intervals(Block::new(&settings).open().unwrap()));
        let expected = [
            ("ended", 12),
            ("waits", 1),
            ("ended", 12),
            ("cgroup_waits", 45),
            ("latencies", 23),
            ("sizes", 34),
        ];
        assert_eq!(sizes, expected);
    }

    #[test]
    fn a_refused_map_is_named() {
        if !require_bpf() {
            return;
        }
        let settings = Settings::default();
        let mut opened = Block::new(&settings).open().unwrap();
        opened.size_map("queued", u32::MAX).unwrap();
        let refused = opened.load().err().unwrap().to_string();
        assert!(refused.starts_with("block: loading its BPF programs (map 'queued': "), "{refused}");
    }

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
