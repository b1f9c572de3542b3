//! From the events of file.bpf.c to rows.

use std::collections::HashMap;

use kumon_collect::{Loss, PollContext, Process, Subject};
use kumon_schema::rows;

use super::FILELIFE;
use super::files::{Creation, Files};
use super::skeleton::types::{self, action as kind, told};
use super::uring::UringCalls;
use crate::active::EventRows;
use crate::budget::Maker;
use crate::losses::RATE_LIMIT;
use crate::{events, path};

/// Makes the rows of filelife and filegone.
pub(super) struct Rows {
    /// What was created lately; none without filelife.
    files: Option<Files>,
    /// Where calls by io_uring are not seen.
    uring_calls: Option<UringCalls>,
    /// KuMon's own mount namespace, in which it can follow symbolic links; 0 where that is unknown.
    mount_namespace: u32,
    /// Rows of filelife that its sample left out.
    sampled_out: u64,
    /// Those for which its budget had no room.
    rate_limited: u64,
    /// Who made them, since it was asked.
    makers: HashMap<Maker, u64>,
}

impl EventRows for Rows {
    fn emit(&mut self, event: &[u8], context: &mut PollContext<'_>) {
        // SAFETY: the type is integers and arrays of them.
        let Some(head) = (unsafe { events::read::<types::file_event>(event) }) else { return };
        let [old, new] = paths(&head, &event[size_of::<types::file_event>()..]);
        if is_told(&head, told::TOLD_FILEGONE) {
            emit_filegone(&head, &old, &new, context);
        }
        // A path that isn't known to its root could be taken for another one.
        if head.incomplete == 0
            && let Some(mut files) = self.files.take()
        {
            self.follow(&mut files, &head, old, new, context);
            self.files = Some(files);
        }
    }

    fn losses(&self) -> Vec<Loss> {
        let loss = |reason, count| Loss { metric: FILELIFE, reason, count };
        let mut losses = self.uring_calls.as_ref().map(UringCalls::losses).unwrap_or_default();
        if let Some(files) = &self.files {
            losses.extend([loss("too many files", files.lost()), loss("sampled out", self.sampled_out)]);
            losses.push(loss(RATE_LIMIT, self.rate_limited));
        }
        losses
    }

    fn take_rate_limited(&mut self) -> Vec<(Maker, Loss)> {
        let loss = |count| Loss { metric: FILELIFE, reason: RATE_LIMIT, count };
        self.makers.drain().map(|(maker, rows)| (maker, loss(rows))).collect()
    }
}

impl Rows {
    pub(super) fn new(files: Option<Files>, uring_calls: Option<UringCalls>, mount_namespace: u32) -> Rows {
        Rows { files, uring_calls, mount_namespace, sampled_out: 0, rate_limited: 0, makers: HashMap::new() }
    }

    /// Keeps track of what was created, and tells of what was deleted.
    fn follow(
        &mut self,
        files: &mut Files,
        event: &types::file_event,
        old: Vec<u8>,
        new: Vec<u8>,
        context: &mut PollContext<'_>,
    ) {
        let namespace = event.mount_namespace;
        if event.action == kind::ACTION_CREATE {
            let name = events::name(&event.name).to_vec();
            let creation = Creation { time: event.time, pid: event.pid, start: event.start, name };
            return files.created(namespace, old, creation);
        }
        if files.is_empty() {
            return;
        }
        let exact = event.exact != 0;
        let old = if exact { old } else { self.place(files, namespace, old) };
        match event.action {
            kind::ACTION_UNLINK => {
                if let Some(creation) = files.deleted(namespace, &old, event.time) {
                    self.filelife(event, b"unlink", &old, &creation, context);
                }
            }
            kind::ACTION_RENAME => {
                let new = if exact { new } else { self.followed(namespace, &new).unwrap_or(new) };
                // Where both are the same file, the kernel does nothing.
                if old == new {
                    return;
                }
                if let Some(creation) = files.deleted(namespace, &new, event.time) {
                    self.filelife(event, b"replace", &new, &creation, context);
                }
                files.renamed(namespace, &old, &new);
            }
            kind::ACTION_EXCHANGE => {
                let new = if exact { new } else { self.place(files, namespace, new) };
                files.exchanged(namespace, &old, &new);
            }
            _ => {}
        }
    }

    /// The path under which a file is remembered: that of a creation has no symbolic links.
    fn place(&self, files: &Files, namespace: u32, path: Vec<u8>) -> Vec<u8> {
        if files.knows(namespace, &path) {
            return path;
        }
        self.followed(namespace, &path).unwrap_or(path)
    }

    fn followed(&self, namespace: u32, path: &[u8]) -> Option<Vec<u8>> {
        (namespace == self.mount_namespace).then(|| path::followed(path))?
    }

    fn filelife(
        &mut self,
        event: &types::file_event,
        action: &[u8],
        path: &[u8],
        creation: &Creation,
        context: &mut PollContext<'_>,
    ) {
        if !is_told(event, told::TOLD_FILELIFE) {
            return;
        }
        if is_told(event, told::TOLD_SAMPLED_OUT) {
            self.sampled_out += 1;
            return;
        }
        if is_told(event, told::TOLD_RATE_LIMITED) {
            self.rate_limited += 1;
            *self.makers.entry(maker(event)).or_default() += 1;
            return;
        }
        let creator_entity_id = context.emitter.entity_id(creation.pid, creation.start);
        let row = rows::Filelife {
            timestamp: context.clock.wall(event.time),
            action,
            path,
            age: event.time.saturating_sub(creation.time),
            size: size(event),
            creator_entity_id: creator_entity_id.as_bytes(),
            creator_pid: creation.pid.into(),
            creator_name: &creation.name,
        };
        context.emitter.emit(&row, &subject(event));
    }
}

fn emit_filegone(event: &types::file_event, old: &[u8], new: &[u8], context: &mut PollContext<'_>) {
    let (action, new_path): (&[u8], &[u8]) = match event.action {
        kind::ACTION_RMDIR => (b"rmdir", b""),
        kind::ACTION_RENAME => (b"rename", new),
        kind::ACTION_EXCHANGE => (b"exchange", new),
        _ => (b"unlink", b""),
    };
    let row = rows::Filegone {
        timestamp: context.clock.wall(event.time),
        action,
        path: old,
        new_path,
        incomplete: Some(event.incomplete != 0),
        size: size(event),
    };
    context.emitter.emit(&row, &subject(event));
}

fn subject(event: &types::file_event) -> Subject<'_> {
    Subject::Process(Process {
        pid: event.pid,
        start: event.start,
        name: events::name(&event.name),
        uid: Some(event.uid),
        gid: Some(event.gid),
        cgroup: event.cgroup,
        seen: event.time,
    })
}

fn maker(event: &types::file_event) -> Maker {
    Maker { cgroup: event.cgroup, process: event.pid, name: events::name(&event.name).to_vec() }
}

fn is_told(event: &types::file_event, row: told) -> bool {
    event.told.0 & row.0 != 0
}

/// The size of what is gone, where the kernel told it.
fn size(event: &types::file_event) -> Option<u64> {
    event.size.try_into().ok()
}

/// The event's two paths; the second one is `/` where there is none.
fn paths(event: &types::file_event, mut text: &[u8]) -> [Vec<u8>; 2] {
    [0, 1].map(|which| {
        let mut part = |bytes: u32| {
            let (part, rest) = text.split_at((bytes as usize).min(text.len()));
            text = rest;
            part
        };
        let given = part(event.path_bytes[which]);
        let folder = part(event.folder_bytes[which]);
        path::absolute(folder, given.strip_suffix(b"\0").unwrap_or(given))
    })
}

#[cfg(test)]
mod tests {
    use kumon_collect::capture::{Capture, CapturedRow};

    use super::{Files, Rows, types};
    use crate::active::EventRows;
    use crate::events::{comm, event_bytes};
    use crate::file::FilelifeSettings;

    fn rows() -> Rows {
        // In a mount namespace of nobody's, so that no path is looked up here.
        Rows::new(Some(Files::new(&FilelifeSettings::default())), None, 0)
    }

    /// An event of process `pid` at `time`, its paths as given by the caller from `/`.
    fn event(action: types::action, pid: u32, time: u64, paths: [&str; 2]) -> Vec<u8> {
        let given =
            paths.map(|path| if path.is_empty() { Vec::new() } else { [path.as_bytes(), b"\0"].concat() });
        // A creation is filelife's alone.
        let of_filegone =
            if action == types::action::ACTION_CREATE { 0 } else { types::told::TOLD_FILEGONE.0 };
        let told = types::told::TOLD_FILELIFE.0 | of_filegone;
        let head = types::file_event {
            action,
            told: types::told(told),
            pid,
            mount_namespace: 1,
            exact: 1,
            time,
            size: 42,
            name: comm(b"rm"),
            path_bytes: given.each_ref().map(|path| path.len() as u32),
            ..Default::default()
        };
        event_bytes(&head, &given.concat())
    }

    fn texts<'a>(row: &'a CapturedRow, columns: &[&str]) -> Vec<&'a str> {
        columns.iter().map(|column| row.get(*column).map_or("", String::as_str)).collect()
    }

    #[test]
    fn a_short_lived_file_is_followed_over_renames_and_names_who_made_it() {
        let (mut rows, mut capture) = (rows(), Capture::new());
        capture.poll(false, |context| {
            rows.emit(&event(types::action::ACTION_CREATE, 7, 1_000, ["/tmp/a", ""]), context);
            rows.emit(&event(types::action::ACTION_RENAME, 8, 2_000, ["/tmp/a", "/tmp/b"]), context);
            rows.emit(&event(types::action::ACTION_UNLINK, 9, 5_000, ["/tmp/b", ""]), context);
        });
        let gone = capture.rows("filegone");
        let columns = ["action", "path", "new_path", "pid", "size"];
        assert_eq!(gone.len(), 2);
        assert_eq!(texts(&gone[0], &columns), ["rename", "/tmp/a", "/tmp/b", "8", "42"]);
        assert_eq!(texts(&gone[1], &columns), ["unlink", "/tmp/b", "", "9", "42"]);
        let lives = capture.rows("filelife");
        assert_eq!(lives.len(), 1);
        let columns = ["action", "path", "age", "pid", "creator_pid", "creator_name"];
        assert_eq!(texts(&lives[0], &columns), ["unlink", "/tmp/b", "4000", "9", "7", "rm"]);
    }

    #[test]
    fn a_file_that_is_renamed_over_is_replaced() {
        let (mut rows, mut capture) = (rows(), Capture::new());
        capture.poll(false, |context| {
            rows.emit(&event(types::action::ACTION_CREATE, 7, 1_000, ["/tmp/old", ""]), context);
            rows.emit(&event(types::action::ACTION_CREATE, 7, 2_000, ["/tmp/new", ""]), context);
            rows.emit(&event(types::action::ACTION_RENAME, 7, 3_000, ["/tmp/new", "/tmp/old"]), context);
        });
        let lives = capture.rows("filelife");
        assert_eq!(texts(&lives[0], &["action", "path", "age"]), ["replace", "/tmp/old", "2000"]);
        assert_eq!(lives.len(), 1, "what replaced it lives on");
    }
}
