//! The names of rows that are alike: looked at once, and then only compared.

use super::tidy::Members;

/// So many other rows may come before the next one is learned: where they alternate, learning each would cost more than
/// it saves.
const PATIENCE: u32 = 64;

/// The names of a flat row's fields, in their order, that could stay as they are.
#[derive(Debug, Default)]
pub(in crate::decode) struct Shape {
    names: Vec<String>,
    /// Rows with other names since this one was learned.
    others: u32,
}

impl Shape {
    /// Follows a row's names, one after the other.
    pub(in crate::decode) fn compare(&self) -> Comparison<'_> {
        Comparison { names: self.names.iter(), are_same: true }
    }

    /// Takes note of a row whose names can stay as they are, and differ from these.
    pub(in crate::decode) fn learn(&mut self, line: &str) {
        self.others = self.others.saturating_sub(1);
        if self.others > 0 || !is_flat(line) {
            return;
        }
        if let Ok(Members(members)) = serde_json::from_str(line) {
            self.names = members.into_iter().map(|(name, _)| name.into_owned()).collect();
            self.others = PATIENCE;
        }
    }
}

/// Whether no value of an object has names or parts.
pub(in crate::decode) fn is_flat(line: &str) -> bool {
    memchr::memchr2(b'{', b'[', line.as_bytes().get(1..).unwrap_or_default()).is_none()
}

/// How far a row's names are those of a shape.
#[derive(Debug)]
pub(in crate::decode) struct Comparison<'s> {
    names: std::slice::Iter<'s, String>,
    are_same: bool,
}

impl Comparison<'_> {
    /// Takes the row's next name.
    pub(in crate::decode) fn add(&mut self, name: &str) {
        self.are_same = self.are_same && self.names.next().is_some_and(|known| known == name);
    }

    /// Whether they are all the same, and none is missing.
    pub(in crate::decode) fn is_same(&self) -> bool {
        self.are_same && self.names.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::{PATIENCE, Shape};

    fn is_same(shape: &Shape, names: &[&str]) -> bool {
        let mut comparison = shape.compare();
        names.iter().for_each(|name| comparison.add(name));
        comparison.is_same()
    }

    #[test]
    fn the_same_names_in_the_same_order_are_alike_and_others_are_learned_in_time() {
        let mut shape = Shape::default();
        assert!(!is_same(&shape, &["a"]));
        shape.learn(r#"{"a":{"b":1}}"#);
        assert!(!is_same(&shape, &["a"]), "not flat");
        shape.learn(r#"{"a":1,"b":"x"}"#);
        assert!(is_same(&shape, &["a", "b"]));
        for others in [&["a"][..], &["a", "b", "c"], &["b", "a"], &["a", "B"], &[]] {
            assert!(!is_same(&shape, others), "{others:?}");
        }
        for _ in 1..PATIENCE {
            shape.learn(r#"{"c":1}"#);
        }
        assert!(is_same(&shape, &["a", "b"]));
        shape.learn(r#"{"c":1}"#);
        assert!(is_same(&shape, &["c"]));
    }
}
