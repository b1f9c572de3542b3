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
        let setup = Setup { node: Node::new("") };
        setup.configure(elasticsearch, inputs);
        setup
    }

    /// Another configuration from now on.
    pub(super) fn configure(&self, elasticsearch: &Elasticsearch, inputs: &str) {
        self.node.configure(&(self.node.output(elasticsearch) + inputs));
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.node.path(name)
    }

    pub(super) fn run(&self, arguments: &[&str]) -> String {
        printed(self.output(arguments))
    }

    /// The same on a machine of that name.
    pub(super) fn run_on(&self, host: &str, arguments: &[&str]) -> String {
        let here = self.command(arguments);
        let mut there = Command::new("unshare");
        there.args(["--uts", "sh", "-c", "hostname \"$0\" && exec \"$@\"", host]);
        printed(there.arg(here.get_program()).args(here.get_args()).output().unwrap())
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

fn printed(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
