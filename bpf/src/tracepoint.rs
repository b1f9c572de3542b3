//! Classic tracepoints (`tracepoint/<category>/<name>`), for the events that have no tp_btf: those of syscalls.

use std::fs::File;
use std::io::{self, Read};
use std::mem::size_of;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::path::Path;

use libbpf_rs::libbpf_sys::{self, perf_event_attr};
use libbpf_rs::{Link, ProgramMut};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

/// Attaches `program` to a tracepoint, also where tracefs is not mounted.
///
/// # Errors
/// When the kernel has no such tracepoint, tracefs can't be reached, or the kernel refuses.
pub(crate) fn attach(program: &ProgramMut<'_>, category: &str, name: &str) -> libbpf_rs::Result<Link> {
    let event = open(category, name)?;
    // The link owns the event from here on and closes it.
    program.attach_perf_event(event.into_raw_fd())
}

/// Flag of perf_event_open(2), include/uapi/linux/perf_event.h.
const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 1 << 3;

/// Opens the perf event of a tracepoint, which is all that attaching takes.
pub(crate) fn open(category: &str, name: &str) -> io::Result<OwnedFd> {
    open_event(perf_event_attr {
        type_: libbpf_sys::PERF_TYPE_TRACEPOINT,
        config: id(category, name)?,
        ..perf_event_attr::default()
    })
}

/// Opens a perf event for a BPF program.
pub(crate) fn open_event(mut attributes: perf_event_attr) -> io::Result<OwnedFd> {
    attributes.size = size_of::<perf_event_attr>() as u32;
    attributes.__bindgen_anon_1.sample_period = 1;
    attributes.__bindgen_anon_2.wakeup_events = 1;
    // Every process on one CPU: BPF programs of a tracepoint run on all CPUs wherever the event was opened.
    let (pid, cpu, group) = (-1, online_cpu(), -1);
    // SAFETY: perf_event_open(2) reads `size` bytes of the attributes and returns a new descriptor or -1.
    let fd = unsafe {
        libc::syscall(libc::SYS_perf_event_open, &raw const attributes, pid, cpu, group, PERF_FLAG_FD_CLOEXEC)
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// A CPU that is online: CPU 0 may be switched off. It is taken where sysfs doesn't tell.
fn online_cpu() -> libc::c_int {
    let list = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    first_of(&list).unwrap_or(0)
}

/// The first of a list of CPUs, as `0-3` or `2,4-7`.
fn first_of(list: &str) -> Option<libc::c_int> {
    list.trim_end().split(['-', ',']).next()?.parse().ok()
}

/// The tracepoint's number from tracefs.
fn id(category: &str, name: &str) -> io::Result<u64> {
    let path = format!("events/{category}/{name}/id");
    let file = openat(tracefs()?, &path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| unreadable(&format!("tracefs has no readable {path}: {e}")))?;
    let mut text = String::new();
    File::from(file).read_to_string(&mut text)?;
    text.trim().parse().map_err(|e| io::Error::other(format!("{path} holds no number: {e}")))
}

/// tracefs where it is mounted, else an own mount that no other process sees and that ends with the descriptor.
fn tracefs() -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    for mount in ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"] {
        if Path::new(mount).join("events").exists() {
            return Ok(openat(CWD, mount, flags, Mode::empty())?);
        }
    }
    let detached = || {
        let tracefs = fsopen("tracefs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_create(&tracefs)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        fsmount(&tracefs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    };
    detached().map_err(|e: rustix::io::Errno| {
        unreadable(&format!(
            "tracefs is not mounted at /sys/kernel/tracing or can't be read there, and an own mount of it was refused \
             ({e}): mount it (mount -t tracefs tracefs /sys/kernel/tracing)"
        ))
    })
}

/// A refusal that says all by itself: it is no matter of the capabilities that BPF programs take.
fn unreadable(what: &str) -> io::Error {
    io::Error::other(format!("{what}; root may read tracefs, others with CAP_DAC_READ_SEARCH"))
}

#[cfg(test)]
mod tests {
    use super::first_of;

    #[test]
    fn the_first_online_cpu_is_taken_whichever_that_is() {
        for (list, first) in
            [("0\n", Some(0)), ("0-3\n", Some(0)), ("2,4-7\n", Some(2)), ("12-15", Some(12)), ("", None)]
        {
            assert_eq!(first_of(list), first, "{list:?}");
        }
    }
}
