//! Calls by io_uring, where nothing shows them but the tracepoint of their submission: how many there were.

use kumon_collect::{Hook, Loss};
use libbpf_rs::{Map, MapHandle};

use super::{FILEGONE, FILELIFE};
use crate::{losses, probe};

/// What `kumon check` says of the tracepoint.
const ONLY_COUNTS: &str = "tp_btf, only counts calls by io_uring: they are not looked into";
const REASON: &str = "call by io_uring";

/// The tracepoint at which requests of io_uring are submitted, as this kernel has it.
pub(super) struct Submission {
    pub(super) event: &'static str,
    /// Which of its arguments is the operation; 0 where the first one is the request, which has it.
    pub(super) opcode_argument: u32,
}

impl Submission {
    /// None where the kernel has no io_uring, or one whose tracepoint is none of those known.
    pub(super) fn of_this_kernel() -> Option<Submission> {
        ["io_uring_submit_req", "io_uring_submit_sqe"].into_iter().find_map(|event| {
            let opcode_argument = opcode_argument(&probe::parameter_types(event)?)?;
            Some(Submission { event, opcode_argument })
        })
    }

    pub(super) fn section(&self) -> String {
        format!("tp_btf/{}", self.event)
    }

    pub(super) fn hook(&self, metrics: Vec<&'static str>) -> Hook {
        Hook::new(metrics, self.event, probe::tp_btf(self.event).map(|_| ONLY_COUNTS))
    }
}

/// By the types of the arguments, of pointers those of what they point to. Until Linux 5.19 the operation is the only one
/// of one byte that isn't a bool, at different places.
fn opcode_argument(types: &[String]) -> Option<u32> {
    if types.first().is_some_and(|first| first == "io_kiocb") {
        return Some(0);
    }
    let position = types.iter().position(|name| name == "u8")?;
    (1..=3).contains(&position).then_some(position as u32)
}

/// How many calls were submitted since the start.
pub(super) struct UringCalls {
    counts: MapHandle,
    /// Those that are told.
    metrics: Vec<&'static str>,
}

impl UringCalls {
    /// Counted in the map `uring_calls` of uring.h, for these metrics.
    pub(super) fn new(map: &Map<'_>, metrics: Vec<&'static str>) -> libbpf_rs::Result<UringCalls> {
        Ok(UringCalls { counts: MapHandle::try_from(map)?, metrics })
    }

    /// Counters that can't be read are left out.
    pub(super) fn losses(&self) -> Vec<Loss> {
        let counts = losses::sum_of_cpus(&self.counts).unwrap_or_default();
        let told =
            [FILELIFE, FILEGONE].into_iter().zip(counts).filter(|(metric, _)| self.metrics.contains(metric));
        told.map(|(metric, count)| Loss { metric, reason: REASON, count }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::opcode_argument;

    #[test]
    fn the_operation_is_found_in_what_each_kernel_hands_over() {
        for (types, expected) in [
            // 6.4 and later; 6.0 to 6.3; 5.19; 5.15; 5.12; 5.10.
            ("io_kiocb", Some(0)),
            ("io_kiocb bool", Some(0)),
            ("void void unsigned_long_long u8 u32 bool bool", Some(3)),
            ("void void u8 u64 u32 bool bool", Some(2)),
            ("void u8 u64 u32 bool bool", Some(1)),
            ("void u8 u64 bool bool", Some(1)),
            ("void u32 bool", None),
            ("void u64 u64 u64 u8", None),
            ("", None),
        ] {
            let names: Vec<String> = types.split_whitespace().map(str::to_owned).collect();
            assert_eq!(opcode_argument(&names), expected, "{types}");
        }
    }
}
