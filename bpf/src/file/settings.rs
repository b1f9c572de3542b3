//! Settings of filelife and filegone.

use std::time::Duration;

use serde::Deserialize;

use crate::settings::duration;

/// Settings of the metric filelife.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FilelifeSettings {
    /// Off unless asked for: it takes tracepoints of syscalls, which slow every syscall a little.
    pub enabled: bool,
    /// A file that lives longer is not short-lived: it is forgotten and has no row.
    #[serde(deserialize_with = "duration")]
    pub max_age: Duration,
    /// Files that are remembered at a time, about 200 bytes of memory and the path each; the creations beyond are
    /// counted as lost.
    pub max_files: usize,
}

impl Default for FilelifeSettings {
    fn default() -> FilelifeSettings {
        FilelifeSettings { enabled: false, max_age: Duration::from_secs(600), max_files: 65_536 }
    }
}

/// Settings of the metric filegone.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FilegoneSettings {
    /// Off unless asked for, as filelife is.
    pub enabled: bool,
}
