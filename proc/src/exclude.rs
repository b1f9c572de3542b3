//! What is left out by its name.

use serde::Deserialize;

/// Names of devices, types and the like; what a name ends with may be left open by a `*`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Exclude(Vec<String>);

impl Exclude {
    pub(crate) fn of(names: &[&str]) -> Exclude {
        Exclude(names.iter().map(ToString::to_string).collect())
    }

    pub(crate) fn leaves_out(&self, this: &[u8]) -> bool {
        self.0.iter().any(|name| match name.strip_suffix('*') {
            Some(beginning) => this.starts_with(beginning.as_bytes()),
            None => this == name.as_bytes(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Exclude;

    #[test]
    fn a_name_is_whole_unless_its_end_is_left_open() {
        let exclude = Exclude::of(&["lo", "veth*"]);
        let leaves_out = |name: &str| exclude.leaves_out(name.as_bytes());
        assert!(leaves_out("lo") && leaves_out("veth0a1b") && leaves_out("veth"));
        assert!(!leaves_out("lo0") && !leaves_out("eth0") && !leaves_out(""));
        assert!(Exclude::of(&["*"]).leaves_out(b"eth0"));
    }
}
