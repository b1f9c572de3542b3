//! Why a collector could not start or go on.

use std::error::Error;

/// Why a collector could not start or go on.
#[derive(Debug, thiserror::Error)]
#[error("{collector}: {tried}: {source}{advice}")]
pub struct CollectorError {
    /// The collector's name.
    pub collector: &'static str,
    /// What was tried, e.g. `attaching tp_btf/sched_switch`.
    pub tried: String,
    pub source: Box<dyn Error + Send + Sync>,
    /// What to do about it, put behind the message; may be empty.
    pub advice: String,
}

impl CollectorError {
    /// For `map_err`: says which collector tried what.
    pub fn because<E: Into<Box<dyn Error + Send + Sync>>>(
        collector: &'static str,
        tried: &str,
    ) -> impl FnOnce(E) -> CollectorError {
        move |source| CollectorError {
            collector,
            tried: tried.to_owned(),
            source: source.into(),
            advice: String::new(),
        }
    }
}
