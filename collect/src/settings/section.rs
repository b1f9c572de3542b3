//! Settings of several collectors under one key of the configuration, each declared beside its collector.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserializer;
use serde::de::{self, DeserializeSeed, MapAccess, Visitor};

use crate::Filter;

/// Some of the keys under `collectors:`. The macro `settings!` makes one from its keys, or from smaller sections.
pub trait Section: Default {
    /// The names of its keys.
    fn keys() -> Vec<&'static str>;

    /// The keys that are metrics, which can be switched on and off.
    fn metrics() -> Vec<&'static str>;

    /// Sets a key of its own.
    ///
    /// # Errors
    /// When the value can't be used.
    fn set<'de, D: Deserializer<'de>>(&mut self, key: &str, value: D) -> Result<(), D::Error>;

    /// Switches a metric on or off; false where there is none of that name.
    fn switch(&mut self, metric: &str, on: bool) -> bool;

    /// The filter of each metric that has one.
    fn filters(&self) -> Vec<(&'static str, &Filter)>;
}

/// Declares a [`Section`]: a struct with a field for each key, which can be read from a configuration too.
///
/// - `keys`: `name: Type = default, by function;`, where the function reads the value from a `Deserializer`.
/// - `metrics`: `name: Type;`, where the type has a field `enabled`; or `name: Type, filter;`, where it has a field `filter`
///   too.
/// - `sections`: `name: Type;`, whose keys stand beside the others.
/// - `internal`: `name: Type = default;`, no key of the configuration.
#[macro_export]
macro_rules! settings {
    (
        $(#[$about:meta])*
        pub struct $Settings:ident {
            $(keys { $($(#[$of_key:meta])* $key:ident: $Key:ty = $default:expr, by $read:expr;)* })?
            $(metrics { $($metric:ident: $Metric:ty $(, $filter:ident)?;)* })?
            $(sections { $($section:ident: $Section:ty;)* })?
            $(internal { $($(#[$of_other:meta])* $other:ident: $Other:ty = $value:expr;)* })?
        }
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $Settings {
            $($($(#[$of_key])* pub $key: $Key,)*)?
            $($(pub $metric: $Metric,)*)?
            $($(pub $section: $Section,)*)?
            $($($(#[$of_other])* pub $other: $Other,)*)?
        }

        impl Default for $Settings {
            fn default() -> $Settings {
                $Settings {
                    $($($key: $default,)*)?
                    $($($metric: Default::default(),)*)?
                    $($($section: Default::default(),)*)?
                    $($($other: $value,)*)?
                }
            }
        }

        impl $crate::settings::Section for $Settings {
            fn keys() -> Vec<&'static str> {
                #[allow(unused_mut)]
                let mut keys = vec![$($(stringify!($key),)*)? $($(stringify!($metric),)*)?];
                $($(keys.extend(<$Section as $crate::settings::Section>::keys());)*)?
                keys
            }

            fn metrics() -> Vec<&'static str> {
                #[allow(unused_mut)]
                let mut metrics = vec![$($(stringify!($metric),)*)?];
                $($(metrics.extend(<$Section as $crate::settings::Section>::metrics());)*)?
                metrics
            }

            fn set<'de, D: ::serde::Deserializer<'de>>(&mut self, key: &str, value: D) -> Result<(), D::Error> {
                match key {
                    $($(stringify!($key) => self.$key = $read(value)?,)*)?
                    $($(stringify!($metric) => self.$metric = ::serde::Deserialize::deserialize(value)?,)*)?
                    $($(key if <$Section as $crate::settings::Section>::keys().contains(&key) => {
                        $crate::settings::Section::set(&mut self.$section, key, value)?;
                    })*)?
                    _ => return Err(::serde::de::Error::custom(format!("unknown field `{key}`"))),
                }
                Ok(())
            }

            fn switch(&mut self, metric: &str, on: bool) -> bool {
                match metric {
                    $($(stringify!($metric) => {
                        self.$metric.enabled = on.into();
                        true
                    })*)?
                    _ => false $($(|| $crate::settings::Section::switch(&mut self.$section, metric, on))*)?,
                }
            }

            fn filters(&self) -> Vec<(&'static str, &$crate::Filter)> {
                #[allow(unused_mut)]
                let mut filters = vec![$($($((stringify!($metric), &self.$metric.$filter),)?)*)?];
                $($(filters.extend($crate::settings::Section::filters(&self.$section));)*)?
                filters
            }
        }

        impl<'de> ::serde::Deserialize<'de> for $Settings {
            fn deserialize<D: ::serde::Deserializer<'de>>(deserializer: D) -> Result<$Settings, D::Error> {
                static KEYS: ::std::sync::OnceLock<Vec<&'static str>> = ::std::sync::OnceLock::new();
                let keys = KEYS.get_or_init(<$Settings as $crate::settings::Section>::keys);
                deserializer.deserialize_struct("Settings", keys, $crate::settings::SectionVisitor::new(keys))
            }
        }
    };
}

/// Reads a map into a section, key by key.
pub struct SectionVisitor<S> {
    keys: &'static [&'static str],
    section: PhantomData<S>,
}

impl<S> SectionVisitor<S> {
    /// One that knows these keys, which are those of the section.
    pub fn new(keys: &'static [&'static str]) -> SectionVisitor<S> {
        SectionVisitor { keys, section: PhantomData }
    }
}

impl<'de, S: Section> Visitor<'de> for SectionVisitor<S> {
    type Value = S;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("struct Settings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<S, A::Error> {
        let mut section = S::default();
        while let Some(key) = map.next_key_seed(Key(self.keys))? {
            map.next_value_seed(Value { key, section: &mut section })?;
        }
        Ok(section)
    }
}

/// One of these keys. Others are refused here already, where the place of the key is known.
struct Key(&'static [&'static str]);

impl<'de> DeserializeSeed<'de> for Key {
    type Value = &'static str;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<&'static str, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Key {
    type Value = &'static str;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("field identifier")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<&'static str, E> {
        let known = self.0.iter().find(|key| **key == text);
        known.copied().ok_or_else(|| E::unknown_field(text, self.0))
    }
}

struct Value<'a, S> {
    key: &'static str,
    section: &'a mut S,
}

impl<'de, S: Section> DeserializeSeed<'de> for Value<'_, S> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.section.set(self.key, deserializer)
    }
}

#[cfg(test)]
// The macro makes structs for other crates.
#[allow(unreachable_pub, private_interfaces)]
mod tests {
    use serde::Deserialize;

    use super::Section;
    use crate::Filter;
    use crate::settings::entries;

    #[derive(Debug, Clone, PartialEq, Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct OfProcesses {
        enabled: bool,
        filter: Filter,
    }

    #[derive(Debug, Clone, PartialEq, Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct OfTheNode {
        enabled: bool,
    }

    crate::settings! {
        /// Of one collector.
        pub struct One {
            keys { size: u32 = 7, by entries; }
            metrics {
                processes: OfProcesses, filter;
                memory: OfTheNode;
            }
        }
    }

    crate::settings! {
        /// Of another.
        pub struct Other {
            metrics { load: OfTheNode; }
        }
    }

    crate::settings! {
        /// Of both.
        pub struct Both {
            sections { one: One; other: Other; }
            internal { by_tests: bool = true; }
        }
    }

    #[test]
    fn the_keys_of_all_sections_stand_in_one_map() {
        let text = r#"{"load": {"enabled": true}, "size": 8, "processes": {"filter": {"uid": [1]}}}"#;
        let both: Both = serde_json::from_str(text).unwrap();
        assert!(both.other.load.enabled && both.by_tests && !both.one.memory.enabled);
        assert_eq!((both.one.size, both.one.processes.filter.uid.as_slice()), (8, &[1][..]));
        assert_eq!(both.filters(), [("processes", &both.one.processes.filter)]);
        assert_eq!(serde_json::from_str::<Both>("{}").unwrap(), Both::default());
    }

    #[test]
    fn mistakes_are_named_as_in_any_other_struct() {
        for (text, expected) in [
            (r#"{"lod": {}}"#, "unknown field `lod`, expected one of `size`, `processes`, `memory`, `load`"),
            (r#"{"by_tests": true}"#, "unknown field `by_tests`"),
            (r#"{"size": 0}"#, "out of bounds"),
            (r#"{"load": {"enable": true}}"#, "unknown field `enable`, expected `enabled`"),
            ("5", "expected struct Settings"),
        ] {
            let message = serde_json::from_str::<Both>(text).unwrap_err().to_string();
            assert!(message.contains(expected), "{text}: {message}");
        }
    }

    #[test]
    fn metrics_of_any_section_can_be_switched() {
        let mut both = Both::default();
        assert_eq!(Both::metrics(), ["processes", "memory", "load"]);
        assert!(both.switch("memory", true) && both.switch("load", true) && !both.switch("size", true));
        assert!(both.one.memory.enabled && both.other.load.enabled && !both.one.processes.enabled);
    }
}
