//! The services as systemd runs them, from installation to uninstallation.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use kumon_testing::{Child, require, require_bpf, require_program};
use tempfile::NamedTempFile;

const PROJECT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const BINARY: &str = env!("CARGO_BIN_EXE_kumon");

/// `systemd-analyze security` rates a unit's exposure from 0 to 10; these are the ratings times ten that the units
/// must not exceed.
const EXPOSURE: [(&str, u32); 4] =
    [("kumon", 21), ("kumon-collect", 12), ("kumon-net", 17), ("kumon-ship", 14)];

#[test]
fn the_units_expose_little() {
    if !require_program("systemd-analyze") {
        return;
    }
    for (unit, limit) in EXPOSURE {
        let mut analyze = Command::new("systemd-analyze");
        analyze.args(["security", "--offline=true", &format!("--threshold={limit}")]);
        let output = analyze.arg(format!("{PROJECT}/systemd/{unit}.service")).output().unwrap();
        assert!(output.status.success(), "{unit}: {}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn the_services_suffice_with_their_privileges_and_uninstalling_leaves_nothing() {
    let systemd = Path::new("/lib/systemd/systemd").exists();
    let postgresql = Path::new("/usr/lib/postgresql").exists();
    if !require_bpf() || !require(systemd, "systemd") || !require(postgresql, "postgresql") {
        return;
    }
    let output = NamedTempFile::new().unwrap();
    let mut boot = Command::new("unshare");
    boot.args(["--mount", "--pid", "--fork", "--kill-child", "--uts", "--ipc", "--cgroup"]);
    boot.arg(format!("{PROJECT}/kumon/tests/systemd/boot")).arg(output.path());
    boot.arg(format!("{PROJECT}/kumon/tests/systemd/services {PROJECT} {BINARY}"));
    boot.arg(PROJECT).arg(Path::new(BINARY).parent().unwrap());

    let status = Child::spawn(&mut boot).wait(Duration::from_secs(240));
    assert!(status.success(), "{status}\n{}", std::fs::read_to_string(output.path()).unwrap());
}
