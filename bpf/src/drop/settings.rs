//! Settings of drop and tcpdrop.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

use kumon_collect::settings::{INTERVAL, TOP, entries, interval};
use kumon_collect::{Filter, MaxRows, Sample};

use super::reasons::Class;

kumon_collect::settings! {
    /// Settings of drop and tcpdrop.
    pub struct Settings {
        metrics {
            drop: DropSettings, filter;
            tcpdrop: TcpdropSettings, filter;
        }
    }
}

/// Settings of the metric drop.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DropSettings {
    pub enabled: bool,
    /// Time that a row sums up.
    #[serde(deserialize_with = "interval")]
    pub interval: Duration,
    /// Which reasons are counted.
    #[serde(deserialize_with = "classes")]
    pub classes: Vec<Class>,
    /// How many reasons, places, interfaces and cgroups get rows of their own; the row `other` sums the rest.
    pub top: usize,
    /// Of these the kernel keeps in an interval, about 200 bytes of its memory each and 128 more for each CPU; the rest is
    /// in the row `other`.
    #[serde(deserialize_with = "entries")]
    pub max_keys: u32,
    /// Which cgroups it is about.
    #[serde(deserialize_with = "of_cgroups")]
    pub filter: Filter,
}

impl Default for DropSettings {
    fn default() -> DropSettings {
        DropSettings {
            enabled: true,
            interval: INTERVAL,
            classes: vec![Class::Real, Class::Unknown],
            top: TOP,
            max_keys: 1_024,
            filter: Filter::default(),
        }
    }
}

/// Settings of the metric tcpdrop.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TcpdropSettings {
    pub enabled: bool,
    /// Which reasons are reported.
    #[serde(deserialize_with = "classes")]
    pub classes: Vec<Class>,
    /// What a row has.
    pub verbose: Verbose,
    /// Which cgroups it is about.
    #[serde(deserialize_with = "of_cgroups")]
    pub filter: Filter,
    /// One packet in so many is reported.
    pub sample: Sample,
    /// How many rows it may have; what is beyond is counted.
    pub max_rows_per_second: MaxRows,
}

impl Default for TcpdropSettings {
    fn default() -> TcpdropSettings {
        TcpdropSettings {
            enabled: true,
            classes: vec![Class::Real],
            verbose: Verbose::Event,
            filter: Filter::default(),
            sample: Sample::default(),
            max_rows_per_second: MaxRows::default(),
        }
    }
}

/// How much a row says: KuMon's levels are 1, the event, 2, the user's stack too, and 3, the kernel's stack too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verbose {
    Event,
    KernelStack,
}

impl<'de> Deserialize<'de> for Verbose {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Verbose, D::Error> {
        match u32::deserialize(deserializer)? {
            1 => Ok(Verbose::Event),
            3 => Ok(Verbose::KernelStack),
            2 => Err(de::Error::custom(
                "a dropped packet has no user stack: most are dropped while some other program happens to run. Take 1, the \
                 event, or 3, with the kernel's stack",
            )),
            other => Err(de::Error::custom(format!(
                "{other} is no level: 1, the event, or 3, with the kernel's stack"
            ))),
        }
    }
}

fn classes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Class>, D::Error> {
    let classes = Vec::<Class>::deserialize(deserializer)?;
    if classes.is_empty() {
        return Err(de::Error::custom(
            "name at least one of real, benign and unknown; 'enabled: false' switches the metric off",
        ));
    }
    Ok(classes)
}

/// A packet has no process, but its socket has a cgroup.
fn of_cgroups<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Filter, D::Error> {
    let filter = Filter::deserialize(deserializer)?;
    if filter.pid.is_empty() && filter.comm.is_empty() && filter.uid.is_empty() {
        return Ok(filter);
    }
    Err(de::Error::custom(
        "packets are chosen by the cgroups of their sockets (cgroup, k8s, container, image, unit): which process they are \
         for isn't known where they are dropped",
    ))
}

#[cfg(test)]
mod tests {
    use super::{Settings, Verbose};

    fn parse(text: &str) -> Result<Settings, String> {
        serde_json::from_str(text).map_err(|e| e.to_string())
    }

    #[test]
    fn levels_are_the_event_and_the_kernels_stack() {
        let verbose =
            |level: u32| Ok(parse(&format!(r#"{{"tcpdrop": {{"verbose": {level}}}}}"#))?.tcpdrop.verbose);
        assert_eq!(verbose(1), Ok(Verbose::Event));
        assert_eq!(verbose(3), Ok(Verbose::KernelStack));
        let refused: Result<Verbose, String> = verbose(2);
        assert!(refused.unwrap_err().contains("no user stack"));
        assert!(verbose(4).unwrap_err().contains("no level"));
    }

    #[test]
    fn a_filter_is_by_cgroups_and_classes_are_at_least_one() {
        assert!(parse(r#"{"drop": {"filter": {"container": ["web"], "cgroup": [7]}}}"#).is_ok());
        for key in [r#""pid": [1]"#, r#""comm": ["nginx"]"#, r#""uid": [0]"#] {
            let refused = parse(&format!(r#"{{"tcpdrop": {{"filter": {{{key}}}}}}}"#)).unwrap_err();
            assert!(refused.contains("cgroups of their sockets"), "{refused}");
        }
        assert!(parse(r#"{"drop": {"classes": []}}"#).unwrap_err().contains("at least one"));
        assert!(parse(r#"{"drop": {"classes": ["bad"]}}"#).is_err());
    }
}
