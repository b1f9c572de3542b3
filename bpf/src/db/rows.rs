//! From the events of db.bpf.c to rows.

use std::borrow::Cow;

use kumon_collect::{PollContext, Process, Subject};
use kumon_schema::rows;

use super::mask::{self, Dialect};
use super::skeleton::types;
use crate::active::EventRows;
use crate::events;

/// Makes the rows of dbslower.
pub(super) struct Rows {
    /// Whether literals in statements are masked.
    pub(super) mask: bool,
}

impl EventRows for Rows {
    fn emit(&mut self, event: &[u8], context: &mut PollContext<'_>) {
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
        let row = rows::Dbslower {
            timestamp: context.clock.wall(header.time),
            tid: header.tid.into(),
            database: database.as_bytes(),
            duration: header.duration,
            statement: &statement,
            truncated: header.truncated != 0,
        };
        let process = Process {
            pid: header.pid,
            start: header.start,
            name: events::name(&header.name),
            cgroup: header.cgroup,
            seen: header.time,
            ..Process::default()
        };
        context.emitter.emit(&row, &Subject::Process(process));
    }
}

#[cfg(test)]
mod tests {
    use kumon_collect::capture::Capture;

    use super::{Rows, types};
    use crate::active::EventRows;
    use crate::events::{comm, event_bytes};

    fn statement(mask: bool, database: types::database) -> [String; 2] {
        let text = b"SELECT * FROM t WHERE name = 'Ada'";
        let (statement_bytes, name) = (text.len() as u32, comm(b"mariadbd"));
        let head =
            types::statement_event { database, statement_bytes, name, duration: 9, ..Default::default() };
        let mut capture = Capture::new();
        capture.poll(false, |context| Rows { mask }.emit(&event_bytes(&head, text), context));
        let row = &capture.rows("dbslower")[0];
        assert_eq!((row["duration"].as_str(), row["name"].as_str()), ("9", "mariadbd"));
        [row["database"].clone(), row["statement"].clone()]
    }

    #[test]
    fn literals_are_masked_unless_the_setting_says_otherwise() {
        let [database, statement] =
            [true, false].map(|mask| statement(mask, types::database::DATABASE_POSTGRESQL));
        assert_eq!(
            (database[0].as_str(), database[1].as_str()),
            ("postgresql", "SELECT * FROM t WHERE name = ?")
        );
        assert_eq!(statement[1], "SELECT * FROM t WHERE name = 'Ada'");
    }
}
