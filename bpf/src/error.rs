//! Errors of libbpf and the kernel as those of a collector.

use kumon_collect::CollectorError;
use libbpf_rs::{Error, ErrorKind};

use crate::privilege;

/// For `map_err`: says which collector tried what, and what to do where the kernel doesn't permit it.
pub(crate) fn because<E: Into<Error>>(
    collector: &'static str,
    tried: &str,
) -> impl FnOnce(E) -> CollectorError {
    move |source| {
        let source = source.into();
        let advice = match source.kind() {
            ErrorKind::PermissionDenied => format!("{}; see 'kumon check'", privilege::advice()),
            _ => String::new(),
        };
        CollectorError { advice, ..CollectorError::because(collector, tried)(source) }
    }
}
