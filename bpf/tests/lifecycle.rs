//! Starting and stopping collectors leaves nothing in the kernel.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use common::{Collecting, TASK_STORAGE, TCX, UPROBE_COOKIES, kernel_is_at_least};
use kumon_bpf::{Enabled, FileHooks, Settings, collectors};
use kumon_testing::{repetitions, require_bpf, wait_for};
use libbpf_rs::query::{LinkInfoIter, MapInfoIter, ProgInfoIter};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Programs, maps and links of the kernel by their ids.
#[derive(Debug, Default, Clone, PartialEq)]
struct Objects {
    programs: BTreeSet<u32>,
    maps: BTreeSet<u32>,
    links: BTreeSet<u32>,
}

impl Objects {
    /// Those that this process holds open, whatever others load meanwhile.
    fn held() -> Objects {
        let mut held = Objects::default();
        for file in std::fs::read_dir("/proc/self/fdinfo").unwrap() {
            // One may be closed meanwhile.
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap_or_default();
            for (key, id) in text.lines().filter_map(|line| line.split_once(":\t")) {
                let ids = match key {
                    "prog_id" => &mut held.programs,
                    "map_id" => &mut held.maps,
                    "link_id" => &mut held.links,
                    _ => continue,
                };
                ids.insert(id.trim().parse().unwrap());
            }
        }
        held
    }

    /// Without those of `before`.
    fn since(mut self, before: &Objects) -> Objects {
        self.programs.retain(|id| !before.programs.contains(id));
        self.maps.retain(|id| !before.maps.contains(id));
        self.links.retain(|id| !before.links.contains(id));
        self
    }

    fn add(&mut self, others: &Objects) {
        self.programs.extend(&others.programs);
        self.maps.extend(&others.maps);
        self.links.extend(&others.links);
    }

    /// What of it is still in the kernel.
    fn left(&self) -> usize {
        let programs = ProgInfoIter::default().filter(|info| self.programs.contains(&info.id)).count();
        let maps = MapInfoIter::default().filter(|info| self.maps.contains(&info.id)).count();
        let links = LinkInfoIter::default().filter(|info| self.links.contains(&info.id)).count();
        programs + maps + links
    }
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn files_in(folder: &Path) -> BTreeSet<OsString> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect()
}

/// All that this kernel can have.
fn everything() -> Settings {
    let mut settings = Settings::default();
    settings.process.exec.failed = kernel_is_at_least(TASK_STORAGE);
    settings.db.dbslower.enabled = kernel_is_at_least(UPROBE_COOKIES);
    // The rung that every kernel has.
    settings.file.file_hooks = FileHooks::Tracepoint;
    settings.file.filelife.enabled = Enabled::Yes;
    settings.file.filegone.enabled = Enabled::Yes;
    settings.flow.flow.enabled = true;
    settings
}

/// Agents at work at the same time: most of a start and a stop is waiting for the kernel.
const AGENTS: usize = 10;

/// How often each of them starts and stops.
fn rounds() -> usize {
    repetitions(2, 10)
}

/// Lets this process have as many descriptors as it may: the agents hold more than the 1024 that shells begin with.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
}

/// Starts and stops all collectors, and says what it saw held meanwhile.
fn start_and_stop() -> Objects {
    let mut held = Objects::default();
    for _ in 0..rounds() {
        let names = collectors(&everything()).into_iter().map(|collector| collector.name());
        let started: Vec<Collecting> = names.map(|name| Collecting::start(name, everything())).collect();
        held.add(&Objects::held());
        started.into_iter().for_each(|collecting| drop(collecting.stop()));
    }
    held
}

#[test]
fn starts_and_stops_of_all_collectors_leave_no_program_map_link_or_descriptor() {
    if !require_bpf() {
        return;
    }
    raise_descriptor_limit();
    // The first one begins to watch cgroups, which goes on as long as the process.
    drop(Collecting::start("process", Settings::default()).stop());
    let (before, open) = (Objects::held(), descriptors());
    let mut loaded = Objects::default();
    let agents: Vec<_> = (0..AGENTS).map(|_| std::thread::spawn(start_and_stop)).collect();
    for agent in agents {
        loaded.add(&agent.join().unwrap());
    }
    assert_eq!((Objects::held(), descriptors()), (before.clone(), open));
    let loaded = loaded.since(&before);
    // Each start has programs, maps and links of its own.
    let least = AGENTS * rounds() * collectors(&everything()).len();
    for ids in [&loaded.programs, &loaded.maps, &loaded.links] {
        assert!(ids.len() >= least, "{} of {least}", ids.len());
    }
    // The kernel frees them in the background.
    wait_for("the kernel to free what was loaded", Duration::from_secs(20), || loaded.left() == 0);
    // Nothing is pinned either.
    if Path::new("/sys/fs/bpf").is_dir() {
        let pinned = files_in(Path::new("/sys/fs/bpf"));
        assert!(!pinned.iter().any(|name| name.to_string_lossy().contains("kumon")), "{pinned:?}");
    }
}

fn programs() -> BTreeSet<u32> {
    ProgInfoIter::default().map(|info| info.id).collect()
}

#[test]
fn probing_finds_a_strategy_for_each_hook_and_leaves_nothing() {
    if !require_bpf() {
        return;
    }
    let before = programs();
    for collector in collectors(&everything()) {
        for hook in collector.probe() {
            let expected = match hook.event {
                "task" | "task_file" | "bpf_map_elem" => "iter",
                "network interfaces" if kernel_is_at_least(TCX) => "tcx",
                "network interfaces" => "clsact",
                "sock_create" => "cgroup",
                "database servers" => "uprobe",
                "sched_info" => "account",
                event if event.starts_with("sys_") => "tracepoint",
                _ => "tp_btf",
            };
            // Some say after a comma what they are for.
            let strategy =
                hook.strategy.map(|strategy| strategy.split_once(',').map_or(strategy, |(name, _)| name));
            assert_eq!(strategy, Ok(expected), "{}", hook.event);
        }
    }
    let probes =
        || ProgInfoIter::default().filter(|info| info.name == "kumon_probe" && !before.contains(&info.id));
    wait_for("the probes to be gone", Duration::from_secs(20), || probes().count() == 0);
}
