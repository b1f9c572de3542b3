//! From the events of db.bpf.c to rows.

use std::borrow::Cow;

use kumon_schema::rows;
use kumon_spool::Spool;

use super::mask::{self, Dialect};
use super::skeleton::types;
use crate::containers::Containers;
use crate::started::EventRows;
use crate::{Clock, Entities, events};

/// Makes the rows of dbslower.
pub(super) struct Rows {
    pub(super) entities: Entities,
    pub(super) containers: Containers,
    /// Whether literals in statements are masked.
    pub(super) mask: bool,
}

impl EventRows for Rows {
    fn append(&mut self, event: &[u8], clock: &Clock, spool: &mut Spool) {
        // SAFETY: the type has integers, arrays of them, and enums that are integers in the skeleton.
        let Some(header) = (unsafe { events::read::<types::statement_event>(event) }) else { return };
        let text = &event[size_of::<types::statement_event>()..];
        let text = &text[..text.len().min(header.statement_bytes as usize)];
        let (database, dialect) = match header.database {
            types::database::DATABASE_POSTGRESQL => ("postgresql", Dialect::PostgreSql),
            types::database::DATABASE_MYSQL => ("mysql", Dialect::MariaDb),
            _ => ("mariadb", Dialect::MariaDb),
        };
        let statement =
            if self.mask { Cow::Owned(mask::literals(text, dialect)) } else { Cow::Borrowed(text) };
        spool.append(&rows::Dbslower {
            timestamp: clock.wall(header.time),
            entity_id: self.entities.id(header.pid, header.start).as_bytes(),
            pid: header.pid.into(),
            name: events::name(&header.name),
            tid: header.tid.into(),
            database: database.as_bytes(),
            duration: header.duration,
            statement: &statement,
            truncated: header.truncated != 0,
            cgroup_id: Some(header.cgroup),
            container_id: self.containers.id(header.cgroup, header.time).unwrap_or_default().as_bytes(),
        });
    }
}
