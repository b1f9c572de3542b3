//! Which processes work on a spool folder: collecting and shipping may be two, and neither is to be observed.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::file::{open, open_with};
use crate::lock;

/// The folder of the announcements.
const FOLDER: &str = ".processes";
/// What a crash left behind is removed at this age; a younger one may be on its way to its lock.
const STALE: Duration = Duration::from_secs(60);

/// Tells that this process works on a spool, for as long as it lives: a file whose name has the pid, and a lock on it.
#[derive(Debug)]
pub(crate) struct Announcement {
    path: PathBuf,
    _locked: File,
}

impl Announcement {
    pub(crate) fn make(root: &Path) -> io::Result<Announcement> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let folder = root.join(FOLDER);
        fs::create_dir_all(&folder)?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!("{}-{}-{number}", std::process::id(), pid_namespace()?));
        let file = open_with(OpenOptions::new().create(true).truncate(false).read(true).write(true), &path)?;
        lock::lock_for_reading(&file)?;
        Ok(Announcement { path, _locked: file })
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        // Without its lock it tells nothing; the next reader removes it.
        let _ = fs::remove_file(&self.path);
    }
}

/// The ids of the processes that work on the spool, as this one's pid namespace sees them; those of other namespaces are
/// left out.
pub(crate) fn processes(root: &Path) -> io::Result<Vec<u32>> {
    let namespace = pid_namespace()?.to_string();
    let mut processes = Vec::new();
    for entry in fs::read_dir(root.join(FOLDER))? {
        let entry = entry?;
        let name = entry.file_name();
        let mut parts = name.to_str().unwrap_or_default().split('-');
        let (pid, of) = (parts.next().and_then(|pid| pid.parse().ok()), parts.next());
        let Some(pid) = pid.filter(|_| of == Some(&namespace)) else { continue };
        match open(&entry.path()) {
            Ok(file) if lock::is_read_locked(&file)? => processes.push(pid),
            Ok(_) => remove_stale(&entry),
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => return Err(e),
            // Gone meanwhile, or what somebody put there and no process made.
            Err(_) => {}
        }
    }
    processes.sort_unstable();
    processes.dedup();
    Ok(processes)
}

/// A file that can't be removed is looked at again, no more.
fn remove_stale(entry: &fs::DirEntry) {
    let age = entry.metadata().and_then(|metadata| metadata.modified()).map(|time| time.elapsed());
    if matches!(age, Ok(Ok(age)) if age > STALE) {
        let _ = fs::remove_file(entry.path());
    }
}

fn pid_namespace() -> io::Result<u64> {
    fs::metadata("/proc/self/ns/pid").map(|namespace| namespace.ino())
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::{Announcement, FOLDER, pid_namespace, processes};

    #[test]
    fn a_process_is_told_as_long_as_one_of_its_announcements_lives() {
        let root = tempfile::tempdir().unwrap();
        let own = std::process::id();
        let first = Announcement::make(root.path()).unwrap();
        let second = Announcement::make(root.path()).unwrap();
        assert_eq!(processes(root.path()).unwrap(), [own]);
        drop(first);
        assert_eq!(processes(root.path()).unwrap(), [own]);
        drop(second);
        assert_eq!(processes(root.path()).unwrap(), [0; 0]);
    }

    #[test]
    fn what_a_crash_left_and_what_others_put_there_tell_nothing() {
        let root = tempfile::tempdir().unwrap();
        drop(Announcement::make(root.path()).unwrap());
        for name in [format!("1-{}-0", pid_namespace().unwrap()), "1".into(), "x-y-z".into(), "-".into()] {
            File::create(root.path().join(FOLDER).join(name)).unwrap();
        }
        let planted = root.path().join(FOLDER).join(format!("2-{}-0", pid_namespace().unwrap()));
        std::os::unix::fs::symlink(root.path().join("victim"), &planted).unwrap();
        let next = Announcement::make(root.path()).unwrap();
        let planted = next.path.with_file_name(format!("3-{}-0", pid_namespace().unwrap()));
        assert!(std::process::Command::new("mkfifo").arg(planted).status().unwrap().success());
        assert_eq!(processes(root.path()).unwrap(), [std::process::id()]);
        assert!(!root.path().join("victim").exists());
        drop(next);
        assert_eq!(processes(root.path()).unwrap(), [0; 0]);
    }
}
