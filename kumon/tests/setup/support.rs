//! What the tests of `kumon setup` share.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use kumon_testing::Elasticsearch;
use tempfile::TempDir;

/// A configuration for a node, in a folder of its own.
pub(super) struct Setup {
    folder: TempDir,
}

impl Setup {
    pub(super) fn new(node: &Elasticsearch, inputs: &str) -> Setup {
        let folder = tempfile::tempdir().unwrap();
        let password = folder.path().join("password");
        fs::write(&password, node.password()).unwrap();
        let ca = if node.url().starts_with("https") {
            format!("    ca_file: {}\n", node.ca_file().display())
        } else {
            String::new()
        };
        let config = format!(
            "web: {{ enabled: false }}\npath: {{ spool: {0}/spool, state: {0}/state }}\noutput:\n  elasticsearch:\n    hosts: ['{1}']\n    username: {2}\n    password_file: {3}\n{ca}{inputs}",
            folder.path().display(),
            node.url(),
            node.username(),
            password.display()
        );
        fs::write(folder.path().join("kumon.yml"), config).unwrap();
        Setup { folder }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
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
        let mut kumon = Command::new(env!("CARGO_BIN_EXE_kumon"));
        kumon.arg("--config").arg(self.path("kumon.yml")).arg("setup").args(arguments);
        kumon
    }

    /// Another command than setup.
    pub(super) fn kumon(&self, arguments: &[&str]) -> Output {
        let mut kumon = Command::new(env!("CARGO_BIN_EXE_kumon"));
        kumon.arg("--config").arg(self.path("kumon.yml")).args(arguments).output().unwrap()
    }
}
