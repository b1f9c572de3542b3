//! Programs at network interfaces: traffic control's hooks for packets that come in and go out.
//!
//! Since Linux 6.6 they are links (TCX), which end with the process. Before, they are filters of the queueing discipline
//! clsact, which stay until somebody takes them away: the next KuMon does. Either way KuMon's programs stand beside those
//! of others, and touch none of them.

mod filters;

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::fs;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use libbpf_rs::libbpf_sys::{
    self, BPF_PROG_TYPE_SCHED_CLS, BPF_TC_EGRESS, BPF_TC_INGRESS, BPF_TCX_EGRESS, BPF_TCX_INGRESS,
};

use crate::privilege;
use filters::Filter;

/// Strategy name of links at an interface, see `struct Hook`.
const TCX: &str = "tcx";
/// Strategy name of filters at an interface.
const CLSACT: &str = "clsact";

/// The loopback interface of every network namespace (LOOPBACK_IFINDEX of include/net/flow.h).
pub(crate) const LOOPBACK: u32 = 1;

/// How the names of KuMon's programs at interfaces begin.
const OURS: &str = "kumon_";

/// The filters of this process: interface, direction, priority. It may have more than one collector, and its process id may be
/// that of one which was killed, as in a container.
static OWN: Mutex<BTreeSet<(u32, u32, u32)>> = Mutex::new(BTreeSet::new());

/// Which packets of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Ingress,
    Egress,
}

/// How programs are attached to interfaces here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hooks {
    Tcx,
    Clsact,
}

/// Programs at an interface, until it is dropped.
#[derive(Debug)]
pub(crate) enum Attached {
    /// Its descriptors are the attachments.
    Tcx {
        _links: Vec<OwnedFd>,
    },
    Clsact {
        _filters: Clsact,
    },
}

/// Filters of one interface.
#[derive(Debug)]
pub(crate) struct Clsact {
    interface: u32,
    filters: Vec<(Way, libbpf_sys::bpf_tc_opts)>,
    /// Nobody had the queueing discipline before.
    made: bool,
}

impl Way {
    fn point(self) -> libbpf_sys::bpf_tc_attach_point {
        match self {
            Way::Ingress => BPF_TC_INGRESS,
            Way::Egress => BPF_TC_EGRESS,
        }
    }

    fn of_tcx(self) -> libbpf_sys::bpf_attach_type {
        match self {
            Way::Ingress => BPF_TCX_INGRESS,
            Way::Egress => BPF_TCX_EGRESS,
        }
    }
}

/// How a program can be attached to interfaces here, or why not. Nothing stays behind.
pub(crate) fn probe(as_on_old_kernels: bool) -> Result<(Hooks, &'static str), String> {
    if !privilege::may_administer_networks() {
        return Err("programs at network interfaces take CAP_NET_ADMIN, which this process lacks: run as root, or let \
                    kumon-net.service collect it"
            .into());
    }
    let program =
        no_verdict().map_err(|e| format!("loading a program for interfaces: {}", privilege::explain(&e)))?;
    match tcx(program.as_fd(), LOOPBACK, Way::Egress) {
        Ok(_) if !as_on_old_kernels => Ok((Hooks::Tcx, TCX)),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            Err(format!("attaching a program to the loopback interface: {}", privilege::explain(&e)))
        }
        _ => Ok((Hooks::Clsact, CLSACT)),
    }
}

/// `return -1` (TC_ACT_UNSPEC), loaded.
fn no_verdict() -> io::Result<OwnedFd> {
    let [mut minus_1, exit] = crate::probe::return_0();
    minus_1.imm = -1;
    let program = [minus_1, exit];
    // SAFETY: name, licence and instructions outlive the call, and the count is theirs.
    let fd = unsafe {
        libbpf_sys::bpf_prog_load(
            BPF_PROG_TYPE_SCHED_CLS,
            c"kumon_probe".as_ptr(),
            c"Dual MIT/GPL".as_ptr(),
            program.as_ptr(),
            program.len() as libbpf_sys::size_t,
            std::ptr::null_mut(),
        )
    };
    crate::probe::owned(fd)
}

impl Hooks {
    /// Attaches programs to an interface of the thread's network namespace, beside what is attached already.
    pub(crate) fn attach(self, interface: u32, programs: &[(Way, BorrowedFd<'_>)]) -> io::Result<Attached> {
        match self {
            Hooks::Tcx => {
                let links = programs.iter().map(|(way, program)| tcx(*program, interface, *way));
                Ok(Attached::Tcx { _links: links.collect::<io::Result<_>>()? })
            }
            Hooks::Clsact => {
                Clsact::attach(interface, programs).map(|filters| Attached::Clsact { _filters: filters })
            }
        }
    }
}

fn tcx(program: BorrowedFd<'_>, interface: u32, way: Way) -> io::Result<OwnedFd> {
    // SAFETY: no options are given; the descriptor is a program's.
    let fd = unsafe {
        libbpf_sys::bpf_link_create(program.as_raw_fd(), interface as i32, way.of_tcx(), std::ptr::null())
    };
    crate::probe::owned(fd)
}

impl Clsact {
    fn attach(interface: u32, programs: &[(Way, BorrowedFd<'_>)]) -> io::Result<Clsact> {
        let mut own = own();
        let made = make_clsact(interface)?;
        let mut clsact = Clsact { interface, filters: Vec::new(), made };
        clsact.clean_up(&own)?;
        for (way, program) in programs {
            let mut options = options();
            options.prog_fd = program.as_raw_fd();
            // Tells the next KuMon whether who attached it is still there. The kernel gives it a priority that is free.
            options.handle = std::process::id();
            let hook = hook(interface, way.point());
            // SAFETY: both are of this call, and their sizes are set.
            check(unsafe { libbpf_sys::bpf_tc_attach(&raw const hook, &raw mut options) })?;
            own.insert((interface, way.point(), options.priority));
            clsact.filters.push((*way, options));
        }
        Ok(clsact)
    }

    /// Takes away what a KuMon has left that was killed.
    fn clean_up(&mut self, own: &BTreeSet<(u32, u32, u32)>) -> io::Result<()> {
        for way in [Way::Ingress, Way::Egress] {
            let is_own = |filter: &Filter| own.contains(&(self.interface, way.point(), filter.priority));
            let is_left =
                |filter: &&Filter| filter.program.starts_with(OURS) && !is_own(filter) && !is_held(filter);
            for filter in filters::of(self.interface, way)?.iter().filter(is_left) {
                log::info!("interface {}: removing the filter of a KuMon that was killed", self.interface);
                detach(self.interface, way, filter.handle, filter.priority)?;
                self.made = true;
            }
        }
        Ok(())
    }

    fn is_unused(&self) -> bool {
        let unused = |way| filters::of(self.interface, way).is_ok_and(|filters| filters.is_empty());
        unused(Way::Ingress) && unused(Way::Egress)
    }
}

impl Drop for Clsact {
    fn drop(&mut self) {
        let mut own = own();
        // The interface may be gone, and all of it with it.
        for (way, options) in &self.filters {
            own.remove(&(self.interface, way.point(), options.priority));
            let _ = detach(self.interface, *way, options.handle, options.priority);
        }
        if self.made && self.is_unused() {
            let mut hook = hook(self.interface, BPF_TC_INGRESS | BPF_TC_EGRESS);
            // SAFETY: the hook is of this call, and its size is set.
            let _ = unsafe { libbpf_sys::bpf_tc_hook_destroy(&raw mut hook) };
        }
    }
}

/// Whether the process is there that attached it, which its handle says; this one knows its own.
fn is_held(filter: &Filter) -> bool {
    filter.handle != std::process::id() && fs::exists(format!("/proc/{}", filter.handle)).unwrap_or(true)
}

fn own() -> MutexGuard<'static, BTreeSet<(u32, u32, u32)>> {
    OWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether there was none.
fn make_clsact(interface: u32) -> io::Result<bool> {
    let mut hook = hook(interface, BPF_TC_INGRESS | BPF_TC_EGRESS);
    // SAFETY: the hook is of this call, and its size is set.
    match check(unsafe { libbpf_sys::bpf_tc_hook_create(&raw mut hook) }) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        result => result.map(|()| true),
    }
}

fn detach(interface: u32, way: Way, handle: u32, priority: u32) -> io::Result<()> {
    let hook = hook(interface, way.point());
    let options = libbpf_sys::bpf_tc_opts { handle, priority, ..options() };
    // SAFETY: both are of this call, and their sizes are set.
    check(unsafe { libbpf_sys::bpf_tc_detach(&raw const hook, &raw const options) })
}

fn hook(interface: u32, attach_point: libbpf_sys::bpf_tc_attach_point) -> libbpf_sys::bpf_tc_hook {
    libbpf_sys::bpf_tc_hook {
        sz: size_of::<libbpf_sys::bpf_tc_hook>() as libbpf_sys::size_t,
        ifindex: interface as i32,
        attach_point,
        ..Default::default()
    }
}

fn options() -> libbpf_sys::bpf_tc_opts {
    libbpf_sys::bpf_tc_opts {
        sz: size_of::<libbpf_sys::bpf_tc_opts>() as libbpf_sys::size_t,
        ..Default::default()
    }
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(()) }
}

/// The interfaces of the thread's network namespace: their numbers and names.
pub(crate) fn interfaces() -> io::Result<Vec<(u32, String)>> {
    let mut interfaces = Vec::new();
    // SAFETY: it takes nothing; what it returns is freed below.
    let all = unsafe { libc::if_nameindex() };
    if all.is_null() {
        return Err(io::Error::last_os_error());
    }
    for at in 0.. {
        // SAFETY: the array ends with an entry of number 0, and has not been left yet.
        let entry = unsafe { &*all.add(at) };
        if entry.if_index == 0 || entry.if_name.is_null() {
            break;
        }
        // SAFETY: it is a C string until the array is freed.
        let name = unsafe { CStr::from_ptr(entry.if_name) };
        interfaces.push((entry.if_index, name.to_string_lossy().into_owned()));
    }
    // SAFETY: it came from if_nameindex, and nothing refers to it any more.
    unsafe { libc::if_freenameindex(all) };
    Ok(interfaces)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use kumon_testing::require_bpf;

    use super::{Attached, Clsact, Hooks, LOOPBACK, Way, filters, no_verdict};

    /// In a network namespace of its own, which ends with the thread.
    fn in_own_namespace(test: impl FnOnce() + Send + 'static) {
        if !require_bpf() {
            return;
        }
        let apart = || {
            // SAFETY: it takes no pointer, and concerns this thread only.
            assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0);
            test();
        };
        std::thread::spawn(apart).join().unwrap();
    }

    #[test]
    fn what_a_killed_kumon_has_left_is_removed_by_the_next_one() {
        in_own_namespace(|| {
            let program = no_verdict().unwrap();
            let attach = || Clsact::attach(LOOPBACK, &[(Way::Egress, program.as_fd())]).unwrap();
            // One that is killed forgets too what is its own.
            std::mem::forget(attach());
            super::own().retain(|(interface, ..)| *interface != LOOPBACK);
            assert_eq!(filters::of(LOOPBACK, Way::Egress).unwrap().len(), 1);
            let next = attach();
            let there = filters::of(LOOPBACK, Way::Egress).unwrap();
            assert!(there.len() == 1 && there[0].program.starts_with("kumon_probe:["), "{there:?}");
            drop(next);
            assert_eq!(filters::of(LOOPBACK, Way::Egress).unwrap(), []);
            // The queueing discipline is gone too, but one of somebody else stays.
            assert!(super::make_clsact(LOOPBACK).unwrap());
            drop(attach());
            assert!(!super::make_clsact(LOOPBACK).unwrap(), "it is there");
        });
    }

    #[test]
    fn links_end_with_their_holder() {
        in_own_namespace(|| {
            let program = no_verdict().unwrap();
            match Hooks::Tcx.attach(LOOPBACK, &[(Way::Ingress, program.as_fd())]) {
                Ok(attached) => assert!(matches!(attached, Attached::Tcx { .. })),
                // Before Linux 6.6.
                Err(e) => assert_eq!(e.raw_os_error(), Some(libc::EINVAL)),
            }
        });
    }
}
