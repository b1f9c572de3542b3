//! The names of users.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Names by id, as /etc/passwd has them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Users(HashMap<u32, Arc<str>>);

/// A name that is longer is none: useradd allows 32 characters.
const MAX_NAME: usize = 64;

impl Users {
    /// Reads the first `max` of the file's text; of several names of one id the first, as getpwuid(3) does.
    pub(crate) fn parse(text: &[u8], max: usize) -> Users {
        let mut users = HashMap::new();
        for line in text.split(|byte| *byte == b'\n') {
            let mut columns = line.split(|byte| *byte == b':').map(|column| std::str::from_utf8(column).ok());
            let (Some(Some(name)), Some(Some(uid))) = (columns.next(), columns.nth(1)) else { continue };
            let Ok(uid) = uid.parse() else { continue };
            if users.len() < max && !name.is_empty() && name.len() <= MAX_NAME {
                users.entry(uid).or_insert_with(|| Arc::from(name));
            }
        }
        Users(users)
    }

    pub(crate) fn name(&self, uid: u32) -> Option<Arc<str>> {
        self.0.get(&uid).cloned()
    }
}

/// The node's own users: those of /etc/passwd, not those of a directory service.
#[derive(Debug, Clone)]
pub(crate) struct NodeUsers {
    file: PathBuf,
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    users: Users,
    /// The file that they are of: its inode, size and time.
    stamp: Option<(u64, u64, i64, i64)>,
    looked: Option<Instant>,
}

/// Whether the file is another one is looked for so often.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
const MAX_USERS: usize = 65_536;

impl NodeUsers {
    pub(crate) fn of_this_node() -> NodeUsers {
        NodeUsers::in_file("/etc/passwd".into())
    }

    fn in_file(file: PathBuf) -> NodeUsers {
        NodeUsers { file, known: Arc::default() }
    }

    pub(crate) fn name(&self, uid: u32) -> Option<Arc<str>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.looked.is_none_or(|looked| looked.elapsed() >= LOOK_INTERVAL) {
            known.looked = Some(Instant::now());
            known.read(&self.file);
        }
        known.users.name(uid)
    }
}

impl Known {
    fn read(&mut self, file: &std::path::Path) {
        let stamp = |of: Metadata| (of.ino(), of.size(), of.mtime(), of.mtime_nsec());
        let stamp = fs::metadata(file).ok().map(stamp);
        if stamp == self.stamp {
            return;
        }
        if let Ok(text) = fs::read(file) {
            (self.users, self.stamp) = (Users::parse(&text, MAX_USERS), stamp);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{NodeUsers, Users};

    #[test]
    fn a_user_is_who_stands_first_with_the_id() {
        let text = b"root:x:0:0:root:/root:/bin/sh\n\
                     toor:x:0:0::/root:/bin/sh\n\
                     # a comment\n\
                     +::::::\n\
                     \xff:x:3:3::/:/bin/sh\n\
                     alice:x:1000:1000:A. Lice:/home/alice:/bin/sh\n\
                     bob:x:4294967296:1::/:\n\
                     half:x";
        let users = Users::parse(text, 100);
        let name = |uid| users.name(uid).map(|name| name.to_string()).unwrap_or_default();
        assert_eq!([0, 1000, 3].map(name), ["root", "alice", ""]);
        assert_eq!(Users::parse(text, 1).name(1000), None);
        let long = format!("{}:x:1:1::/:\n", "a".repeat(65));
        assert_eq!(Users::parse(long.as_bytes(), 100), Users::default());
    }

    #[test]
    fn a_user_who_comes_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("passwd");
        let users = NodeUsers::in_file(file.clone());
        assert_eq!(users.name(7), None);
        fs::write(&file, "seven:x:7:7::/:\n").unwrap();
        users.known.lock().unwrap().looked = None;
        assert_eq!(users.name(7).as_deref(), Some("seven"));
        fs::remove_file(&file).unwrap();
        users.known.lock().unwrap().looked = None;
        assert_eq!(users.name(7).as_deref(), Some("seven"), "it is being replaced");
    }
}
