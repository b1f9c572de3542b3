//! Collects block I/O from tp_btf/block_rq_issue and block_rq_complete and produces biolatency, biolatency_hist,
//! bitesize and bitesize_hist.

mod biolatency;
mod bitesize;
mod settings;

use std::time::Instant;

use kumon_spool::Spool;
use libbpf_rs::Link;
use libbpf_rs::skel::{OpenSkel, Skel};

pub use settings::{BiolatencySettings, BitesizeSettings};

use crate::object::{self, skeleton};
use crate::{Clock, Collector, CollectorError, Entities, Hook, Loss, ProgramCost, Running, Settings, probe};
use biolatency::Biolatency;
use bitesize::Bitesize;
use skeleton::BlockSkel;

skeleton!("block");

const NAME: &str = "block";
const BIOLATENCY: &str = "biolatency";
const BIOLATENCY_HIST: &str = "biolatency_hist";
const BITESIZE: &str = "bitesize";
const BITESIZE_HIST: &str = "bitesize_hist";

/// The collector of biolatency and bitesize.
pub(crate) struct Block {
    settings: Settings,
}

impl Block {
    pub(crate) fn new(settings: &Settings) -> Block {
        Block { settings: settings.clone() }
    }
}

impl Collector for Block {
    fn name(&self) -> &'static str {
        NAME
    }

    fn metrics(&self) -> Vec<&'static str> {
        let Settings { biolatency, bitesize, .. } = &self.settings;
        let enabled = [
            (BIOLATENCY, biolatency.enabled),
            (BIOLATENCY_HIST, biolatency.enabled),
            (BITESIZE, bitesize.enabled),
            (BITESIZE_HIST, bitesize.enabled),
        ];
        enabled.into_iter().filter_map(|(metric, enabled)| enabled.then_some(metric)).collect()
    }

    fn probe(&self) -> Vec<Hook> {
        let mut latencies = self.metrics();
        latencies.retain(|metric| [BIOLATENCY, BIOLATENCY_HIST].contains(metric));
        let tp_btf = |metrics, event| Hook { metrics, event, strategy: probe::tp_btf(event) };
        let mut hooks = vec![tp_btf(self.metrics(), "block_rq_issue")];
        if !latencies.is_empty() {
            hooks.push(tp_btf(latencies, "block_rq_complete"));
        }
        hooks
    }

    fn start(&self) -> Result<Box<dyn Running>, CollectorError> {
        let mut open = object::open::<skeleton::BlockSkelBuilder>(NAME)?;
        let Settings { biolatency, bitesize, .. } = &self.settings;
        if let Some(constants) = open.maps.rodata_data.as_deref_mut() {
            constants.self_tgid = self.settings.self_tgid();
            constants.with_biolatency = biolatency.enabled;
            constants.with_bitesize = bitesize.enabled;
            constants.queue_comes_first = probe::parameters("block_rq_issue") == Some(2);
        }
        open.progs.complete.set_autoload(biolatency.enabled);
        let skeleton = open.load().map_err(CollectorError::because(NAME, "loading its BPF programs"))?;
        let entities =
            Entities::of_this_boot().map_err(CollectorError::because(NAME, "reading the boot id"))?;
        let opened = "opening its BPF maps";
        let latencies =
            Biolatency::new(&skeleton, biolatency.interval).map_err(CollectorError::because(NAME, opened))?;
        let sizes =
            Bitesize::new(&skeleton, bitesize, entities).map_err(CollectorError::because(NAME, opened))?;
        let links = object::attach(NAME, skeleton.object())?;
        Ok(Box::new(Started { links, latencies, sizes, metrics: self.metrics(), skeleton }))
    }
}

/// The collector at work.
struct Started {
    links: Vec<Link>,
    latencies: Biolatency,
    sizes: Bitesize,
    metrics: Vec<&'static str>,
    skeleton: BlockSkel<'static>,
}

impl Running for Started {
    fn poll(
        &mut self,
        clock: &Clock,
        now: Instant,
        last: bool,
        spool: &mut Spool,
    ) -> Result<(), CollectorError> {
        if last {
            self.links.clear();
        }
        if self.metrics.contains(&BIOLATENCY) {
            self.latencies
                .poll(clock, now, last, spool)
                .map_err(CollectorError::because(NAME, "reading the latencies of an interval"))?;
        }
        if self.metrics.contains(&BITESIZE) {
            self.sizes
                .poll(clock, now, last, spool)
                .map_err(CollectorError::because(NAME, "reading the sizes of an interval"))?;
        }
        Ok(())
    }

    fn losses(&self) -> Vec<Loss> {
        let first = self.metrics.first().copied().unwrap_or(BIOLATENCY);
        let mut losses = object::losses(self.skeleton.object(), &[BIOLATENCY, BITESIZE], |_| first);
        losses.retain(|loss| self.metrics.contains(&loss.metric));
        losses
    }

    fn programs(&self) -> Vec<ProgramCost> {
        object::programs(self.skeleton.object())
    }
}
