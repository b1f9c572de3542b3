//! Settings of exec and exit.

use serde::Deserialize;

/// Settings of the metric exec.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExecSettings {
    pub enabled: bool,
    /// Failed execs too; they take tracepoints on two syscalls, which slow every syscall a little.
    pub failed: bool,
    /// Bytes of the arguments that are kept; at most 4096.
    pub max_args_bytes: u32,
    /// Whether arguments that look like secrets are masked.
    pub mask: bool,
}

/// What the BPF program has room for.
pub(super) const MAX_ARGS_BYTES: u32 = 4096;

impl Default for ExecSettings {
    fn default() -> ExecSettings {
        ExecSettings { enabled: true, failed: false, max_args_bytes: MAX_ARGS_BYTES, mask: true }
    }
}

/// Settings of the metric exit.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExitSettings {
    pub enabled: bool,
}

impl Default for ExitSettings {
    fn default() -> ExitSettings {
        ExitSettings { enabled: true }
    }
}
