//! Starting and stopping collectors leaves nothing in the kernel.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use common::Collecting;
use kumon_bpf::{Enabled, FileHooks, Settings, collectors};
use kumon_testing::{require_bpf, wait_for};
use libbpf_rs::query::{LinkInfoIter, MapInfoIter, ProgInfoIter, ProgInfoQueryOptions, ProgramInfo};

/// The ids of programs, of the maps they use and of their links.
#[derive(Debug, Default, PartialEq)]
struct Ids {
    programs: BTreeSet<u32>,
    maps: BTreeSet<u32>,
    links: BTreeSet<u32>,
}

impl Ids {
    /// Those of the programs with one of these names that are not in `before`.
    fn since(before: &BTreeSet<u32>, names: &[&str]) -> Ids {
        let mut ids = Ids::default();
        let options = ProgInfoQueryOptions::default().include_map_ids(true);
        let ours =
            |info: &ProgramInfo| names.iter().any(|name| info.name == *name) && !before.contains(&info.id);
        for program in ProgInfoIter::with_query_opts(options).filter(ours) {
            ids.programs.insert(program.id);
            ids.maps.extend(program.map_ids);
        }
        let links = LinkInfoIter::default().filter(|link| ids.programs.contains(&link.prog_id));
        ids.links.extend(links.map(|link| link.id));
        ids
    }

    /// What of it is still in the kernel.
    fn left(&self) -> usize {
        let programs = ProgInfoIter::default().filter(|info| self.programs.contains(&info.id)).count();
        let maps = MapInfoIter::default().filter(|info| self.maps.contains(&info.id)).count();
        let links = LinkInfoIter::default().filter(|info| self.links.contains(&info.id)).count();
        programs + maps + links
    }
}

fn programs() -> BTreeSet<u32> {
    ProgInfoIter::default().map(|info| info.id).collect()
}

#[test]
fn twenty_starts_and_stops_leave_no_program_map_or_link() {
    if !require_bpf() {
        return;
    }
    let mut settings = Settings::default();
    settings.exec.failed = true;
    // The rung that every kernel has.
    settings.file_hooks = FileHooks::Tracepoint;
    settings.filelife.enabled = Enabled::Yes;
    settings.filegone.enabled = Enabled::Yes;
    let collectors: [(&str, &[&str]); 5] = [
        (
            "process",
            &["on_exec", "on_exit", "enter_execve", "exit_execve", "enter_execveat", "exit_execveat"],
        ),
        ("sched", &["newtask", "wakeup", "wakeup_new", "sched_switch", "read_tasks"]),
        ("block", &["issue", "complete"]),
        ("tcp", &["on_state", "find_owner", "on_reset_sent"]),
        (
            "file",
            &[
                "exit_open",
                "exit_openat",
                "exit_openat2",
                "exit_creat",
                "enter_unlink",
                "exit_unlink",
                "enter_unlinkat",
                "exit_unlinkat",
                "enter_rmdir",
                "exit_rmdir",
                "enter_rename",
                "exit_rename",
                "enter_renameat",
                "exit_renameat",
                "enter_renameat2",
                "exit_renameat2",
            ],
        ),
    ];
    for (name, expected) in collectors {
        for _ in 0..20 {
            let before = programs();
            let collecting = Collecting::start(name, settings.clone());
            let ids = Ids::since(&before, expected);
            assert_eq!(
                (ids.programs.len(), ids.links.len()),
                (expected.len(), expected.len()),
                "{name}: {ids:?}"
            );
            assert!(ids.maps.len() >= 3, "{name}: {ids:?}");
            Command::new("true").status().unwrap();
            collecting.stop();
            // The kernel frees them in the background.
            wait_for("the kernel to free what was loaded", Duration::from_secs(20), || ids.left() == 0);
        }
    }
}

#[test]
fn probing_finds_a_strategy_for_each_hook_and_leaves_nothing() {
    if !require_bpf() {
        return;
    }
    let mut settings = Settings::default();
    settings.exec.failed = true;
    // The rung that every kernel has.
    settings.file_hooks = FileHooks::Tracepoint;
    settings.filelife.enabled = Enabled::Yes;
    settings.filegone.enabled = Enabled::Yes;
    let before = programs();
    for collector in collectors(&settings) {
        for hook in collector.probe() {
            let expected = match hook.event {
                "task" | "task_file" => "iter",
                "database servers" => "uprobe",
                event if event.starts_with("sys_") => "tracepoint",
                _ => "tp_btf",
            };
            assert_eq!(hook.strategy, Ok(expected), "{}", hook.event);
        }
    }
    let probes =
        || ProgInfoIter::default().filter(|info| info.name == "kumon_probe" && !before.contains(&info.id));
    wait_for("the probes to be gone", Duration::from_secs(20), || probes().count() == 0);
}
