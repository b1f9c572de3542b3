//! What the tests of `kumon setup` share.

use std::path::PathBuf;
use std::process::{Command, Output};

use kumon_testing::Elasticsearch;

use crate::common::Node;

/// A node that ships to an Elasticsearch.
pub(super) struct Setup {
    node: Node,
}

impl Setup {
    pub(super) fn new(elasticsearch: &Elasticsearch, inputs: &str) -> Setup {
        let node = Node::new("");
        node.configure(&(node.output(elasticsearch) + inputs));
        Setup { node }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.node.path(name)
    }

    pub(super) fn run(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub(super) fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        self.node.command(&[&["setup"], arguments].concat())
    }

    /// Another command than setup.
    pub(super) fn kumon(&self, arguments: &[&str]) -> Output {
        self.node.command(arguments).output().unwrap()
    }
}
