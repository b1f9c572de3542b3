//! One process writes.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Write};
use std::path::Path;

use crate::error::StoreError;

/// Held while this process writes; the kernel gives it up with the process, however that ends.
pub(crate) struct WriterLock(#[expect(dead_code, reason = "held, never used")] File);

impl WriterLock {
    pub(crate) fn take(root: &Path) -> Result<WriterLock, StoreError> {
        let path = root.join("lock");
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(StoreError::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // Without the number the message is still true.
                let _ = file.read_to_string(&mut pid);
                return Err(StoreError::InUse { root: root.to_owned(), pid: pid.trim().to_owned() });
            }
            Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", &path)(error)),
        }
        // On a full disk the number is missing, nothing else.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(WriterLock(file))
    }
}

/// Makes the store's folder if it is not there.
pub(crate) fn make_root(root: &Path) -> Result<(), StoreError> {
    fs::create_dir_all(root).map_err(StoreError::io("create", root))
}
