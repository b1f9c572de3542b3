//! Names of the kernel's functions by addresses in them.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use libbpf_rs::ProgramMut;
use libbpf_rs::libbpf_sys;

use super::skeleton::types;
use crate::events;

/// More names than a kernel has places that drop packets, and functions on the way there.
const REMEMBERED: usize = 16_384;

/// Looks functions up by the addresses in their callees' stack frames.
pub(super) struct Symbols {
    known: HashMap<u64, String>,
    source: Source,
}

/// Who knows them.
enum Source {
    /// The kernel itself, asked by the program `name_symbol`.
    Kernel(OwnedFd),
    /// /proc/kallsyms; empty where it doesn't show addresses, which takes CAP_SYSLOG.
    Kallsyms(BTreeMap<u64, String>),
}

impl Symbols {
    /// By a program where it is loaded; it needs Linux 5.14.
    pub(super) fn new(program: Option<&ProgramMut<'_>>) -> libbpf_rs::Result<Symbols> {
        let source = match program {
            Some(program) => Source::Kernel(program.as_fd().try_clone_to_owned()?),
            None => Source::Kallsyms(functions(&fs::read_to_string("/proc/kallsyms").unwrap_or_default())),
        };
        Ok(Symbols { known: HashMap::new(), source })
    }

    /// Made-up ones.
    #[cfg(test)]
    pub(super) fn of(functions: BTreeMap<u64, String>) -> Symbols {
        Symbols { known: HashMap::new(), source: Source::Kallsyms(functions) }
    }

    /// The function from which `address` is where its callee returns to; empty if it isn't known: addresses are nobody's
    /// business (they would undo KASLR).
    pub(super) fn name(&mut self, address: u64) -> &str {
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        let source = &self.source;
        // The call may be a function's last instruction.
        self.known.entry(address).or_insert_with(|| source.look_up(address.wrapping_sub(1)))
    }

    /// The way to a place as folded stacks have it: the outermost function first, `;` between. The frames come the innermost
    /// first, and begin with those of the tracepoint and of what is attached to it.
    pub(super) fn fold(&mut self, frames: &[u64]) -> String {
        let names: Vec<String> = frames.iter().map(|&address| self.name(address).to_owned()).collect();
        let tracing = names.iter().rposition(|name| is_tracing(name)).map_or(0, |last| last + 1);
        let name = |name: &String| if name.is_empty() { "?".to_owned() } else { name.clone() };
        names[tracing..].iter().rev().map(name).collect::<Vec<_>>().join(";")
    }
}

fn is_tracing(function: &str) -> bool {
    ["bpf_prog_", "bpf_trampoline_", "bpf_trace_run", "__bpf_trace_", "__traceiter_"]
        .iter()
        .any(|prefix| function.starts_with(prefix))
}

impl Source {
    fn look_up(&self, address: u64) -> String {
        match self {
            Source::Kernel(program) => ask(program, address).unwrap_or_default(),
            Source::Kallsyms(functions) => {
                functions.range(..=address).next_back().map(|(_, name)| name.clone()).unwrap_or_default()
            }
        }
    }
}

/// Runs the program `name_symbol` once.
fn ask(program: &OwnedFd, address: u64) -> Option<String> {
    let mut symbol = types::symbol { address, ..types::symbol::default() };
    let mut options = libbpf_sys::bpf_test_run_opts {
        sz: size_of::<libbpf_sys::bpf_test_run_opts>() as libbpf_sys::size_t,
        // A program of this kind has its answer written back to where it was asked.
        ctx_in: (&raw mut symbol).cast(),
        ctx_size_in: size_of::<types::symbol>() as u32,
        ..Default::default()
    };
    // SAFETY: the kernel reads and writes `symbol` only, by its size; it holds integers.
    let result = unsafe { libbpf_sys::bpf_prog_test_run_opts(program.as_raw_fd(), &raw mut options) };
    if result != 0 {
        log::debug!("can't ask the kernel for a symbol: {}", std::io::Error::from_raw_os_error(-result));
        return None;
    }
    let name = String::from_utf8_lossy(events::name(&symbol.name));
    // What it doesn't know it prints as an address; a module stands behind the name.
    let name = name.split(' ').next().unwrap_or_default();
    (!name.starts_with("0x")).then(|| name.to_owned())
}

/// The functions that a kallsyms file shows, by their addresses.
fn functions(kallsyms: &str) -> BTreeMap<u64, String> {
    let function = |line: &str| {
        let mut fields = line.split_whitespace();
        let address = u64::from_str_radix(fields.next()?, 16).ok().filter(|address| *address != 0)?;
        let kind = fields.next()?;
        matches!(kind, "t" | "T" | "w" | "W").then(|| Some((address, fields.next()?.to_owned())))?
    };
    kallsyms.lines().filter_map(function).collect()
}

#[cfg(test)]
mod tests {
    use super::{Symbols, functions};

    const KALLSYMS: &str = "ffffffff81000000 T _stext\nffffffff81000100 t tcp_v4_rcv\nffffffff81000200 d some_data\n\
                            ffffffff81000300 T nf_hook_slow\t[nf]\nffffffff81000400 T bpf_trace_run4\n";

    fn symbols(kallsyms: &str) -> Symbols {
        Symbols::of(functions(kallsyms))
    }

    #[test]
    fn an_address_belongs_to_the_function_that_made_the_call() {
        let mut symbols = symbols(KALLSYMS);
        assert_eq!(symbols.name(0xffff_ffff_8100_0180), "tcp_v4_rcv");
        assert_eq!(symbols.name(0xffff_ffff_8100_0300), "tcp_v4_rcv", "its last instruction is the call");
        assert_eq!(symbols.name(0x1000), "");
    }

    #[test]
    fn a_stack_is_folded_from_the_outside_and_without_what_traces() {
        let frames = [0xffff_ffff_8100_0410, 0xffff_ffff_8100_0310, 0x10, 0xffff_ffff_8100_0110];
        assert_eq!(symbols(KALLSYMS).fold(&frames), "tcp_v4_rcv;?;nf_hook_slow");
    }

    #[test]
    fn hidden_addresses_name_nothing() {
        let hidden = "0000000000000000 T _stext\n0000000000000000 T tcp_v4_rcv\n";
        assert_eq!(symbols(hidden).name(0xffff_ffff_8100_0180), "");
    }
}
