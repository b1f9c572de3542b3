//! Rows of runqslower.

use kumon_schema::rows;
use kumon_spool::Spool;

use super::skeleton::types;
use crate::containers::Containers;
use crate::started::EventRows;
use crate::{Clock, Entities, events};

/// Of who had the CPU before, where that was not shown: `UNKNOWN_PID` of sched.bpf.c.
const UNKNOWN_PID: u32 = u32::MAX;

/// Makes the rows of runqslower.
pub(super) struct Runqslower {
    pub(super) entities: Entities,
    pub(super) containers: Containers,
}

impl EventRows for Runqslower {
    fn append(&mut self, event: &[u8], clock: &Clock, spool: &mut Spool) {
        // SAFETY: struct slow_wait holds integers and arrays of them only.
        if let Some(wait) = unsafe { events::read::<types::slow_wait>(event) } {
            self.wait(&wait, clock, spool);
        }
    }
}

impl Runqslower {
    fn wait(&mut self, wait: &types::slow_wait, clock: &Clock, spool: &mut Spool) {
        spool.append(&rows::Runqslower {
            timestamp: clock.wall(wait.time),
            entity_id: self.entities.id(wait.pid, wait.start).as_bytes(),
            pid: wait.pid.into(),
            name: events::name(&wait.name),
            tid: wait.tid.into(),
            thread_name: events::name(&wait.thread_name),
            wait: wait.wait,
            cpu: wait.cpu.into(),
            throttled: wait.throttled != 0,
            previous_pid: (wait.previous_pid != UNKNOWN_PID).then_some(wait.previous_pid.into()),
            previous_name: events::name(&wait.previous_name),
            cgroup_id: Some(wait.cgroup),
            container_id: self.containers.id(wait.cgroup, wait.time).unwrap_or_default().as_bytes(),
        });
    }
}
