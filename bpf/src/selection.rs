//! Tells the programs of an object which processes its metrics are about (include/filter.h), how many rows they may have
//! (include/budget.h), and who KuMon is.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kumon_collect::{
    Cgroup, Cgroups, CollectorError, Filter, Follow, Hook, MaxRows, Names, Sample, cgroup2_mount,
};
use libbpf_rs::{MapCore, MapFlags, MapHandle, Object, OpenMapMut, OpenObject, Result};

use crate::budget::SHARES;
use crate::error::because;
use crate::object_settings::ObjectSettings;
use crate::types::{filter_key, filter_kind, selection, shared_settings};

/// How often paths of cgroups are looked up: a restarted service or container has a new one under the old path.
const LOOK_UP_INTERVAL: Duration = Duration::from_secs(1);

/// Cgroups that a metric's filter by names lets through at a time; 80 bytes of kernel memory each.
const MAX_NAMED: usize = 8192;

/// No process has this id.
const NOBODY: u32 = u32::MAX;

/// Filters that can't be applied on this node, each as a hook that has the reason: collectors with one don't start.
pub(crate) fn refused_filters(filters: &[(&'static str, &Filter)]) -> Vec<Hook> {
    let folders = CgroupFolders::of_this_node();
    let refused = |&(metric, filter): &(&'static str, &Filter)| {
        let why = folders.check_all(filter).err()?;
        Some(Hook::new(vec![metric], "filter by cgroup", Err(why)))
    };
    filters.iter().filter_map(refused).collect()
}

/// What the metrics of an object select, in the order of its `enum metric`.
pub(crate) struct Selection {
    exclude_self: bool,
    metrics: Vec<(Filter, Sample)>,
    max_rows: Vec<MaxRows>,
    cgroups: CgroupFolders,
    /// The ids of cgroups that the programs know, by metric and path.
    known: HashMap<(u32, PathBuf), u64>,
    named: Vec<Arc<NamedCgroups>>,
    looked_up: Instant,
    /// The process ids of KuMon that the programs know.
    own_processes: Vec<u32>,
}

impl Selection {
    /// One filter, sample and budget for each metric of the object's `enum metric`.
    pub(crate) fn new<'a>(
        settings: &ObjectSettings,
        metrics: impl IntoIterator<Item = (&'a Filter, Sample, MaxRows)>,
    ) -> Selection {
        let metrics = metrics.into_iter().map(|(filter, sample, rows)| ((filter.clone(), sample), rows));
        let (metrics, max_rows) = metrics.unzip();
        Selection {
            exclude_self: settings.exclude_self,
            metrics,
            max_rows,
            cgroups: CgroupFolders::of_this_node(),
            known: HashMap::new(),
            named: Vec::new(),
            looked_up: Instant::now(),
            own_processes: Vec::new(),
        }
    }

    /// Sets the constants that programs decide by, and makes room for the values.
    ///
    /// # Errors
    /// When a filter can't be applied on this node.
    pub(crate) fn configure(
        &self,
        collector: &'static str,
        object: &mut OpenObject,
    ) -> std::result::Result<(), CollectorError> {
        self.check_cgroups().map_err(because(collector, "applying its filter by cgroup"))?;
        for mut map in object.maps_mut() {
            let name = map.name().to_string_lossy().into_owned();
            match name.as_str() {
                ".rodata.shared" => self.set_constants(&mut map),
                "filter_values" => map.set_max_entries(self.values().max(1)),
                "shares" => map.set_max_entries(if self.has_budget() { SHARES } else { 1 }),
                _ => Ok(()),
            }
            .map_err(because(collector, &format!("setting its {name}")))?;
        }
        Ok(())
    }

    /// Fills the maps of the loaded object; before its programs are attached.
    pub(crate) fn install(&mut self, object: &Object) -> Result<()> {
        self.set_own_processes(object, &[std::process::id()])?;
        let Some(values) = map(object, "filter_values") else { return Ok(()) };
        for (metric, (filter, _)) in (0..).zip(&self.metrics) {
            let numbers = |kind, numbers: &[u32]| -> Vec<filter_key> {
                numbers.iter().map(|&number| key(metric, kind, [number.into(), 0])).collect()
            };
            let mut keys = numbers(filter_kind::FILTER_PID, &filter.pid);
            keys.extend(numbers(filter_kind::FILTER_UID, &filter.uid));
            let names = filter.comm.iter();
            keys.extend(names.map(|comm| key(metric, filter_kind::FILTER_COMM, comm.words())));
            keys.extend(filter.cgroup.iter().filter_map(|cgroup| match cgroup {
                Cgroup::Id(id) => Some(key(metric, filter_kind::FILTER_CGROUP, [*id, 0])),
                Cgroup::Path(_) => None,
            }));
            for key in keys {
                values.update(&key_bytes(&key), &[1], MapFlags::ANY)?;
            }
            if filter.has_names() {
                let values = MapHandle::try_from(&values)?;
                let named = Arc::new(NamedCgroups { metric, filter: filter.clone(), values });
                Cgroups::of_this_node().follow(&named);
                self.named.push(named);
            }
        }
        self.look_up_cgroups(&values)
    }

    /// Keeps up with KuMon's own processes, and with cgroups that come and go under the configured paths.
    pub(crate) fn refresh(&mut self, object: &Object, now: Instant, own: &[u32]) -> Result<()> {
        if self.own_processes != own {
            self.set_own_processes(object, own)?;
        }
        let paths = self.metrics.iter().flat_map(|(filter, _)| &filter.cgroup);
        let has_paths = paths.into_iter().any(|cgroup| matches!(cgroup, Cgroup::Path(_)));
        if !has_paths || now.saturating_duration_since(self.looked_up) < LOOK_UP_INTERVAL {
            return Ok(());
        }
        self.looked_up = now;
        match map(object, "filter_values") {
            Some(values) => self.look_up_cgroups(&values),
            None => Ok(()),
        }
    }

    /// Elsewhere than in the initial pid namespace the kernel has other numbers for them, and these ones for others.
    fn set_own_processes(&mut self, object: &Object, own: &[u32]) -> Result<()> {
        let Some(map) = map(object, ".data.self") else { return Ok(()) };
        let mut tgids = vec![NOBODY; map.value_size() as usize / size_of::<u32>()];
        if in_initial_pid_namespace() {
            tgids.iter_mut().zip(own).for_each(|(tgid, own)| *tgid = *own);
        }
        map.update(&0_u32.to_ne_bytes(), &bytes(&tgids), MapFlags::ANY)?;
        self.own_processes = own.to_vec();
        Ok(())
    }

    fn check_cgroups(&self) -> std::io::Result<()> {
        let mut filters = self.metrics.iter().map(|(filter, _)| filter);
        filters.try_for_each(|filter| self.cgroups.check_all(filter)).map_err(std::io::Error::other)
    }

    /// The rows that each metric may have.
    pub(crate) fn max_rows(&self) -> &[MaxRows] {
        &self.max_rows
    }

    fn has_budget(&self) -> bool {
        self.max_rows.iter().any(|rows| *rows != MaxRows::UNLIMITED)
    }

    fn values(&self) -> u32 {
        let values = |filter: &Filter| {
            let named = if filter.has_names() { MAX_NAMED } else { 0 };
            filter.pid.len() + filter.comm.len() + filter.cgroup.len() + filter.uid.len() + named
        };
        self.metrics.iter().map(|(filter, _)| values(filter) as u32).sum()
    }

    fn set_constants(&self, map: &mut OpenMapMut<'_>) -> Result<()> {
        let mut settings = shared_settings { exclude_self: self.exclude_self.into(), ..Default::default() };
        let metrics = self.metrics.iter().zip(&self.max_rows);
        for (constants, ((filter, sample), rows)) in settings.metrics.iter_mut().zip(metrics) {
            let given = [
                (filter_kind::FILTER_PID, filter.pid.is_empty()),
                (filter_kind::FILTER_COMM, filter.comm.is_empty()),
                (filter_kind::FILTER_CGROUP, filter.cgroup.is_empty()),
                (filter_kind::FILTER_UID, filter.uid.is_empty()),
                (filter_kind::FILTER_NAMES, !filter.has_names()),
            ];
            let filters = given.iter().filter(|(_, is_empty)| !is_empty).map(|(kind, _)| kind.0).sum();
            let row_time = rows.row_time().map_or(0, |time| time.as_nanos() as u32);
            *constants = selection { filters, sample: sample.get(), row_time };
        }
        let numbers = settings.metrics.iter();
        let numbers = numbers.flat_map(|constants| [constants.filters, constants.sample, constants.row_time]);
        let numbers: Vec<u32> = std::iter::once(settings.exclude_self).chain(numbers).collect();
        map.set_initial_value(&bytes(&numbers))
    }

    fn look_up_cgroups(&mut self, values: &MapHandle) -> Result<()> {
        for (metric, (filter, _)) in (0..).zip(&self.metrics) {
            for cgroup in &filter.cgroup {
                let Cgroup::Path(path) = cgroup else { continue };
                let Some(folder) = self.cgroups.folder(path) else { continue };
                let id = fs::metadata(&folder).ok().map(|metadata| metadata.ino());
                let place = (metric, folder);
                let before = self.known.get(&place).copied();
                if before == id {
                    continue;
                }
                let key_of = |id| key_bytes(&key(metric, filter_kind::FILTER_CGROUP, [id, 0]));
                if let Some(gone) = self.known.remove(&place) {
                    values.delete(&key_of(gone))?;
                }
                if let Some(id) = id {
                    values.update(&key_of(id), &[1], MapFlags::ANY)?;
                    self.known.insert(place, id);
                }
            }
        }
        Ok(())
    }
}

/// Tells the programs which cgroups have the names that a metric's filter asks for: at once, so that the first program of a
/// container is not missed.
struct NamedCgroups {
    metric: u32,
    filter: Filter,
    values: MapHandle,
}

impl Follow for NamedCgroups {
    fn is_there(&self, cgroup: u64, names: &Names) {
        if !self.filter.selects_names(names) {
            return self.is_gone(cgroup);
        }
        if let Err(e) = self.values.update(&self.key(cgroup), &[1], MapFlags::ANY) {
            log::warn!("cgroup {cgroup} is left out by a filter that asks for it: {e}");
        }
    }

    fn is_gone(&self, cgroup: u64) {
        // Most never were there.
        let _ = self.values.delete(&self.key(cgroup));
    }
}

impl NamedCgroups {
    fn key(&self, cgroup: u64) -> Vec<u8> {
        key_bytes(&key(self.metric, filter_kind::FILTER_NAMES, [cgroup, 0]))
    }
}

/// Where the folders of cgroups are.
struct CgroupFolders {
    /// The mount of cgroup v2.
    mount: Option<PathBuf>,
}

impl CgroupFolders {
    fn of_this_node() -> CgroupFolders {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        CgroupFolders { mount: cgroup2_mount(&mounts) }
    }

    /// Whether tasks can be told apart by what a filter asks of cgroups, or why not.
    fn check_all(&self, filter: &Filter) -> std::result::Result<(), String> {
        if self.mount.is_none() && (filter.has_names() || !filter.cgroup.is_empty()) {
            return Err(
                "cgroup v2 is not mounted, and the cgroups of v1 can't be filtered by; use comm, pid or uid"
                    .into(),
            );
        }
        filter.cgroup.iter().try_for_each(|cgroup| self.check(cgroup))
    }

    fn check(&self, cgroup: &Cgroup) -> std::result::Result<(), String> {
        let Some(mount) = &self.mount else { return Ok(()) };
        match cgroup {
            Cgroup::Path(path) if self.folder(path).is_none() => Err(format!(
                "'{path}' belongs to a cgroup v1 hierarchy; name the cgroup v2 one below {}",
                mount.display()
            )),
            _ => Ok(()),
        }
    }

    /// The folder of a cgroup's path, which may be the folder's own; none for those of cgroup v1.
    fn folder(&self, path: &str) -> Option<PathBuf> {
        let mount = self.mount.as_deref()?;
        if path.starts_with("/sys/fs/cgroup/") || std::path::Path::new(path).starts_with(mount) {
            return std::path::Path::new(path).starts_with(mount).then(|| path.into());
        }
        Some(mount.join(path.trim_start_matches('/')))
    }
}

/// Whether KuMon sees all processes of the machine under `/proc`, and knows them by the kernel's own ids.
pub(crate) fn in_initial_pid_namespace() -> bool {
    // PROC_PID_INIT_INO of include/linux/proc_ns.h.
    const INITIAL: u64 = 0xEFFF_FFFC;
    fs::metadata("/proc/self/ns/pid").is_ok_and(|namespace| namespace.ino() == INITIAL)
}

fn map(object: &Object, name: &str) -> Option<MapHandle> {
    let map = object.maps().find(|map| map.name() == OsStr::new(name))?;
    MapHandle::try_from(&map).ok()
}

fn key(metric: u32, kind: filter_kind, value: [u64; 2]) -> filter_key {
    filter_key { metric, kind, value }
}

/// The key as it lies in memory; it has no gaps.
fn key_bytes(key: &filter_key) -> Vec<u8> {
    let [first, second] = key.value;
    [bytes(&[key.metric, key.kind.0]), [first.to_ne_bytes(), second.to_ne_bytes()].concat()].concat()
}

fn bytes(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_ne_bytes()).collect()
}
