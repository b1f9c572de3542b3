//! The `collectors` part of the configuration: that of the collectors in the kernel, and that of those that read /proc, with
//! all their keys side by side.

use std::fmt;
use std::sync::{LazyLock, OnceLock};

use kumon_collect::{Collector, Hook, LeftOut};
use serde::de::{DeserializeSeed, Error, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, forward_to_deserialize_any};

/// Settings of every metric; each key is optional.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Collectors {
    pub(crate) bpf: kumon_bpf::Settings,
    pub(crate) proc: kumon_proc::Settings,
}

impl Collectors {
    /// The metrics that can be switched on and off.
    pub(crate) fn metrics() -> &'static [&'static str] {
        static METRICS: LazyLock<Vec<&str>> =
            LazyLock::new(|| [kumon_bpf::Settings::METRICS, kumon_proc::Settings::METRICS].concat());
        &METRICS
    }

    /// Switches a metric on or off; nothing where there is none of that name.
    pub(crate) fn switch(&mut self, metric: &str, on: bool) {
        if !self.proc.switch(metric, on) {
            self.bpf.switch(metric, on);
        }
    }

    /// Every collector with at least one enabled metric, in the order in which they start.
    pub(crate) fn collectors(&self) -> Vec<Box<dyn Collector>> {
        self.with_those_of_proc(kumon_bpf::collectors(&self.bpf))
    }

    /// The same together with [`Collectors::left_out`]: what this kernel has is tried out once for both.
    pub(crate) fn collectors_and_left_out(&self) -> (Vec<Box<dyn Collector>>, Vec<LeftOut>) {
        let (of_bpf, left_out) = kumon_bpf::collectors_and_left_out(&self.bpf);
        (self.with_those_of_proc(of_bpf), left_out)
    }

    fn with_those_of_proc(&self, of_bpf: Vec<Box<dyn Collector>>) -> Vec<Box<dyn Collector>> {
        of_bpf.into_iter().chain(kumon_proc::collectors(&self.proc)).collect()
    }

    /// How the enabled metrics would be collected here, or why not.
    pub(crate) fn hooks(&self) -> Vec<Hook> {
        kumon_bpf::hooks(&self.bpf).into_iter().chain(kumon_proc::hooks(&self.proc)).collect()
    }

    /// The metrics that are not asked for by name and that this kernel could have only at a price.
    pub(crate) fn left_out(&self) -> Vec<LeftOut> {
        kumon_bpf::left_out(&self.bpf)
    }
}

impl<'de> Deserialize<'de> for Collectors {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Collectors, D::Error> {
        struct Whole;
        impl<'de> Visitor<'de> for Whole {
            type Value = Collectors;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the settings of collectors")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Collectors, A::Error> {
                let mut proc = kumon_proc::Settings::default();
                let bpf = Deserialize::deserialize(WithoutProc { map, proc: &mut proc, known: &[] })?;
                Ok(Collectors { bpf, proc })
            }
        }
        deserializer.deserialize_map(Whole)
    }
}

/// The settings of the collectors in the kernel: those of the others are taken out on the way. `serde(flatten)` would let
/// unknown keys pass, and forget in which lines mistakes are.
struct WithoutProc<'a, A> {
    map: A,
    proc: &'a mut kumon_proc::Settings,
    /// All keys.
    known: &'static [&'static str],
}

impl<'de, A: MapAccess<'de>> Deserializer<'de> for WithoutProc<'_, A> {
    type Error = A::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        of_bpf: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        static KNOWN: OnceLock<Vec<&str>> = OnceLock::new();
        let known = KNOWN.get_or_init(|| [of_bpf, kumon_proc::Settings::METRICS].concat());
        visitor.visit_map(WithoutProc { known, ..self })
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, A::Error> {
        visitor.visit_map(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for WithoutProc<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        while let Some(key) = self.map.next_key_seed(Key(self.known))? {
            if !kumon_proc::Settings::METRICS.contains(&key) {
                return seed.deserialize(key.into_deserializer()).map(Some);
            }
            self.map.next_value_seed(OfProc(self.proc, key))?;
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

/// One of these keys.
struct Key(&'static [&'static str]);

impl<'de> DeserializeSeed<'de> for Key {
    type Value = &'static str;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<&'static str, D::Error> {
        let key = String::deserialize(deserializer)?;
        let known = self.0.iter().find(|known| **known == key);
        known.copied().ok_or_else(|| D::Error::unknown_field(&key, self.0))
    }
}

/// The settings of a metric.
struct OfProc<'a>(&'a mut kumon_proc::Settings, &'static str);

impl<'de> DeserializeSeed<'de> for OfProc<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.0.read(self.1, deserializer).map(|_| ())
    }
}
