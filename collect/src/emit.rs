//! How rows are given away.

use std::sync::Arc;

use kumon_schema::Row;
use kumon_spool::{RowBatch, Spool};

use crate::clock::boottime;
use crate::coarse::Coarse;
use crate::subject::Resolver;
use crate::{Names, Subject};

/// Takes the rows that collectors emit.
pub trait RowSink {
    /// Takes all rows out of the batch.
    fn take(&mut self, batch: &mut RowBatch);
}

impl RowSink for Spool {
    fn take(&mut self, batch: &mut RowBatch) {
        self.append(batch);
    }
}

/// Emits rows, and fills in whom they are about.
pub struct Emitter<'a> {
    pub(crate) batch: &'a mut RowBatch,
    pub(crate) coarse: &'a mut Coarse,
    pub(crate) sink: &'a mut dyn RowSink,
    pub(crate) resolver: &'a Resolver,
}

/// A batch is given away once it holds so many bytes: a storm of events must not grow it.
const BATCH_BYTES: usize = 1 << 20;

impl Emitter<'_> {
    /// Emits a row about `subject`.
    pub fn emit<R: Row>(&mut self, row: &R, subject: &Subject<'_>) {
        self.resolver.resolve(subject, |fields| {
            self.batch.append(row, fields);
            self.coarse.add(row, fields, self.batch);
        });
        if self.batch.bytes() >= BATCH_BYTES {
            self.sink.take(self.batch);
        }
    }

    /// The id of another process that a row names beside its subject; see [`crate::Entities::id`].
    pub fn entity_id(&self, pid: u32, start: u64) -> String {
        self.resolver.entities.id(pid, start)
    }

    /// Who runs in a cgroup, for messages; see [`crate::Cgroups::names`].
    pub fn names(&self, cgroup: u64) -> Arc<Names> {
        self.resolver.cgroups.names(cgroup, boottime())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kumon_schema::Common;
    use kumon_schema::rows::Tcplife;
    use kumon_spool::RowBatch;

    use super::{Emitter, RowSink};
    use crate::capture::{Capture, CapturedRow};
    use crate::coarse::Coarse;
    use crate::subject::Resolver;
    use crate::{Cgroups, Entities, Process, Subject};

    #[derive(Default)]
    struct Taken(Vec<u8>);

    impl RowSink for Taken {
        fn take(&mut self, batch: &mut RowBatch) {
            self.0.extend_from_slice(batch.split().records("tcplife"));
        }
    }

    /// The columns of a row about `subject`.
    fn row(subject: &Subject<'_>) -> CapturedRow {
        let mut capture = Capture::new();
        let row = Tcplife { transport: b"tcp", ..Tcplife::default() };
        capture.poll(false, |context| context.emitter.emit(&row, subject));
        let mut row = capture.rows("tcplife").remove(0);
        row.retain(|_, value| value != "0");
        row
    }

    #[test]
    fn a_row_tells_of_its_subject_what_its_metric_has_columns_for() {
        let process =
            Process { pid: 7, start: 0, name: b"curl", uid: Some(3), gid: Some(4), cgroup: 5, seen: 0 };
        let about = row(&Subject::Process(process));
        let text = |column: &str| about.get(column).map(String::as_str);
        assert_eq!(
            [text("pid"), text("name"), text("uid"), text("cgroup_id")],
            [Some("7"), Some("curl"), Some("3"), Some("5")]
        );
        let entity = Entities::of_this_boot().unwrap().id(7, 0);
        assert_eq!(
            (text("entity_id"), text("container_id"), text("gid")),
            (Some(entity.as_str()), None, None)
        );
        let only_of = |subject| row(&subject).keys().cloned().collect::<Vec<_>>();
        let same = ["timestamp", "transport"];
        assert_eq!(only_of(Subject::Node), same);
        assert_eq!(only_of(Subject::Unknown), same);
        assert_eq!(only_of(Subject::Others), ["name", "timestamp", "transport"]);
        assert_eq!(only_of(Subject::Cgroup { id: 5, seen: 0 }), ["cgroup_id", "timestamp", "transport"]);
    }

    #[test]
    fn a_storm_of_rows_is_given_away_in_parts() {
        let resolver = Resolver::new(Cgroups::of_this_node()).unwrap();
        let (mut batch, mut taken) = (RowBatch::new(Arc::new(Common::default())), Taken::default());
        let mut coarse = Coarse::default();
        let mut emitter =
            Emitter { batch: &mut batch, coarse: &mut coarse, sink: &mut taken, resolver: &resolver };
        let error = [b'x'; 1000];
        (0..5000)
            .for_each(|_| emitter.emit(&Tcplife { error: &error, ..Tcplife::default() }, &Subject::Node));
        assert!(batch.bytes() < 2 << 20, "{} bytes wait", batch.bytes());
        let rows = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'\n').count();
        assert_eq!(rows(&taken.0) + rows(batch.records("tcplife")), 5000);
    }
}
