//! Network namespaces and what joins them. They end with the process that holds each of them, and so do their interfaces.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use kumon_testing::{Child, wait_for};

/// A network namespace.
pub struct Namespace(Child);

impl Namespace {
    pub fn new() -> Namespace {
        let own = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        let child = Child::spawn(Command::new("unshare").args(["--net", "sleep", "infinity"]));
        wait_for("a network namespace", Duration::from_secs(10), || {
            own(child.id()) != own(std::process::id())
        });
        let namespace = Namespace(child);
        namespace.run("ip link set lo up");
        namespace
    }

    /// What setns(2) takes.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.0.id()).into()
    }

    /// Its name for `ip link … netns`.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// A program that runs in it; `ip netns exec` would take /sys from it.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg(program);
        command
    }

    /// Runs a line of the shell, which must not fail.
    pub fn run(&self, line: &str) -> String {
        let Output { status, stdout, stderr } = self.command("sh").args(["-ec", line]).output().unwrap();
        assert!(status.success(), "{line}: {}", String::from_utf8_lossy(&stderr));
        String::from_utf8(stdout).unwrap()
    }

    /// A Python program that runs in it.
    pub fn python(&self, script: &str) -> Command {
        let mut command = self.command("/usr/bin/python3");
        command.args(["-c", script]);
        command
    }

    /// What an interface counted: packets and bytes, received and sent.
    pub fn counters(&self, interface: &str) -> [u64; 4] {
        let all = std::fs::read_to_string(format!("/proc/{}/net/dev", self.0.id())).unwrap();
        let line = all.lines().find_map(|line| line.trim_start().strip_prefix(&format!("{interface}:")));
        let numbers: Vec<u64> =
            line.unwrap().split_whitespace().map(|number| number.parse().unwrap()).collect();
        [numbers[1], numbers[0], numbers[9], numbers[8]]
    }

    /// Joins both by a pair of interfaces that have these addresses and know each other's, so that nothing is asked for.
    pub fn join(&self, other: &Namespace, name: &str, addresses: [&str; 2]) {
        let [a, b] = addresses;
        let (left, right) = (self.id(), other.id());
        self.run(&format!("ip link add {name} address 02:00:00:00:00:01 type veth peer name {name} address 02:00:00:00:00:02 netns {right}"));
        assert_ne!(left, right);
        for (namespace, own, peer, mac) in [(self, a, b, 2), (other, b, a, 1)] {
            let peer = peer.split('/').next().unwrap();
            // Nobody else is to talk.
            let (off, value) = if own.contains(':') { ("accept_dad", 0) } else { ("disable_ipv6", 1) };
            namespace.run(&format!(
                "for off in {off}; do echo {value} >/proc/sys/net/ipv6/conf/{name}/$off || true; done; \
                 ip addr add {own} dev {name}; ip link set {name} up; \
                 ip neigh replace {peer} lladdr 02:00:00:00:00:0{mac} dev {name} nud permanent"
            ));
        }
        wait_for("the link", Duration::from_secs(10), || {
            self.run(&format!("cat /proc/net/dev; ip -o link show {name}")).contains("state UP")
        });
    }
}

/// Puts this thread into a network namespace.
pub fn enter(path: &std::path::Path) {
    let namespace = File::open(path).unwrap();
    // SAFETY: the descriptor is open.
    let result = unsafe { libc::setns(namespace.as_fd().as_raw_fd(), libc::CLONE_NEWNET) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}
