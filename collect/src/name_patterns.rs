//! Lists of names in settings.

use serde::Deserialize;

/// Names of devices, types and the like; what a name ends with may be left open by a `*`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct NamePatterns(Vec<String>);

impl NamePatterns {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those that a default names.
    pub fn of(names: &[&str]) -> NamePatterns {
        NamePatterns(names.iter().map(ToString::to_string).collect())
    }

    /// Whether one of them is the name of this.
    pub fn matches(&self, this: &[u8]) -> bool {
        self.0.iter().any(|name| match name.strip_suffix('*') {
            Some(beginning) => this.starts_with(beginning.as_bytes()),
            None => this == name.as_bytes(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::NamePatterns;

    #[test]
    fn a_name_is_whole_unless_its_end_is_left_open() {
        let patterns = NamePatterns::of(&["lo", "veth*"]);
        let matches = |name: &str| patterns.matches(name.as_bytes());
        assert!(matches("lo") && matches("veth0a1b") && matches("veth"));
        assert!(!matches("lo0") && !matches("eth0") && !matches(""));
        assert!(NamePatterns::of(&["*"]).matches(b"eth0"));
    }
}
