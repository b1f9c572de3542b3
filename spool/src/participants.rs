//! Which processes work on a spool folder: collecting and shipping may be two, and neither is to be observed.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crate::file::{open, open_with};
use crate::lock;

/// The folder in which they say that they are there.
const FOLDER: &str = ".processes";
/// What a crash left behind is removed at this age; a younger one may be on its way to its lock.
const STALE: Duration = Duration::from_secs(60);
/// How often it is looked up who works on a spool.
const INTERVAL: Duration = Duration::from_secs(1);
/// Two changes of a folder have two times when there is more than that between them, on the coarsest file systems too.
const SETTLED: Duration = Duration::from_secs(3);

/// Tells that this process works on a spool, for as long as it lives: a file whose name has the pid, and a lock on it.
#[derive(Debug)]
pub(crate) struct Presence {
    path: PathBuf,
    _locked: File,
}

impl Presence {
    pub(crate) fn make(root: &Path) -> io::Result<Presence> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let folder = root.join(FOLDER);
        fs::create_dir_all(&folder)?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!("{}-{}-{number}", std::process::id(), pid_namespace()?));
        let file = open_with(OpenOptions::new().create(true).truncate(false).read(true).write(true), &path)?;
        lock::lock_for_reading(&file)?;
        Ok(Presence { path, _locked: file })
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        // Without its lock it tells nothing; the next reader removes it.
        let _ = fs::remove_file(&self.path);
    }
}

/// Looks up the processes that work on a spool, again and again.
#[derive(Debug, Default)]
pub(crate) struct Processes {
    found: Vec<u32>,
    looked_up: Option<Instant>,
    /// When the folder was changed last, where no other process stood in it: nobody comes without changing it.
    alone_since: Option<SystemTime>,
}

impl Processes {
    /// Their ids, as this one's pid namespace sees them; those of other namespaces are left out. One that has worked on it
    /// stays among them until it ends. Looked up once a second; where they can't be looked up, those that were found last.
    pub(crate) fn of(&mut self, root: &Path) -> &[u32] {
        if self.looked_up.is_none_or(|looked_up| looked_up.elapsed() >= INTERVAL) {
            self.looked_up = Some(Instant::now());
            let _ = self.look_up(root);
        }
        &self.found
    }

    fn look_up(&mut self, root: &Path) -> io::Result<()> {
        let folder = root.join(FOLDER);
        let (changed, now) = (fs::metadata(&folder)?.modified()?, SystemTime::now());
        if self.alone_since == Some(changed) {
            return Ok(());
        }
        let namespace = pid_namespace()?.to_string();
        let (mut processes, mut alone) = (Vec::new(), true);
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let mut parts = name.to_str().unwrap_or_default().split('-');
            let (pid, of) = (parts.next().and_then(|pid| pid.parse().ok()), parts.next());
            let Some(pid) = pid.filter(|_| of == Some(&namespace)) else { continue };
            // Whoever made this one, its id is this process's now.
            if pid == std::process::id() {
                processes.push(pid);
                continue;
            }
            // Even without its lock, which may be about to come.
            alone = false;
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
        // A process gives up its presence first and ends a little later: its end is no more to be observed than the rest.
        let mut ending = self.found.clone();
        ending.retain(|pid| !processes.contains(pid) && is_alive(*pid));
        let alone = alone && ending.is_empty();
        processes.extend(ending);
        let settled = now.duration_since(changed).is_ok_and(|age| age > SETTLED);
        self.alone_since = (alone && settled).then_some(changed);
        self.found = processes;
        Ok(())
    }
}

/// Not knowing of a process is an answer; any other one is of a process that is there.
fn is_alive(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

/// A file that can't be removed is looked at again, no more.
fn remove_stale(entry: &fs::DirEntry) {
    let age = entry.metadata().and_then(|metadata| metadata.modified()).map(|time| time.elapsed());
    if matches!(age, Ok(Ok(age)) if age > STALE) {
        let _ = fs::remove_file(entry.path());
    }
}

/// A process never changes its own (pid_namespaces(7)), so that it is asked for once.
fn pid_namespace() -> io::Result<u64> {
    static NAMESPACE: OnceLock<u64> = OnceLock::new();
    if let Some(namespace) = NAMESPACE.get() {
        return Ok(*namespace);
    }
    let namespace = fs::metadata("/proc/self/ns/pid")?.ino();
    Ok(*NAMESPACE.get_or_init(|| namespace))
}

#[cfg(test)]
mod tests {
    use std::fs::{File, FileTimes};
    use std::path::Path;
    use std::process::Command;
    use std::time::{Duration, SystemTime};

    use super::{FOLDER, Presence, Processes, lock, pid_namespace};

    fn processes(root: &Path) -> Vec<u32> {
        look_up(&mut Processes::default(), root)
    }

    fn look_up(processes: &mut Processes, root: &Path) -> Vec<u32> {
        processes.look_up(root).unwrap();
        processes.found.clone()
    }

    #[test]
    fn a_process_is_told_as_long_as_one_of_its_presences_lives() {
        let root = tempfile::tempdir().unwrap();
        let own = std::process::id();
        let first = Presence::make(root.path()).unwrap();
        let second = Presence::make(root.path()).unwrap();
        assert_eq!(processes(root.path()), [own]);
        drop(first);
        assert_eq!(processes(root.path()), [own]);
        drop(second);
        assert_eq!(processes(root.path()), [0; 0]);
    }

    #[test]
    fn what_a_crash_left_and_what_others_put_there_tell_nothing() {
        let root = tempfile::tempdir().unwrap();
        drop(Presence::make(root.path()).unwrap());
        for name in [format!("1-{}-0", pid_namespace().unwrap()), "1".into(), "x-y-z".into(), "-".into()] {
            File::create(root.path().join(FOLDER).join(name)).unwrap();
        }
        let planted = root.path().join(FOLDER).join(format!("2-{}-0", pid_namespace().unwrap()));
        std::os::unix::fs::symlink(root.path().join("victim"), &planted).unwrap();
        let next = Presence::make(root.path()).unwrap();
        let planted = next.path.with_file_name(format!("3-{}-0", pid_namespace().unwrap()));
        assert!(std::process::Command::new("mkfifo").arg(planted).status().unwrap().success());
        assert_eq!(processes(root.path()), [std::process::id()]);
        assert!(!root.path().join("victim").exists());
        drop(next);
        assert_eq!(processes(root.path()), [0; 0]);
    }

    #[test]
    fn who_comes_to_a_process_that_was_long_alone_is_told() {
        let root = tempfile::tempdir().unwrap();
        let own = std::process::id();
        let _presence = Presence::make(root.path()).unwrap();
        let folder = root.path().join(FOLDER);
        let long_ago = FileTimes::new().set_modified(SystemTime::now() - Duration::from_secs(100));
        File::open(&folder).unwrap().set_times(long_ago).unwrap();
        let mut processes = Processes::default();
        assert_eq!(look_up(&mut processes, root.path()), [own]);
        assert!(processes.alone_since.is_some(), "this is about what is remembered");

        // It makes its file first, locks it some time later, and ends some time after that.
        let mut other = Command::new("sleep").arg("1000").spawn().unwrap();
        let path = folder.join(format!("{}-{}-0", other.id(), pid_namespace().unwrap()));
        let file = File::create_new(path).unwrap();
        assert_eq!(look_up(&mut processes, root.path()), [own]);
        assert!(lock::lock_for_reading(&file).unwrap());
        let mut both = [own, other.id()];
        both.sort_unstable();
        assert_eq!(look_up(&mut processes, root.path()), both);
        drop(file);
        both.sort_unstable_by_key(|pid| *pid != own);
        assert_eq!(look_up(&mut processes, root.path()), both, "it has not ended yet");
        other.kill().unwrap();
        other.wait().unwrap();
        assert_eq!(look_up(&mut processes, root.path()), [own]);
    }
}
