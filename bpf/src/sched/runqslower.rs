//! Rows of runqslower.

use kumon_collect::{PollContext, Process, Subject};
use kumon_schema::rows;

use super::skeleton::types;
use crate::active::EventRows;
use crate::events;

/// Of who had the CPU before, where that was not shown: `UNKNOWN_PID` of sched.bpf.c.
const UNKNOWN_PID: u32 = u32::MAX;

/// Makes the rows of runqslower.
pub(super) struct Runqslower;

impl EventRows for Runqslower {
    fn emit(&mut self, event: &[u8], context: &mut PollContext<'_>) {
        // SAFETY: struct slow_wait holds integers and arrays of them only.
        let Some(wait) = (unsafe { events::read::<types::slow_wait>(event) }) else { return };
        let row = rows::Runqslower {
            timestamp: context.clock.wall(wait.time),
            tid: wait.tid.into(),
            thread_name: events::name(&wait.thread_name),
            wait: wait.wait,
            cpu: wait.cpu.into(),
            throttled: wait.throttled != 0,
            previous_pid: (wait.previous_pid != UNKNOWN_PID).then_some(wait.previous_pid.into()),
            previous_name: events::name(&wait.previous_name),
        };
        let process = Process {
            pid: wait.pid,
            start: wait.start,
            name: events::name(&wait.name),
            cgroup: wait.cgroup,
            seen: wait.time,
            ..Process::default()
        };
        context.emitter.emit(&row, &Subject::Process(process));
    }
}
