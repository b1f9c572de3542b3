//! Settings of biolatency and bitesize.

use std::time::Duration;

use serde::Deserialize;

use crate::settings::{INTERVAL, TOP, interval};
use crate::{Filter, Sample};

/// Settings of the metrics biolatency and biolatency_hist.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BiolatencySettings {
    pub enabled: bool,
    /// Time that a row sums up.
    #[serde(deserialize_with = "interval")]
    pub interval: Duration,
    /// Which processes it is about.
    pub filter: Filter,
    /// One event in so many is told.
    pub sample: Sample,
}

impl Default for BiolatencySettings {
    fn default() -> BiolatencySettings {
        BiolatencySettings {
            enabled: true,
            interval: INTERVAL,
            filter: Filter::default(),
            sample: Sample::default(),
        }
    }
}

/// Settings of the metrics bitesize and bitesize_hist.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BitesizeSettings {
    pub enabled: bool,
    /// Time that a row sums up.
    #[serde(deserialize_with = "interval")]
    pub interval: Duration,
    /// How many processes get rows of their own; the row `other` sums the rest.
    pub top: usize,
    /// Which processes it is about.
    pub filter: Filter,
    /// One event in so many is told.
    pub sample: Sample,
}

impl Default for BitesizeSettings {
    fn default() -> BitesizeSettings {
        BitesizeSettings {
            enabled: true,
            interval: INTERVAL,
            top: TOP,
            filter: Filter::default(),
            sample: Sample::default(),
        }
    }
}
