//! The part of these collectors in `collectors` of the configuration, one entry per metric. Each metric's own settings stand
//! in its module.

use serde::{Deserialize, Deserializer};

use crate::{CpuSettings, DiskSettings, MemorySettings, NetdevSettings, NetstatSettings, Root};

/// Makes [`Settings`] with an entry for each metric: this is the only list of them here.
macro_rules! settings {
    ($($metric:ident: $Settings:ident),* $(,)?) => {
        /// Settings of every metric.
        #[derive(Debug, Clone, Default, PartialEq)]
        pub struct Settings {
            /// Where /proc and /sys are; no key of the configuration.
            pub root: Root,
            $(pub $metric: $Settings,)*
        }

        impl Settings {
            /// The metrics, which are the keys of the configuration too.
            pub const METRICS: &[&str] = &[$(stringify!($metric)),*];

            /// Switches a metric on or off; false where there is none of that name.
            pub fn switch(&mut self, metric: &str, on: bool) -> bool {
                match metric {
                    $(stringify!($metric) => self.$metric.enabled = on,)*
                    _ => return false,
                }
                true
            }

            /// Reads a metric's settings; false where there is none of that name.
            ///
            /// # Errors
            /// When they are none.
            pub fn read<'de, D: Deserializer<'de>>(&mut self, metric: &str, settings: D) -> Result<bool, D::Error> {
                match metric {
                    $(stringify!($metric) => self.$metric = Deserialize::deserialize(settings)?,)*
                    _ => return Ok(false),
                }
                Ok(true)
            }
        }

        $(impl crate::metric::MetricSettings for $Settings {
            fn enabled(&self) -> bool {
                self.enabled
            }

            fn interval(&self) -> std::time::Duration {
                self.interval
            }
        })*
    };
}

settings! {
    cpu: CpuSettings,
    memory: MemorySettings,
    disk: DiskSettings,
    netdev: NetdevSettings,
    netstat: NetstatSettings,
}
