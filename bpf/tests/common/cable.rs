//! Network namespaces of a test's own: two of them, joined by a pair of interfaces.

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use kumon_testing::{require_bpf, require_program};

use super::containers::run;

/// Two hosts at both ends of a cable, which go in the end.
pub struct Cable {
    pub near: Host,
    pub far: Host,
}

/// A network namespace with one interface beside the loopback.
pub struct Host {
    namespace: String,
    /// Nobody else's has this name, whatever namespace it is in.
    pub interface: String,
    pub address: Ipv4Addr,
}

impl Cable {
    /// None where there can be none.
    pub fn lay() -> Option<Cable> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !(require_bpf()
            && require_program("ip")
            && require_program("nsenter")
            && require_program("python3"))
        {
            return None;
        }
        let name = |end| format!("k{}{end}{}", std::process::id(), COUNT.load(Ordering::Relaxed));
        let host = |end, last| Host::new(name(end), Ipv4Addr::new(10, 77, 0, last));
        let cable = Cable { near: host('a', 1), far: host('b', 2) };
        COUNT.fetch_add(1, Ordering::Relaxed);
        let (near, far) = (&cable.near, &cable.far);
        run(Command::new("ip")
            .args(["link", "add", &near.interface, "netns", &near.namespace, "type", "veth", "peer"])
            .args(["name", &far.interface, "netns", &far.namespace]));
        for host in [near, far] {
            host.run("ip", &["address", "add", &format!("{}/24", host.address), "dev", &host.interface]);
            host.run("ip", &["link", "set", &host.interface, "up"]);
            host.run("ip", &["link", "set", "lo", "up"]);
        }
        Some(cable)
    }
}

impl Host {
    fn new(name: String, address: Ipv4Addr) -> Host {
        run(Command::new("ip").args(["netns", "add", &name]));
        let host = Host { namespace: name.clone(), interface: name, address };
        // Its own packets would come between those of the test.
        host.run("sh", &["-c", "echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6"]);
        host
    }

    /// A program in this namespace. Not by `ip netns exec`, which hides cgroups from it.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.namespace)).arg(program);
        command
    }

    /// Runs one to its end; what it wrote.
    #[track_caller]
    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        run(self.command(program).args(arguments))
    }

    /// Runs Python to its end; what it wrote.
    #[track_caller]
    pub fn python(&self, script: &str, arguments: &[&str]) -> String {
        run(self.command("/usr/bin/python3").args(["-c", script]).args(arguments))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // The interfaces go with it.
        let _ = Command::new("ip").args(["netns", "delete", &self.namespace]).status();
    }
}
