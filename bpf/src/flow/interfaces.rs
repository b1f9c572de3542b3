//! The network interfaces that the programs are attached to: those that are there, as they come and go.

use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use kumon_collect::NamePatterns;
use libbpf_rs::Link;

use super::skeleton::FlowSkel;
use crate::active::Attached;
use crate::tc::{self, Hooks, LOOPBACK, Way};

/// How often it is looked which interfaces there are.
const PERIOD: Duration = Duration::from_secs(1);

/// Which interfaces are wanted.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) interfaces: NamePatterns,
    pub(super) exclude: NamePatterns,
}

impl Wanted {
    fn has(&self, name: &str) -> bool {
        let name = name.as_bytes();
        (self.interfaces.is_empty() || self.interfaces.matches(name)) && !self.exclude.matches(name)
    }
}

/// What of the object is attached: to interfaces, and elsewhere.
pub(super) struct Interfaces {
    hooks: Hooks,
    wanted: Wanted,
    /// By number; nothing where it was refused, so that it is said once.
    at: HashMap<u32, Option<tc::Attached>>,
    elsewhere: Vec<Link>,
    due: Instant,
}

impl Interfaces {
    /// Attaches the programs to the interfaces that are there.
    ///
    /// # Errors
    /// When the kernel doesn't tell which there are, or refuses all that are wanted; the last refusal then.
    pub(super) fn attach(
        hooks: Hooks,
        wanted: Wanted,
        skeleton: &FlowSkel<'static>,
        elsewhere: Vec<Link>,
    ) -> std::io::Result<Interfaces> {
        let due = Instant::now() + PERIOD;
        let mut interfaces = Interfaces { hooks, wanted, at: HashMap::new(), elsewhere, due };
        match interfaces.follow(skeleton)? {
            Some(refusal) if interfaces.at.values().all(Option::is_none) => Err(refusal),
            _ => Ok(interfaces),
        }
    }

    /// Attaches to those that have come, and lets go those that are gone. The last refusal.
    fn follow(&mut self, skeleton: &FlowSkel<'static>) -> std::io::Result<Option<std::io::Error>> {
        let mut there = tc::interfaces()?;
        there.retain(|(_, name)| self.wanted.has(name));
        self.at.retain(|number, _| there.iter().any(|(of, _)| of == number));
        let mut refusal = None;
        for (number, name) in there {
            if self.at.contains_key(&number) {
                continue;
            }
            let attached = self.hooks.attach(number, &programs(skeleton, number));
            let attached = attached.map_err(|e| {
                log::warn!("flow: the network interface {name} is left out: attaching a program to it: {e}");
                refusal = Some(e);
            });
            self.at.insert(number, attached.ok());
        }
        Ok(refusal)
    }
}

/// Each packet that goes out at the loopback interface comes in there too.
fn programs<'a>(skeleton: &'a FlowSkel<'static>, interface: u32) -> Vec<(Way, BorrowedFd<'a>)> {
    use std::os::fd::AsFd;
    let egress = (Way::Egress, skeleton.progs.kumon_egress.as_fd());
    let ingress = (Way::Ingress, skeleton.progs.kumon_ingress.as_fd());
    if interface == LOOPBACK { vec![egress] } else { vec![egress, ingress] }
}

impl Attached<FlowSkel<'static>> for Interfaces {
    fn renew(&mut self, skeleton: &FlowSkel<'static>, now: Instant) {
        if now < self.due {
            return;
        }
        self.due = now + PERIOD;
        if let Err(e) = self.follow(skeleton) {
            log::warn!("flow: can't tell which network interfaces there are: {e}");
        }
    }

    fn detach(&mut self) {
        self.at.clear();
        self.elsewhere.clear();
    }
}
