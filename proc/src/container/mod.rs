//! The metric container: what containers and systemd's services use, of their cgroups' files.

mod emit;
#[cfg(test)]
mod tests;
mod usage;
mod walk;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::time::Duration;

use kumon_collect::settings::{entries, interval};
use kumon_collect::{Emitter, Loss};
use serde::Deserialize;

use self::emit::Change;
use self::usage::{Reader, Usage};
use crate::Root;
use crate::error::ReadError;
use crate::hierarchies::Hierarchies;
use crate::metric::{Metric, Period};
use crate::namespaces::Namespaces;
use crate::node::Node;
use crate::parse::Device;

/// Settings of the metric container.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ContainerSettings {
    pub enabled: bool,
    /// Time that a row sums up.
    #[serde(deserialize_with = "interval")]
    pub interval: Duration,
    /// Containers and services with rows.
    #[serde(deserialize_with = "entries")]
    pub max_cgroups: u32,
}

impl Default for ContainerSettings {
    /// Rows of all containers are many, and most of them change slowly.
    fn default() -> ContainerSettings {
        ContainerSettings { enabled: true, interval: Duration::from_secs(30), max_cgroups: 2048 }
    }
}

pub(crate) struct Container {
    max_cgroups: usize,
    reader: Reader,
    networks: Namespaces,
    node: Node,
    disks: Disks,
    before: Cgroups,
    /// Whether no cgroup was left out at the last reading: then one that isn't known is new.
    knows_all: bool,
    left_out: u64,
}

/// By path.
type Cgroups = BTreeMap<String, Known>;

struct Known {
    /// The inode of its folder, in cgroup v2 if it has one there: another cgroup of the same path has another one.
    folder: u64,
    /// The same in cgroup v2 only.
    id: Option<u64>,
    usage: Usage,
}

impl Metric for Container {
    const NAME: &'static str = "container";
    const FILE: &'static str = Hierarchies::FILE;
    /// There may be thousands of cgroups, and a busy kernel sums up anew what their memory is used for.
    const MAY_HANG: bool = true;
    type Settings = ContainerSettings;

    fn start(root: &Root, settings: &ContainerSettings) -> Result<Container, ReadError> {
        let hierarchies = Hierarchies::find(root)?;
        hierarchies.trees()?;
        let mut container = Container {
            max_cgroups: settings.max_cgroups as usize,
            reader: Reader::new(hierarchies),
            networks: Namespaces::new(root),
            node: Node::new(root),
            disks: Disks { root: root.clone(), names: HashMap::new() },
            before: Cgroups::new(),
            knows_all: false,
            left_out: 0,
        };
        container.before = container.read_cgroups()?;
        for path in container.before.keys() {
            if let Some(pid) = container.reader.process(path) {
                container.networks.of(pid);
            }
        }
        Ok(container)
    }

    fn read(&mut self, period: Period, emitter: &mut Emitter<'_>) -> Result<(), ReadError> {
        let knew_all = self.knows_all;
        let now = self.read_cgroups()?;
        self.networks.begin();
        self.disks.names.clear();
        let node = self.node.read();
        for (path, cgroup) in &now {
            let before = self.before.get(path).filter(|before| before.folder == cgroup.folder);
            let traffic = self.reader.process(path).and_then(|pid| self.networks.of(pid));
            if before.is_none() && !knew_all {
                continue;
            }
            let change = Change {
                path,
                id: cgroup.id,
                before: before.map(|before| &before.usage),
                now: &cgroup.usage,
                traffic,
                node,
            };
            change.emit(period, &mut self.disks, emitter);
        }
        self.before = now;
        Ok(())
    }

    fn losses(&self) -> Vec<Loss> {
        vec![Loss { metric: Container::NAME, reason: "too many cgroups", count: self.left_out }]
    }
}

impl Container {
    fn read_cgroups(&mut self) -> Result<Cgroups, ReadError> {
        let trees = self.reader.hierarchies().trees()?;
        let (found, left_out) = walk::find(&trees, self.max_cgroups);
        self.knows_all = left_out == 0;
        self.left_out += left_out;
        let known = |path: String| {
            let id = self.reader.id(&path);
            let folder = id.or_else(|| self.reader.folder(&path))?;
            let usage = self.reader.read(&path)?;
            Some((path, Known { folder, id, usage }))
        };
        Ok(found.into_iter().filter_map(known).collect())
    }
}

/// Names of disks by their device numbers.
struct Disks {
    root: Root,
    names: HashMap<Device, String>,
}

impl Disks {
    /// As in /sys/block; the numbers themselves of one that is gone.
    fn name(&mut self, device: Device) -> &str {
        self.names.entry(device).or_insert_with(|| {
            let numbers = format!("{}:{}", device.0, device.1);
            let link = fs::read_link(self.root.path("/sys/dev/block").join(&numbers)).ok();
            let name =
                link.as_deref().and_then(|link| Some(link.file_name()?.to_string_lossy().into_owned()));
            name.unwrap_or(numbers)
        })
    }
}
