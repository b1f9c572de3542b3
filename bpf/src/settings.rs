//! The `collectors` part of the configuration, one entry per metric. Each metric's own settings stand in its
//! collector's folder.

use bytesize::ByteSize;
use kumon_collect::Filter;
use kumon_collect::settings::entries;
use serde::{Deserialize, Deserializer, de};

use crate::block::{BiolatencySettings, BitesizeSettings};
use crate::db::DbslowerSettings;
use crate::file::{FileHooks, FilegoneSettings, FilelifeSettings};
use crate::object_settings::{MAX_RING_BUFFER_BYTES, ObjectSettings};
use crate::process::{ExecSettings, ExitSettings};
use crate::sched::{CputimeSettings, RunqlatSettings, RunqslowerSettings};
use crate::tcp::TcplifeSettings;

/// Makes [`Settings`] with an entry for each metric: this is the only list of them here.
macro_rules! settings {
    ($($metric:ident: $Settings:ident),* $(,)?) => {
        /// Settings of every metric; each key is optional.
        #[derive(Debug, Clone, PartialEq, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Settings {
            /// KuMon's own processes are left out unless this is false.
            pub exclude_self: bool,
            /// Size of the ring buffer of each BPF object that emits single events, bytes of kernel memory; rounded up to a
            /// power of two of at least a page.
            #[serde(deserialize_with = "ring_buffer_bytes")]
            pub ring_buffer_bytes: u32,
            /// Threads that sched follows before Linux 6.2, about 140 bytes of kernel memory each; those of cputime beyond
            /// them are counted as lost.
            #[serde(deserialize_with = "entries")]
            pub max_waiting_threads: u32,
            /// Takes the ways that older kernels need (docs/kernels.md), so that tests go them on newer ones too; no key of
            /// the configuration.
            #[serde(skip)]
            pub as_on_old_kernels: bool,
            /// By which hooks filelife and filegone are attached.
            pub file_hooks: FileHooks,
            $(pub $metric: $Settings,)*
        }

        impl Default for Settings {
            fn default() -> Settings {
                Settings {
                    exclude_self: true,
                    ring_buffer_bytes: 2 << 20,
                    max_waiting_threads: 32_768,
                    as_on_old_kernels: false,
                    file_hooks: FileHooks::default(),
                    $($metric: $Settings::default(),)*
                }
            }
        }

        impl Settings {
            /// The metrics that can be switched on and off.
            pub const METRICS: &[&str] = &[$(stringify!($metric)),*];

            /// Switches a metric on or off; false where there is none of that name.
            pub fn switch(&mut self, metric: &str, on: bool) -> bool {
                match metric {
                    $(stringify!($metric) => self.$metric.enabled = on.into(),)*
                    _ => return false,
                }
                true
            }

            /// The filter of each metric.
            pub(crate) fn filters(&self) -> Vec<(&'static str, &Filter)> {
                vec![$((stringify!($metric), &self.$metric.filter),)*]
            }
        }
    };
}

settings! {
    exec: ExecSettings,
    exit: ExitSettings,
    runqlat: RunqlatSettings,
    runqslower: RunqslowerSettings,
    cputime: CputimeSettings,
    biolatency: BiolatencySettings,
    bitesize: BitesizeSettings,
    tcplife: TcplifeSettings,
    dbslower: DbslowerSettings,
    filelife: FilelifeSettings,
    filegone: FilegoneSettings,
}

impl Settings {
    /// What they say about every BPF object alike.
    pub(crate) fn object(&self) -> ObjectSettings {
        ObjectSettings {
            exclude_self: self.exclude_self,
            ring_buffer_bytes: self.ring_buffer_bytes,
            as_on_old_kernels: self.as_on_old_kernels,
        }
    }
}

/// Reads `2MiB`, `4194304`.
fn ring_buffer_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    const LEAST: u32 = 4 << 10;
    // Its own message names no example.
    let size = ByteSize::deserialize(deserializer).ok().and_then(|size| u32::try_from(size.as_u64()).ok());
    size.filter(|size| (LEAST..=MAX_RING_BUFFER_BYTES).contains(size)).ok_or_else(|| {
        de::Error::custom("the size of a ring buffer is expected, such as 2MiB: 4KiB to 256MiB")
    })
}

#[cfg(test)]
mod tests {
    use super::Settings;

    fn parse(text: &str) -> Result<Settings, String> {
        serde_json::from_str(text).map_err(|e| e.to_string())
    }

    #[test]
    fn every_metric_of_single_events_has_a_budget_and_no_summary_has_one() {
        for schema in kumon_schema::all() {
            let metric = &schema.name;
            let parsed = parse(&format!(r#"{{"{metric}": {{"max_rows_per_second": 5}}}}"#));
            let is_event = schema.kind == kumon_schema::Kind::Event;
            assert_eq!(parsed.is_ok(), is_event, "{metric}: {parsed:?}");
        }
    }

    #[test]
    fn sizes_that_no_node_could_use_are_refused() {
        for text in [
            r#"{"ring_buffer_bytes": 0}"#,
            r#"{"ring_buffer_bytes": 4000000000}"#,
            r#"{"ring_buffer_bytes": "1TiB"}"#,
            r#"{"ring_buffer_bytes": "much"}"#,
        ] {
            assert!(parse(text).unwrap_err().contains("such as 2MiB: 4KiB to 256MiB"), "{text}");
        }
        for text in [
            r#"{"tcplife": {"max_sessions": 0}}"#,
            r#"{"tcplife": {"max_listeners": 0}}"#,
            r#"{"filelife": {"max_files": 0}}"#,
            r#"{"filelife": {"max_files": 2000000}}"#,
            r#"{"biolatency": {"max_keys": 0}}"#,
        ] {
            assert!(parse(text).unwrap_err().contains("is out of bounds: 1 to 1048576"), "{text}");
        }
        assert!(parse(r#"{"filelife": {"max_age": "0s"}}"#).unwrap_err().contains("more than 0"));
        for size in [r#""4MiB""#, "4194304"] {
            assert_eq!(
                parse(&format!(r#"{{"ring_buffer_bytes": {size}}}"#)).unwrap().ring_buffer_bytes,
                4 << 20
            );
        }
    }
}
