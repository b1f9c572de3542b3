//! The settings of all collectors of this crate. Each metric's own stand in its collector's folder.

use bytesize::ByteSize;
use kumon_collect::Collector;
use serde::{Deserialize, Deserializer, de};

use crate::object_settings::{MAX_RING_BUFFER_BYTES, ObjectSettings};

/// Puts together what the collectors of these folders have.
macro_rules! collectors {
    ($($folder:ident),*) => {
        kumon_collect::settings! {
            /// Settings of every metric; each key is optional.
            pub struct Settings {
                keys {
                    /// KuMon's own processes are left out unless this is false.
                    exclude_self: bool = true, by bool::deserialize;
                    /// Size of the ring buffer of each BPF object that emits single events, bytes of kernel memory; rounded
                    /// up to a power of two of at least a page.
                    ring_buffer_bytes: u32 = 2 << 20, by ring_buffer_bytes;
                }
                sections { $($folder: crate::$folder::Settings;)* }
                internal {
                    /// Takes the ways that older kernels need (docs/kernels.md), so that tests go them on newer ones too.
                    as_on_old_kernels: bool = false;
                }
            }
        }

        impl Settings {
            /// Every collector, in the order in which they start.
            pub(crate) fn collectors(&self) -> Vec<Box<dyn Collector>> {
                let object = self.object();
                vec![$(Box::new(crate::$folder::collector(object, &self.$folder))),*]
            }
        }
    };
}

// Names every folder.
include!(concat!(env!("OUT_DIR"), "/collectors.rs"));

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
    use kumon_collect::settings::Section;

    use super::Settings;

    fn parse(text: &str) -> Result<Settings, String> {
        serde_json::from_str(text).map_err(|e| e.to_string())
    }

    #[test]
    fn every_metric_of_single_events_has_a_budget_and_no_summary_has_one() {
        // What the kernel doesn't tell of as it happens, such as a snapshot, comes in no storms.
        let metrics = Settings::metrics();
        for schema in kumon_schema::all().iter().filter(|schema| metrics.contains(&&*schema.name)) {
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
