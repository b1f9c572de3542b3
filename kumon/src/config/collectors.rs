//! The `collectors` part of the configuration: the keys of all crates that have collectors, side by side.

use kumon_collect::{Collector, Hook, LeftOut};

kumon_collect::settings! {
    /// Settings of every metric; each key is optional.
    #[allow(unreachable_pub, reason = "the macro makes structs for other crates")]
    pub struct Collectors {
        sections {
            bpf: kumon_bpf::Settings;
            proc: kumon_proc::Settings;
        }
    }
}

impl Collectors {
    /// Every collector with at least one enabled metric, in the order in which they start.
    pub(crate) fn collectors(&self) -> Vec<Box<dyn Collector>> {
        self.with_those_of_proc(kumon_bpf::collectors(&self.bpf))
    }

    /// The same together with [`Collectors::left_out`]: what this kernel has is tried out once for both.
    pub(crate) fn collectors_and_left_out(&self) -> (Vec<Box<dyn Collector>>, Vec<LeftOut>) {
        let (of_bpf, left_out) = kumon_bpf::collectors_and_left_out(&self.bpf);
        (self.with_those_of_proc(of_bpf), left_out)
    }

    fn with_those_of_proc(&self, of_bpf: Vec<Box<dyn Collector>>) -> Vec<Box<dyn Collector>> {
        of_bpf.into_iter().chain(kumon_proc::collectors(&self.proc)).collect()
    }

    /// How the enabled metrics would be collected here, or why not.
    pub(crate) fn hooks(&self) -> Vec<Hook> {
        kumon_bpf::hooks(&self.bpf).into_iter().chain(kumon_proc::hooks(&self.proc)).collect()
    }

    /// The metrics that are not asked for by name and that this kernel could have only at a price.
    pub(crate) fn left_out(&self) -> Vec<LeftOut> {
        kumon_bpf::left_out(&self.bpf)
    }
}
