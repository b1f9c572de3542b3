//! Rows of runqslower.

use kumon_schema::rows;
use kumon_spool::Spool;

use super::skeleton::{SchedSkel, types};
use crate::events::{self, Events};
use crate::{Clock, Entities};

pub(super) struct Runqslower {
    events: Events,
    entities: Entities,
}

impl Runqslower {
    pub(super) fn new(skeleton: &SchedSkel<'static>, entities: Entities) -> libbpf_rs::Result<Runqslower> {
        Ok(Runqslower { events: Events::new(&skeleton.maps.events)?, entities })
    }

    pub(super) fn poll(&mut self, clock: &Clock, last: bool, spool: &mut Spool) -> libbpf_rs::Result<()> {
        let entities = &self.entities;
        self.events.take(last, |event| {
            // SAFETY: struct slow_wait holds integers and arrays of them only.
            if let Some(wait) = unsafe { events::read::<types::slow_wait>(event) } {
                append(&wait, entities, clock, spool);
            }
        })
    }
}

fn append(wait: &types::slow_wait, entities: &Entities, clock: &Clock, spool: &mut Spool) {
    spool.append(&rows::Runqslower {
        timestamp: clock.wall(wait.time),
        entity_id: entities.id(wait.pid, wait.start).as_bytes(),
        pid: wait.pid.into(),
        name: events::name(&wait.name),
        tid: wait.tid.into(),
        thread_name: events::name(&wait.thread_name),
        wait: wait.wait,
        cpu: wait.cpu.into(),
        previous_pid: wait.previous_pid.into(),
        previous_name: events::name(&wait.previous_name),
    });
}
