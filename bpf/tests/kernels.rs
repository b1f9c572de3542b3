//! What is found out about a kernel holds: what it is said to have starts, and what it has not is named.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use common::{TASK_STORAGE, UPROBE_COOKIES, kernel_has_kprobes, kernel_is_at_least};
use kumon_bpf::{Enabled, FileHooks, Settings, collectors};
use kumon_testing::require_bpf;

/// Why a collector doesn't start, as it says it itself and as its hooks say it; None if it starts.
fn refusal(collector: &str, settings: &Settings) -> Option<String> {
    let all = collectors(settings);
    let collector = all.iter().find(|candidate| candidate.name() == collector).unwrap();
    let refused = collector.probe().into_iter().find_map(|hook| hook.strategy.err());
    match (collector.start(), refused) {
        (Ok(_), None) => None,
        (Err(e), Some(reason)) if e.to_string().ends_with(&reason) => Some(reason),
        (Ok(_), Some(reason)) => panic!("{} starts, but is said not to: {reason}", collector.name()),
        (Err(e), reason) => panic!("said of its hooks: {reason:?}, when it starts: {e}"),
    }
}

#[test]
fn every_collector_starts_or_says_what_the_kernel_lacks() {
    if !require_bpf() {
        return;
    }
    for as_on_old_kernels in [false, true] {
        let mut settings = Settings { as_on_old_kernels, ..Settings::default() };
        settings.flow.flow.enabled = true;
        for collector in ["process", "sched", "block", "tcp", "flow", "drop"] {
            assert_eq!(refusal(collector, &settings), None, "{collector}");
        }
    }
    let cookies = "the kernel has no cookies for uprobes (Linux 5.15 and later have them)";
    let expected = (!kernel_is_at_least(UPROBE_COOKIES)).then(|| cookies.to_owned());
    assert_eq!(refusal("db", &Settings::default()), expected);
}

#[test]
fn failed_execs_are_seen_or_it_is_said_what_they_lack() {
    if !require_bpf() {
        return;
    }
    let mut settings = Settings::default();
    settings.process.exec.failed = true;
    let all = collectors(&settings);
    let process = all.iter().find(|collector| collector.name() == "process").unwrap();
    let hooks = process.probe();
    let calls: Vec<_> = hooks.iter().filter(|hook| hook.event.starts_with("sys_")).collect();
    assert_eq!(calls.len(), 4);
    for call in calls {
        let lacks = call.strategy.as_ref().err().map(String::as_str);
        assert_eq!(lacks, (!kernel_is_at_least(TASK_STORAGE)).then_some(NO_TASK_STORAGE), "{}", call.event);
    }
    assert!(process.start().is_ok(), "exec and exit go on without them");
}

const NO_TASK_STORAGE: &str =
    "the kernel has no task storage for tracing programs (Linux 5.12 and later have it)";

#[test]
fn the_file_metrics_start_by_all_hooks_but_those_that_are_refused_with_the_reason() {
    if !require_bpf() {
        return;
    }
    let start_by = |hooks| {
        let mut settings = Settings::default();
        settings.file.file_hooks = hooks;
        settings.file.filelife.enabled = Enabled::Yes;
        settings.file.filegone.enabled = Enabled::Yes;
        refusal("file", &settings)
    };
    assert_eq!(start_by(FileHooks::Auto), None);
    assert_eq!(start_by(FileHooks::Tracepoint), None);
    for hooks in [FileHooks::Fentry, FileHooks::Kprobe] {
        let refused = start_by(hooks);
        if !kernel_is_at_least(TASK_STORAGE) {
            assert_eq!(refused.as_deref(), Some(NO_TASK_STORAGE), "{hooks:?}");
        } else if kernel_has_kprobes() {
            assert_eq!(refused, None, "{hooks:?}");
        } else {
            assert!(refused.is_some(), "a kernel without kprobes is not expected to have {hooks:?}");
        }
    }
}
