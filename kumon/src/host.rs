//! Who this node is.

use std::fs;

use anyhow::{Context, Result};
use kumon_schema::Common;

/// The node's identity, which every row carries.
///
/// # Errors
/// When /proc isn't mounted.
pub(crate) fn common() -> Result<Common> {
    let boot_id = "/proc/sys/kernel/random/boot_id";
    let boot_id = fs::read_to_string(boot_id).with_context(|| format!("{boot_id}: can't be read"))?;
    // Containers and rescue systems may have no machine id; the host's name has to do there.
    let host_id = fs::read_to_string("/etc/machine-id").unwrap_or_default();
    Ok(Common {
        host_name: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        host_id: host_id.trim().to_owned(),
        boot_id: boot_id.trim().to_owned(),
    })
}
