//! Program executions and process ends.

mod settings;

pub use settings::{ExecSettings, ExitSettings};
