//! Whom a row is about.

use std::io;

use kumon_schema::SubjectFields;

use crate::top::OTHER;
use crate::users::NodeUsers;
use crate::{Cgroups, Entities};

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

/// Looks up what follows from a subject: its names.
#[derive(Clone)]
pub(crate) struct Resolver {
    pub(crate) entities: Entities,
    pub(crate) cgroups: Cgroups,
    pub(crate) users: NodeUsers,
}

impl Resolver {
    pub(crate) fn new(cgroups: Cgroups) -> io::Result<Resolver> {
        Ok(Resolver { entities: Entities::of_this_boot()?, cgroups, users: NodeUsers::of_this_node() })
    }

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
                let names = self.cgroups.names(*id, *seen);
                use_fields(&SubjectFields { cgroup_id: Some(*id), ..names.fields() })
            }
            Subject::CgroupOfV1 { path } => use_fields(&self.cgroups.names_by_path(path).fields()),
            Subject::Process(process) => {
                let names = self.cgroups.names(process.cgroup, process.seen);
                let user = process.uid.and_then(|uid| names.user(uid, &self.users));
                use_fields(&SubjectFields {
                    entity_id: self.entities.id(process.pid, process.start).as_bytes(),
                    pid: Some(process.pid.into()),
                    name: process.name,
                    uid: process.uid.map(Into::into),
                    user_name: user.as_deref().unwrap_or_default().as_bytes(),
                    gid: process.gid.map(Into::into),
                    cgroup_id: Some(process.cgroup),
                    ..names.fields()
                })
            }
        }
    }
}
