//! Opening, loading and attaching BPF objects.

use std::ffi::OsStr;
use std::mem::MaybeUninit;

use kumon_collect::CollectorError;
use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use libbpf_rs::{Link, MapCore, MapHandle, OpenMapMut, OpenObject, ProgramMut};

use crate::error::because;
use crate::interval::IntervalMaps;
use crate::object_settings::{MAX_RING_BUFFER_BYTES, ObjectSettings};
use crate::selection::Selection;
use crate::{libbpf_log, tracepoint};

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
    settings: &ObjectSettings,
    selection: Selection,
) -> Result<Opened<B::Output>, CollectorError>
where
    B: SkelBuilder<'static> + Default,
{
    libbpf_log::listen();
    // The skeleton borrows the place its object handle lives in; eight bytes per start stay allocated, the object
    // itself goes with the skeleton.
    let place: &'static mut MaybeUninit<OpenObject> = Box::leak(Box::new(MaybeUninit::uninit()));
    let opened = B::default().open(place);
    let mut skeleton = opened.map_err(because(collector, "opening its BPF object"))?;
    selection.configure(collector, skeleton.open_object_mut())?;
    for mut map in skeleton.open_object_mut().maps_mut() {
        if map.name() == OsStr::new("events") {
            size_events(collector, &mut map, settings)?;
        }
    }
    Ok(Opened { collector, skeleton, selection, intervals: Vec::new() })
}

/// An object before it is loaded: what the collector wants else can still be set in its skeleton.
pub(crate) struct Opened<S> {
    collector: &'static str,
    pub(crate) skeleton: S,
    selection: Selection,
    pub(crate) intervals: Vec<Turns>,
}

/// The name of an array of maps, and the maps that are to take turns in it.
pub(crate) type Turns = (&'static str, [MapHandle; 2]);

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
            map.set_max_entries(keys).map_err(because(self.collector, &tried))?;
        }
        Ok(())
    }

    /// Makes the maps of `INTERVAL_MAPS(name, …)`, with room for so many keys; [`Loaded::interval`] gives them out.
    pub(crate) fn make_interval(&mut self, name: &'static str, keys: u32) -> Result<(), CollectorError> {
        let tried = format!("making its maps {name} for {keys} keys");
        for mut map in self.skeleton.open_object_mut().maps_mut().filter(|map| map.name() == OsStr::new(name))
        {
            let maps = IntervalMaps::make(&mut map, keys);
            self.intervals.push((name, maps.map_err(because(self.collector, &tried))?));
        }
        Ok(())
    }

    /// Loads the programs whose autoload is on, and fills the maps that all objects have.
    pub(crate) fn load(self) -> Result<Loaded<S::Output>, CollectorError> {
        let Opened { collector, skeleton, mut selection, intervals } = self;
        libbpf_log::forget_complaint();
        let skeleton = skeleton.load().map_err(|e| {
            let complaint = libbpf_log::complaint();
            let about = if complaint.is_empty() { complaint } else { format!(" ({complaint})") };
            because(collector, &format!("loading its BPF programs{about}"))(e)
        })?;
        selection.install(skeleton.object()).map_err(because(collector, "setting its filters"))?;
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
        interval.map_err(because(self.collector, &format!("opening its maps {name}")))
    }

    /// Attaches every loaded program to the hook that its section names; not the iterators, which are run, nor those whose
    /// section leaves open where.
    pub(crate) fn attach(&self) -> Result<Vec<Link>, CollectorError> {
        let hooked = |program: &ProgramMut<'_>| {
            let section = program.section().to_string_lossy();
            let elsewhere = section == "tc" || section.starts_with("iter/") || section.starts_with("cgroup/");
            program.autoload() && !elsewhere
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
    settings: &ObjectSettings,
) -> Result<(), CollectorError> {
    let page = rustix::param::page_size() as u32;
    let bytes = settings.ring_buffer_bytes.clamp(page, MAX_RING_BUFFER_BYTES).next_power_of_two();
    let tried = format!("giving its ring buffer {bytes} bytes");
    events.set_max_entries(bytes).map_err(because(collector, &tried))
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
    link.map_err(because(collector, &format!("attaching {section}")))
}
