//! Which processes a metric is about: `collectors.<metric>.filter` and `.sample`.

use std::fmt;
use std::marker::PhantomData;
use std::path::Path;

use regex::Regex;
use serde::{Deserialize, Deserializer, de};

use crate::Names;

/// Only processes that meet every key that is not empty, each by one of its values.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// Process ids (thread group ids), as the initial pid namespace sees them.
    #[serde(deserialize_with = "list")]
    pub pid: Vec<u32>,
    /// Names of processes, as the column `name` has them.
    #[serde(deserialize_with = "list")]
    pub comm: Vec<Comm>,
    /// Cgroups (v2), with all below them.
    #[serde(deserialize_with = "list")]
    pub cgroup: Vec<Cgroup>,
    /// Real user ids.
    #[serde(deserialize_with = "list")]
    pub uid: Vec<u32>,
    /// Pods and their containers: `namespace/pod` or `namespace/container`.
    #[serde(deserialize_with = "list")]
    pub k8s: Vec<Pattern>,
    /// Names of containers, as the column `container_name` has them.
    #[serde(deserialize_with = "list")]
    pub container: Vec<Pattern>,
    /// Names of containers' images.
    #[serde(deserialize_with = "list")]
    pub image: Vec<Pattern>,
    /// systemd's units.
    #[serde(deserialize_with = "list")]
    pub unit: Vec<Pattern>,
}

/// A regular expression that a name matches as a whole.
#[derive(Debug, Clone)]
pub struct Pattern(Regex);

/// What a filter asks of a process.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// The process id (thread group id), as the initial pid namespace sees it.
    pub pid: u32,
    /// The kernel's `comm`, at most 15 bytes.
    pub comm: &'a [u8],
    /// The real user id.
    pub uid: u32,
    /// The path of its cgroup (v2), as in `/proc/<pid>/cgroup`.
    pub cgroup: &'a str,
    /// The inodes of the cgroup's folder and of all above it.
    pub cgroup_ids: &'a [u64],
    /// Who runs in it.
    pub names: &'a Names,
}

impl Filter {
    /// Whether it lets a process through, decided here instead of in the kernel. `mount` is where cgroup v2 is mounted: a
    /// path of the filter may begin with it.
    pub fn selects(&self, process: &Candidate<'_>, mount: &Path) -> bool {
        let in_cgroup = |cgroup: &Cgroup| match cgroup {
            Cgroup::Id(id) => process.cgroup_ids.contains(id),
            Cgroup::Path(path) => {
                let path = Path::new(path);
                let inside = path.strip_prefix(mount).map_or(path, |below| below);
                let inside = inside.strip_prefix("/").unwrap_or(inside);
                Path::new(process.cgroup.trim_start_matches('/')).starts_with(inside)
            }
        };
        (self.pid.is_empty() || self.pid.contains(&process.pid))
            && (self.uid.is_empty() || self.uid.contains(&process.uid))
            && (self.comm.is_empty() || self.comm.iter().any(|comm| comm.0.as_bytes() == process.comm))
            && (self.cgroup.is_empty() || self.cgroup.iter().any(in_cgroup))
            && self.selects_names(process.names)
    }

    /// Whether it asks for names.
    pub fn has_names(&self) -> bool {
        [&self.k8s, &self.container, &self.image, &self.unit].iter().any(|patterns| !patterns.is_empty())
    }

    /// Whether it lets a cgroup through by the names of who runs there.
    pub fn selects_names(&self, names: &Names) -> bool {
        let one_is = |patterns: &[Pattern], name: &str| {
            patterns.is_empty() || patterns.iter().any(|pattern| pattern.0.is_match(name))
        };
        let in_pod = |pattern: &Pattern| names.in_namespace().iter().any(|name| pattern.0.is_match(name));
        (self.k8s.is_empty() || self.k8s.iter().any(in_pod))
            && one_is(&self.container, names.container_name())
            && one_is(&self.image, names.image())
            && one_is(&self.unit, names.unit())
    }
}

/// The name of a process: 1 to 15 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comm(String);

/// A cgroup (v2), which need not exist yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cgroup {
    /// The inode of its folder, as the column `cgroup_id` has it.
    Id(u64),
    /// Its path as in `/proc/<pid>/cgroup`, or that of its folder.
    Path(String),
}

/// One event in so many is told; 1 for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample(u32);

impl Comm {
    /// What the kernel keeps of a name, include/linux/sched.h: TASK_COMM_LEN without the NUL.
    const MAX_BYTES: usize = 15;

    /// As the kernel keeps it, see [`comm_words`].
    pub fn words(&self) -> [u64; 2] {
        comm_words(self.0.as_bytes())
    }
}

/// A name of at most 15 bytes as the kernel keeps it, padded with zeros, in words that compare fast.
pub fn comm_words(name: &[u8]) -> [u64; 2] {
    let mut padded = [[0; 8]; 2];
    padded.as_flattened_mut()[..name.len()].copy_from_slice(name);
    padded.map(u64::from_ne_bytes)
}

impl TryFrom<&str> for Comm {
    type Error = String;

    fn try_from(name: &str) -> Result<Comm, String> {
        if name.is_empty() || name.contains('\0') {
            return Err(format!("{name:?} is no name of a process"));
        }
        if name.len() > Comm::MAX_BYTES {
            let mut kept = Comm::MAX_BYTES;
            while !name.is_char_boundary(kept) {
                kept -= 1;
            }
            return Err(format!(
                "{name:?} is longer than the {} bytes that the kernel keeps of a process's name; write {:?}",
                Comm::MAX_BYTES,
                &name[..kept]
            ));
        }
        Ok(Comm(name.to_owned()))
    }
}

impl TryFrom<&str> for Cgroup {
    type Error = String;

    fn try_from(path: &str) -> Result<Cgroup, String> {
        if !path.starts_with('/') || path.split('/').any(|part| part == ".." || part == ".") {
            return Err(format!(
                "'{path}' is no cgroup: write its path, such as /system.slice/nginx.service or \
                 /sys/fs/cgroup/system.slice/nginx.service, or its id (the inode of its folder)"
            ));
        }
        Ok(Cgroup::Path(path.to_owned()))
    }
}

impl TryFrom<&str> for Pattern {
    type Error = String;

    fn try_from(text: &str) -> Result<Pattern, String> {
        let whole = Regex::new(text).and_then(|_| Regex::new(&format!("^(?:{text})$")));
        whole.map(Pattern).map_err(|e| {
            // Behind a picture of where.
            let why = e.to_string();
            let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ");
            format!("'{text}' is no regular expression: {why}")
        })
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Sample {
    /// One in how many.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl Default for Sample {
    fn default() -> Sample {
        Sample(1)
    }
}

impl TryFrom<u32> for Sample {
    type Error = &'static str;

    fn try_from(one_in: u32) -> Result<Sample, &'static str> {
        if one_in == 0 {
            return Err("one event in 0 can't be told; 1 tells all, 'enabled: false' none");
        }
        Ok(Sample(one_in))
    }
}

/// Reads a list; a single value is a mistake that says what to write.
fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    struct Visitor<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> de::Visitor<'de> for Visitor<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list such as [one, another]")
        }

        fn visit_seq<A: de::SeqAccess<'de>>(self, mut values: A) -> Result<Vec<T>, A::Error> {
            std::iter::from_fn(|| values.next_element().transpose()).collect()
        }

        /// A key without a value.
        fn visit_unit<E: de::Error>(self) -> Result<Vec<T>, E> {
            Ok(Vec::new())
        }
    }
    deserializer.deserialize_any(Visitor(PhantomData))
}

impl<'de> Deserialize<'de> for Sample {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Sample, D::Error> {
        Sample::try_from(u32::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Comm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Comm, D::Error> {
        let name = String::deserialize(deserializer)?;
        Comm::try_from(name.as_str()).map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Pattern, D::Error> {
        let text = String::deserialize(deserializer)?;
        Pattern::try_from(text.as_str()).map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Cgroup {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Cgroup, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Cgroup;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a cgroup's path or id")
            }

            fn visit_u64<E: de::Error>(self, id: u64) -> Result<Cgroup, E> {
                Ok(Cgroup::Id(id))
            }

            fn visit_i64<E: de::Error>(self, id: i64) -> Result<Cgroup, E> {
                u64::try_from(id).map(Cgroup::Id).map_err(|_| E::custom(format!("{id} is no cgroup's id")))
            }

            fn visit_str<E: de::Error>(self, path: &str) -> Result<Cgroup, E> {
                Cgroup::try_from(path).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Candidate, Cgroup, Comm, Filter, Sample};
    use crate::Names;

    fn parse(text: &str) -> Result<Filter, String> {
        serde_json::from_str(text).map_err(|e| e.to_string())
    }

    #[test]
    fn every_key_is_optional_and_cgroups_are_paths_or_ids() {
        assert_eq!(parse("{}"), Ok(Filter::default()));
        assert_eq!(parse(r#"{"pid": null}"#), Ok(Filter::default()));
        let filter =
            parse(r#"{"pid": [1], "comm": ["a,b\"\n=1+1"], "cgroup": [42, "/a.slice"], "uid": [0]}"#);
        let filter = filter.unwrap();
        assert_eq!(filter.cgroup, [Cgroup::Id(42), Cgroup::Path("/a.slice".into())]);
        let words = [*b"a,b\"\n=1+", *b"1\0\0\0\0\0\0\0"].map(u64::from_ne_bytes);
        assert_eq!(filter.comm[0].words(), words);
    }

    #[test]
    fn values_that_could_never_match_are_refused_with_what_to_write() {
        for (text, expected) in [
            (r#"{"pids": [1]}"#, "unknown field `pids`"),
            (r#"{"pid": [-1]}"#, "-1"),
            (r#"{"comm": "nginx"}"#, "expected a list such as [one, another]"),
            (r#"{"comm": [""]}"#, "is no name of a process"),
            (r#"{"comm": ["elasticsearch-server"]}"#, "write \"elasticsearch-s\""),
            (r#"{"cgroup": ["nginx.service"]}"#, "write its path, such as /system.slice/nginx.service"),
            (r#"{"cgroup": ["/a/../b"]}"#, "is no cgroup"),
            (r#"{"cgroup": [-5]}"#, "-5 is no cgroup's id"),
            (r#"{"cgroup": [true]}"#, "expected a cgroup's path or id"),
            (r#"{"k8s": ["shop/*("]}"#, "'shop/*(' is no regular expression: unclosed group"),
            (r#"{"unit": "nginx.service"}"#, "expected a list such as [one, another]"),
        ] {
            let message = parse(text).unwrap_err();
            assert!(message.contains(expected), "{text}: {message}");
        }
        assert!(Sample::try_from(0).is_err());
        assert!(Comm::try_from("exactly-15-byte").is_ok());
    }

    #[test]
    fn every_key_must_be_met_by_one_of_its_values() {
        let process = Candidate {
            pid: 7,
            comm: b"nginx",
            uid: 33,
            cgroup: "/a.slice/b.scope",
            cgroup_ids: &[12, 11, 1],
            names: &Names::of_pod("shop", "api-7d4b9", "web", "registry.example/web:1"),
        };
        for (text, expected) in [
            ("{}", true),
            (r#"{"pid": [1, 7]}"#, true),
            (r#"{"pid": [1]}"#, false),
            (r#"{"comm": ["nginx"], "uid": [0, 33]}"#, true),
            (r#"{"comm": ["nginx"], "uid": [0]}"#, false),
            (r#"{"comm": ["ngin"]}"#, false),
            (r#"{"cgroup": [11]}"#, true),
            (r#"{"cgroup": [13]}"#, false),
            (r#"{"cgroup": ["/a.slice"]}"#, true),
            (r#"{"cgroup": ["/sys/fs/cgroup/a.slice/b.scope"]}"#, true),
            (r#"{"cgroup": ["/a.slice/b"]}"#, false),
            (r#"{"cgroup": ["/"]}"#, true),
            (r#"{"k8s": [".+/api-.*"]}"#, true),
            (r#"{"k8s": ["kube-system/.*", "shop/web"]}"#, true),
            (r#"{"k8s": ["hop/web|shop/we|api"]}"#, false),
            (r#"{"container": ["web"], "image": [".*/web:.*"]}"#, true),
            (r#"{"container": ["web"], "image": ["nginx"]}"#, false),
            (r#"{"container": ["we"]}"#, false),
            (r#"{"unit": [".*"]}"#, true),
            (r#"{"unit": [".+"]}"#, false),
            (r#"{"unit": [".*"], "comm": ["other"]}"#, false),
        ] {
            let selects = parse(text).unwrap().selects(&process, Path::new("/sys/fs/cgroup"));
            assert_eq!(selects, expected, "{text}");
        }
    }
}
