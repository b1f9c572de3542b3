//! Collects dropped packets from tp_btf/kfree_skb and produces drop and tcpdrop.

mod packet;
mod reasons;
mod rows;
mod settings;
mod summary;
mod symbols;

use kumon_collect::{ActiveCollector, Collector, CollectorError, Hook, MaxRows, Sample};

pub use reasons::Class;
pub(crate) use settings::Settings;
pub use settings::Verbose;
use settings::{DropSettings, TcpdropSettings};

use crate::active::{BpfCollector, EventSource, Source};
use crate::error::because;
use crate::losses::Metrics;
use crate::object::{self, Loaded, skeleton};
use crate::object_settings::ObjectSettings;
use crate::probe;
use crate::selection::Selection;
use packet::Names;
use reasons::Reasons;
use rows::Rows;
use skeleton::DropSkel;
use summary::Summary;
use symbols::Symbols;

skeleton!("drop");

const NAME: &str = "drop";
const DROP: &str = "drop";
const TCPDROP: &str = "tcpdrop";

const TRACEPOINT: &str = "kfree_skb";

/// The collector of drop and tcpdrop.
#[derive(Debug)]
pub(crate) struct Drops {
    object: ObjectSettings,
    drop: DropSettings,
    tcpdrop: TcpdropSettings,
}

pub(crate) fn collector(object: ObjectSettings, settings: &Settings) -> Drops {
    let Settings { drop, tcpdrop } = settings.clone();
    Drops { object, drop, tcpdrop }
}

/// What the running kernel has.
struct Kernel {
    /// Of the tracepoint.
    parameters: usize,
    reasons: Reasons,
    /// It names its functions to programs; before Linux 5.14 only /proc/kallsyms does.
    names_symbols: bool,
}

impl Kernel {
    fn names(&self, loaded: &Loaded<DropSkel<'static>>) -> Result<Names, CollectorError> {
        let program = self.names_symbols.then_some(&loaded.skeleton.progs.name_symbol);
        let symbols = Symbols::new(program).map_err(because(NAME, "opening its program name_symbol"))?;
        Ok(Names { reasons: self.reasons.clone(), symbols })
    }
}

impl Drops {
    /// What the tracepoint hands over: two before Linux 5.17, which has no reasons.
    fn parameters(&self) -> usize {
        let parameters = probe::parameters(TRACEPOINT).unwrap_or(0);
        if self.object.as_on_old_kernels { parameters.min(2) } else { parameters }
    }

    /// Asks the kernel, which means reading its BTF and trying programs.
    fn kernel(&self) -> Kernel {
        let parameters = self.parameters();
        Kernel {
            parameters,
            reasons: if parameters < 3 { Reasons::default() } else { Reasons::of_this_kernel() },
            names_symbols: !self.object.as_on_old_kernels && probe::names_symbols(),
        }
    }

    /// The metrics that ask for a class, as bits.
    fn asking(&self, class: Class) -> u8 {
        let drop = self.drop.enabled && self.drop.classes.contains(&class);
        let tcpdrop = self.tcpdrop.enabled && self.tcpdrop.classes.contains(&class);
        u8::from(drop) | u8::from(tcpdrop) << 1
    }

    fn load(&self, kernel: &Kernel) -> Result<Loaded<DropSkel<'static>>, CollectorError> {
        let Drops { drop, tcpdrop, .. } = self;
        let selection = Selection::new(
            &self.object,
            [
                (&drop.filter, Sample::default(), MaxRows::UNLIMITED),
                (&tcpdrop.filter, tcpdrop.sample, tcpdrop.max_rows_per_second),
            ],
        );
        let mut open = object::open::<skeleton::DropSkelBuilder>(NAME, &self.object, selection)?;
        let reasons = &kernel.reasons;
        if let Some(constants) = open.skeleton.maps.rodata_data.as_deref_mut() {
            constants.parameters = kernel.parameters as u32;
            constants.with_stack = tcpdrop.verbose == Verbose::KernelStack;
            for (reason, asking) in (0..).zip(&mut constants.asked_for) {
                *asking = self.asking(reasons.class(reason));
            }
            for (subsystem, asking) in (0..).zip(&mut constants.asked_for_of_subsystem) {
                *asking = self.asking(reasons.class_of_subsystem(subsystem));
            }
        }
        open.skeleton.progs.name_symbol.set_autoload(kernel.names_symbols);
        open.make_interval("drops_of_interval", if drop.enabled { drop.max_keys } else { 1 })?;
        open.load()
    }
}

impl Collector for Drops {
    fn name(&self) -> &'static str {
        NAME
    }

    fn metrics(&self) -> Vec<&'static str> {
        let enabled = [(DROP, self.drop.enabled), (TCPDROP, self.tcpdrop.enabled)];
        enabled.into_iter().filter_map(|(metric, enabled)| enabled.then_some(metric)).collect()
    }

    fn probe(&self) -> Vec<Hook> {
        vec![Hook::new(self.metrics(), TRACEPOINT, probe::tp_btf(TRACEPOINT))]
    }

    fn configuration(&self) -> String {
        format!("{self:?}")
    }

    fn start(&self) -> Result<Box<dyn ActiveCollector>, CollectorError> {
        let Drops { drop, tcpdrop, .. } = self;
        let kernel = self.kernel();
        if tcpdrop.enabled && !tcpdrop.classes.contains(&Class::Unknown) && !kernel.reasons.are_known() {
            log::warn!(
                "{NAME}: tcpdrop has no rows here: the kernel says no reasons (Linux 5.17 and later do), and its `classes` \
                 don't have `unknown`"
            );
        }
        let mut loaded = self.load(&kernel)?;
        let mut sources: Vec<Box<dyn Source>> = Vec::new();
        if tcpdrop.enabled {
            let rows = Rows { names: kernel.names(&loaded)? };
            let events = EventSource::new(&loaded.skeleton.maps.events, rows);
            sources.push(Box::new(events.map_err(because(NAME, "opening its ring buffer"))?));
        }
        let counts = loaded.interval("drops_of_interval")?;
        if drop.enabled {
            sources.push(Box::new(Summary::new(counts, kernel.names(&loaded)?, drop)));
        }
        let links = vec![object::attach_program(NAME, &loaded.skeleton.progs.dropped)?];
        let metrics = Metrics {
            all: &[DROP, TCPDROP],
            enabled: self.metrics(),
            served_by: |program| match program {
                "dropped" => &[DROP, TCPDROP],
                // It is asked for names.
                _ => &[],
            },
        };
        Ok(Box::new(BpfCollector::new(loaded, links, sources, metrics)))
    }
}
