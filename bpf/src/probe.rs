//! What this kernel lets BPF programs attach to, found by looking at its BTF and trying; nothing stays behind.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use libbpf_rs::btf::BtfType;
use libbpf_rs::btf::types::{Func, FuncProto, Ptr, Struct, Typedef, Var};
use libbpf_rs::libbpf_sys::{
    self, BPF_PROG_TYPE_TRACING, BPF_TRACE_FENTRY, BPF_TRACE_FEXIT, BPF_TRACE_ITER, BPF_TRACE_RAW_TP,
    bpf_attach_type, bpf_func_id, bpf_insn, bpf_prog_type, perf_event_attr,
};
use libbpf_rs::{Btf, ReferencesType};

use crate::privilege::{self, explain};
use crate::{libbpf_log, tracepoint};

/// Strategy name of a BTF-typed tracepoint, see `struct Hook`.
pub(crate) const TP_BTF: &str = "tp_btf";
/// Strategy name of a program that is run for each object of a kind.
pub(crate) const ITERATOR: &str = "iter";
/// Strategy name of numbers that the kernel keeps by itself.
const ACCOUNT: &str = "account";
/// Strategy name of a BPF trampoline at a function of the kernel.
pub(crate) const FENTRY: &str = "fentry";
/// Strategy name of a breakpoint at a function of the kernel.
pub(crate) const KPROBE: &str = "kprobe";
/// Strategy name of a classic tracepoint.
pub(crate) const TRACEPOINT: &str = "tracepoint";
/// Strategy name of a program at a function of a user program.
pub(crate) const UPROBE: &str = "uprobe";

/// Whether a program can be attached to `tp_btf/<event>`, or why not.
pub(crate) fn tp_btf(event: &str) -> Result<&'static str, String> {
    let program = load("btf_trace_", event, BPF_TRACE_RAW_TP)?;
    attach(&program).map_err(|e| format!("attaching a program for btf_trace_{event}: {}", explain(&e)))?;
    Ok(TP_BTF)
}

/// Whether a program can be attached to the beginning of a function of the kernel, or why not.
pub(crate) fn fentry(function: &str) -> Result<&'static str, String> {
    trampoline("fentry", function, BPF_TRACE_FENTRY)
}

/// Whether a program can be attached to the end of a function of the kernel, or why not.
pub(crate) fn fexit(function: &str) -> Result<&'static str, String> {
    trampoline("fexit", function, BPF_TRACE_FEXIT)
}

fn trampoline(kind: &str, function: &str, attach_type: bpf_attach_type) -> Result<&'static str, String> {
    let program = load(&format!("{kind}/"), function, attach_type)?;
    attach(&program).map_err(|e| format!("attaching a program to {kind}/{function}: {}", explain(&e)))?;
    Ok(FENTRY)
}

/// Whether a program can be attached to a breakpoint at a function of the kernel, or why not.
pub(crate) fn kprobe(function: &str) -> Result<&'static str, String> {
    let why = |e: io::Error| format!("kprobe/{function}: {}", explain(&e));
    let name = CString::new(function).map_err(|e| why(e.into()))?;
    let mut attributes = perf_event_attr { type_: kind_of_probe("kprobe")?, ..perf_event_attr::default() };
    // perf_event_open(2): kprobe_func, the name of the function.
    attributes.__bindgen_anon_3.config1 = name.as_ptr() as u64;
    tracepoint::open_event(attributes).map_err(why)?;
    Ok(KPROBE)
}

/// Whether a program can be run for each object of a kind by `iter/<kind>`, or why not.
pub(crate) fn iterator(kind: &str) -> Result<&'static str, String> {
    load("bpf_iter_", kind, BPF_TRACE_ITER).map(|_| ITERATOR)
}

/// Whether tracing programs may ask for the cookie of a socket, since Linux 5.12.
pub(crate) fn socket_cookies() -> bool {
    let load_first_argument = instruction(0x79, 1, 1, 0); // r1 = *(u64 *)(r1 + 0)
    let call = instruction(0x85, 0, 0, libbpf_sys::BPF_FUNC_get_socket_cookie as i32);
    let [move_0, exit] = return_0();
    let program = [load_first_argument, call, move_0, exit];
    load_instructions("btf_trace_", "inet_sock_set_state", BPF_TRACE_RAW_TP, &program).is_ok()
}

/// How many parameters the tracepoint `event` hands over on this kernel.
pub(crate) fn parameters(event: &str) -> Option<usize> {
    parameter_types(event).map(|types| types.len())
}

/// The names of their types, of pointers those of what they point to; empty where a type has none.
pub(crate) fn parameter_types(event: &str) -> Option<Vec<String>> {
    let btf = Btf::from_vmlinux().ok()?;
    let typedef: Typedef<'_> = btf.type_by_name(format!("btf_trace_{event}").as_str())?;
    let pointer = Ptr::try_from(typedef.referenced_type()).ok()?;
    let prototype = FuncProto::try_from(pointer.referenced_type()).ok()?;
    let name = |id| {
        let of: BtfType<'_> = btf.type_by_id(id)?;
        let of = Ptr::try_from(of).map_or(of, |pointer| pointer.referenced_type());
        Some(of.name()?.to_string_lossy().into_owned())
    };
    // The first one is the tracepoint's own context.
    Some(prototype.iter().skip(1).map(|parameter| name(parameter.ty).unwrap_or_default()).collect())
}

/// Whether a program can be attached to `tracepoint/<category>/<name>`, or why not.
pub(crate) fn tracepoint(category: &str, name: &str) -> Result<&'static str, String> {
    tracepoint::open(category, name)
        .map(|_| TRACEPOINT)
        .map_err(|e| format!("tracepoint/{category}/{name}: {}", explain(&e)))
}

/// Whether the kernel names its functions to a program that user space runs, since Linux 5.14.
pub(crate) fn names_symbols() -> bool {
    // Of a kind of programs that the kernel doesn't know libbpf takes every helper for known.
    // SAFETY: it takes no options.
    let runs = unsafe {
        libbpf_sys::libbpf_probe_bpf_prog_type(libbpf_sys::BPF_PROG_TYPE_SYSCALL, std::ptr::null())
    };
    runs == 1 && has_helper(libbpf_sys::BPF_PROG_TYPE_SYSCALL, libbpf_sys::BPF_FUNC_snprintf)
}

/// Whether programs can keep something in the storage of a task, or why not.
pub(crate) fn task_storage() -> Result<(), String> {
    if has_helper(libbpf_sys::BPF_PROG_TYPE_TRACEPOINT, libbpf_sys::BPF_FUNC_task_storage_get) {
        return Ok(());
    }
    Err("the kernel has no task storage for tracing programs (Linux 5.12 and later have it)".into())
}

/// Whether programs of a type may call a helper of the kernel.
fn has_helper(program: bpf_prog_type, helper: bpf_func_id) -> bool {
    // SAFETY: takes no pointer but the optional one; it loads a program and closes it again.
    unsafe { libbpf_sys::libbpf_probe_bpf_helper(program, helper, std::ptr::null()) == 1 }
}

/// Whether what is in the storage of a task is always found there. From Linux 5.12 to 6.1 a lookup failed while its CPU was
/// in another one, such as an interrupt's (bpf_task_storage_trylock of kernel/bpf/bpf_task_storage.c, which counts them in
/// `bpf_task_storage_busy`); 6.2 brought a function that is busy only when it has to make something.
pub(crate) fn task_storage_is_always_found() -> bool {
    let Ok(btf) = Btf::from_vmlinux() else { return false };
    let counts = btf.type_by_name::<Var<'_>>("bpf_task_storage_busy").is_some();
    !counts || btf.type_by_name::<Func<'_>>("bpf_task_storage_get_recur").is_some()
}

/// Whether the kernel accounts how long each task waits for a CPU where programs can read it, or why not.
pub(crate) fn account_of_waits() -> Result<&'static str, String> {
    for (structure, member, option) in
        [("sched_info", "last_queued", "CONFIG_SCHED_INFO"), ("cfs_rq", "rq", "CONFIG_FAIR_GROUP_SCHED")]
    {
        if !has_member(structure, member) {
            return Err(format!(
                "the kernel doesn't tell how long tasks wait: its BTF has no {structure}.{member} ({option})"
            ));
        }
    }
    Ok(ACCOUNT)
}

/// Whether threads that are put off because their CPU quota is used up stay in their run queue, as it is before Linux 6.18.
pub(crate) fn throttles_queues() -> bool {
    has_member("cfs_rq", "throttle_count") && !has_member("task_struct", "throttled")
}

fn has_member(structure: &str, member: &str) -> bool {
    let Ok(btf) = Btf::from_vmlinux() else { return false };
    let structure: Option<Struct<'_>> = btf.type_by_name(structure);
    structure.is_some_and(|of| of.iter().any(|candidate| candidate.name == Some(OsStr::new(member))))
}

/// Whether programs can be attached to functions of other users' programs, or why not.
pub(crate) fn uprobe() -> Result<&'static str, String> {
    const EXECUTABLE: &CStr = c"/proc/self/exe";
    let mut attributes = perf_event_attr { type_: kind_of_probe("uprobe")?, ..perf_event_attr::default() };
    // perf_event_open(2): uprobe_path and probe_offset. The kernel refuses a place behind the end of the file, but only
    // once it has found that this process may have uprobes: nothing is changed in any program.
    attributes.__bindgen_anon_3.config1 = EXECUTABLE.as_ptr() as u64;
    attributes.__bindgen_anon_4.config2 = i64::MAX as u64;
    match tracepoint::open_event(attributes) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Err(format!(
            "uprobes: {e}; run as root or with CAP_PERFMON, since Linux 6.16 (and in stable kernels since July 2025) \
             with CAP_SYS_ADMIN"
        )),
        Err(e) if e.kind() != io::ErrorKind::InvalidInput => Err(format!("uprobes: {e}")),
        _ if !privilege::may_look_into_processes() => Err(
            "the executables of other users' processes can't be reached; run as root or with CAP_SYS_PTRACE"
                .into(),
        ),
        _ => Ok(UPROBE),
    }
}

/// The number that perf_event_open(2) knows kprobes or uprobes by.
fn kind_of_probe(kind: &str) -> Result<u32, String> {
    let path = format!("/sys/bus/event_source/devices/{kind}/type");
    let number = std::fs::read_to_string(&path)
        .map_err(|e| format!("the kernel has no {kind}s (CONFIG_{}S), {path}: {e}", kind.to_uppercase()))?;
    number.trim().parse().map_err(|e| format!("{path} holds no number: {e}"))
}

/// Whether the program of a uprobe can tell by a cookie where it was attached, or why not.
pub(crate) fn attach_cookie() -> Result<(), String> {
    if has_helper(libbpf_sys::BPF_PROG_TYPE_KPROBE, libbpf_sys::BPF_FUNC_get_attach_cookie) {
        return Ok(());
    }
    Err("the kernel has no cookies for uprobes (Linux 5.15 and later have them)".into())
}

/// Whether the kernel's BTF has a function of this name.
pub(crate) fn has_function(name: &str) -> bool {
    Btf::from_vmlinux().is_ok_and(|btf| btf.type_by_name::<Func<'_>>(name).is_some())
}

/// An instruction of the BPF machine (the kernel's Documentation/bpf/standardization/instruction-set.rst).
fn instruction(code: u8, destination: u8, source: u8, immediate: i32) -> bpf_insn {
    let mut instruction = bpf_insn { code, imm: immediate, ..bpf_insn::default() };
    instruction.set_dst_reg(destination);
    instruction.set_src_reg(source);
    instruction
}

/// `return 0`
pub(crate) fn return_0() -> [bpf_insn; 2] {
    [instruction(0xb7, 0, 0, 0), instruction(0x95, 0, 0, 0)]
}

/// Loads `return 0` as a program for the type `<prefix><name>` of the kernel's BTF, or says why that fails.
fn load(prefix: &str, name: &str, attach_type: bpf_attach_type) -> Result<OwnedFd, String> {
    load_instructions(prefix, name, attach_type, &return_0())
}

fn load_instructions(
    prefix: &str,
    name: &str,
    attach_type: bpf_attach_type,
    instructions: &[bpf_insn],
) -> Result<OwnedFd, String> {
    let Ok(c_name) = CString::new(name) else { return Err(format!("'{name}' is no name of an event")) };
    libbpf_log::listen();
    // SAFETY: the name is a C string; libbpf puts the prefix of the attach type before it.
    let id = unsafe { libbpf_sys::libbpf_find_vmlinux_btf_id(c_name.as_ptr(), attach_type) };
    if id < 0 {
        let why = io::Error::from_raw_os_error(-id);
        return Err(format!("{prefix}{name} is not in the kernel's BTF (/sys/kernel/btf/vmlinux): {why}"));
    }
    load_for(id as u32, attach_type, instructions)
        .map_err(|e| format!("loading a program for {prefix}{name}: {}", explain(&e)))
}

fn load_for(btf_id: u32, attach_type: bpf_attach_type, instructions: &[bpf_insn]) -> io::Result<OwnedFd> {
    let mut options = libbpf_sys::bpf_prog_load_opts {
        sz: size_of::<libbpf_sys::bpf_prog_load_opts>() as libbpf_sys::size_t,
        expected_attach_type: attach_type,
        attach_btf_id: btf_id,
        ..Default::default()
    };
    // SAFETY: name, licence and instructions outlive the call, and the count is theirs.
    let fd = unsafe {
        libbpf_sys::bpf_prog_load(
            BPF_PROG_TYPE_TRACING,
            c"kumon_probe".as_ptr(),
            c"Dual MIT/GPL".as_ptr(),
            instructions.as_ptr(),
            instructions.len() as libbpf_sys::size_t,
            &raw mut options,
        )
    };
    owned(fd)
}

/// Attaches the program to the tracepoint it was loaded for; the descriptor is the attachment.
fn attach(program: &OwnedFd) -> io::Result<OwnedFd> {
    use std::os::fd::AsRawFd;
    // SAFETY: the kernel takes the name from the program; the descriptor is open.
    owned(unsafe { libbpf_sys::bpf_raw_tracepoint_open(std::ptr::null(), program.as_raw_fd()) })
}

/// libbpf returns a new descriptor or a negative errno.
pub(crate) fn owned(fd: i32) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(-fd));
    }
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
