//! Collects block I/O from tp_btf/block_rq_insert, block_rq_issue, block_rq_requeue and block_rq_complete and produces
//! biolatency, biolatency_hist, bitesize and bitesize_hist.

mod biolatency;
mod bitesize;
mod settings;

pub(crate) use settings::Settings;
use settings::{BiolatencySettings, BitesizeSettings};

use kumon_collect::{ActiveCollector, Collector, CollectorError, Hook, MaxRows};

use crate::active::{BpfCollector, Source};
use crate::losses::Metrics;
use crate::object::{self, Opened, skeleton};
use crate::object_settings::ObjectSettings;
use crate::probe;
use crate::selection::Selection;
use biolatency::Biolatency;
use bitesize::Bitesize;
use skeleton::OpenBlockSkel;

skeleton!("block");

const NAME: &str = "block";
const BIOLATENCY: &str = "biolatency";
const BIOLATENCY_HIST: &str = "biolatency_hist";
const BITESIZE: &str = "bitesize";
const BITESIZE_HIST: &str = "bitesize_hist";

/// The collector of biolatency and bitesize.
#[derive(Debug)]
pub(crate) struct Block {
    object: ObjectSettings,
    biolatency: BiolatencySettings,
    bitesize: BitesizeSettings,
}

pub(crate) fn collector(object: ObjectSettings, settings: &Settings) -> Block {
    let Settings { biolatency, bitesize } = settings.clone();
    Block { object, biolatency, bitesize }
}

impl Block {
    /// Its object, configured and sized.
    pub(crate) fn open(&self) -> Result<Opened<OpenBlockSkel<'static>>, CollectorError> {
        let Block { biolatency, bitesize, .. } = self;
        let selection = Selection::new(
            &self.object,
            [
                (&biolatency.filter, biolatency.sample, MaxRows::UNLIMITED),
                (&bitesize.filter, bitesize.sample, MaxRows::UNLIMITED),
            ],
        );
        let mut open = object::open::<skeleton::BlockSkelBuilder>(NAME, &self.object, selection)?;
        if let Some(constants) = open.skeleton.maps.rodata_data.as_deref_mut() {
            constants.with_biolatency = biolatency.enabled;
            constants.latencies_per_cgroup = biolatency.per_cgroup;
            constants.with_bitesize = bitesize.enabled;
            constants.queue_comes_first = probe::parameters("block_rq_issue") == Some(2);
        }
        open.skeleton.progs.executed.set_autoload(bitesize.enabled);
        open.skeleton.progs.merge.set_autoload(probe::parameters("block_rq_merge").is_some());
        open.size_map("queued", biolatency.max_requests)?;
        open.size_map("in_flight", biolatency.max_requests)?;
        if biolatency.enabled {
            open.make_interval("latencies", biolatency.max_keys)?;
        }
        if bitesize.enabled {
            open.make_interval("sizes", bitesize.max_processes)?;
        }
        Ok(open)
    }
}

impl Collector for Block {
    fn name(&self) -> &'static str {
        NAME
    }

    fn metrics(&self) -> Vec<&'static str> {
        let Block { biolatency, bitesize, .. } = self;
        let enabled = [
            (BIOLATENCY, biolatency.enabled),
            (BIOLATENCY_HIST, biolatency.enabled),
            (BITESIZE, bitesize.enabled),
            (BITESIZE_HIST, bitesize.enabled),
        ];
        enabled.into_iter().filter_map(|(metric, enabled)| enabled.then_some(metric)).collect()
    }

    fn probe(&self) -> Vec<Hook> {
        let tp_btf = |metrics, event| Hook::new(metrics, event, probe::tp_btf(event));
        let mut events = vec!["block_rq_insert", "block_rq_issue", "block_rq_requeue", "block_rq_complete"];
        if probe::parameters("block_rq_merge").is_some() {
            events.push("block_rq_merge");
        }
        let mut hooks: Vec<Hook> = events.into_iter().map(|event| tp_btf(self.metrics(), event)).collect();
        if self.bitesize.enabled {
            hooks.push(tp_btf(vec![BITESIZE, BITESIZE_HIST], "sched_process_exec"));
        }
        hooks
    }

    fn configuration(&self) -> String {
        format!("{self:?}")
    }

    fn start(&self) -> Result<Box<dyn ActiveCollector>, CollectorError> {
        let Block { biolatency, bitesize, .. } = self;
        let mut loaded = self.open()?.load()?;
        let mut sources: Vec<Box<dyn Source>> = Vec::new();
        if biolatency.enabled {
            sources.push(Box::new(Biolatency::new(loaded.interval("latencies")?, biolatency)));
        }
        if bitesize.enabled {
            sources.push(Box::new(Bitesize::new(loaded.interval("sizes")?, bitesize)));
        }
        let links = loaded.attach()?;
        let metrics = Metrics {
            all: &[BIOLATENCY, BITESIZE],
            enabled: self.metrics(),
            served_by: |program| match program {
                "complete" => &[BIOLATENCY],
                // It tells a name, no request.
                "executed" => &[],
                _ => &[BIOLATENCY, BITESIZE],
            },
        };
        Ok(Box::new(BpfCollector::new(loaded, links, sources, metrics)))
    }
}
