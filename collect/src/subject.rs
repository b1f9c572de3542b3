//! Whom a row is about.

use kumon_schema::SubjectFields;

use crate::top::OTHER;
use crate::{CgroupNames, Containers, Entities};

/// Whom a row is about. What follows from it, such as the container, is looked up at one place for all metrics.
#[derive(Debug, Clone, Copy)]
pub enum Subject<'a> {
    /// The node, or something on it that is no process, such as a disk.
    Node,
    /// A process that is not known.
    Unknown,
    /// All processes together that have no row of their own.
    Others,
    Cgroup {
        /// The inode of its folder in cgroup v2.
        id: u64,
        /// When it was there, ns of CLOCK_BOOTTIME.
        seen: u64,
    },
    /// A cgroup that has no folder in cgroup v2.
    CgroupOfV1 {
        /// From the root of its hierarchy.
        path: &'a str,
    },
    Process(Process<'a>),
}

/// A process as a kernel event names it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Process<'a> {
    /// The thread group id in the initial pid namespace.
    pub pid: u32,
    /// When it was started, ns of CLOCK_BOOTTIME.
    pub start: u64,
    /// The kernel's `comm`.
    pub name: &'a [u8],
    /// The real user id, where the event tells it.
    pub uid: Option<u32>,
    /// The real group id, where the event tells it.
    pub gid: Option<u32>,
    /// The inode of its cgroup's folder in cgroup v2.
    pub cgroup: u64,
    /// When it was in that cgroup, ns of CLOCK_BOOTTIME.
    pub seen: u64,
}

/// Looks up what follows from a subject.
#[derive(Debug, Clone)]
pub(crate) struct Resolver {
    pub(crate) entities: Entities,
    pub(crate) containers: Containers,
}

impl Resolver {
    /// Hands the subject's columns to `use_fields`.
    pub(crate) fn resolve<T>(
        &self,
        subject: &Subject<'_>,
        use_fields: impl FnOnce(&SubjectFields<'_>) -> T,
    ) -> T {
        match subject {
            Subject::Node | Subject::Unknown => use_fields(&SubjectFields::default()),
            Subject::Others => use_fields(&SubjectFields { name: OTHER, ..SubjectFields::default() }),
            Subject::Cgroup { id, seen } => {
                let container = self.containers.id(*id, *seen).unwrap_or_default();
                let container_id = container.as_bytes();
                use_fields(&SubjectFields { cgroup_id: Some(*id), container_id, ..SubjectFields::default() })
            }
            Subject::CgroupOfV1 { path } => {
                let container_id = CgroupNames::of(path).container_id.unwrap_or_default().as_bytes();
                use_fields(&SubjectFields { container_id, ..SubjectFields::default() })
            }
            Subject::Process(process) => {
                let container = self.containers.id(process.cgroup, process.seen).unwrap_or_default();
                use_fields(&SubjectFields {
                    entity_id: self.entities.id(process.pid, process.start).as_bytes(),
                    pid: Some(process.pid.into()),
                    name: process.name,
                    uid: process.uid.map(Into::into),
                    gid: process.gid.map(Into::into),
                    cgroup_id: Some(process.cgroup),
                    container_id: container.as_bytes(),
                })
            }
        }
    }
}
