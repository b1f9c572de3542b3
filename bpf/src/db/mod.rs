//! Collects the slow statements of database servers and produces dbslower.
//!
//! Uprobes at functions that MariaDB and PostgreSQL export tell where a statement begins and ends;
//! tp_btf/sched_process_exec tells of servers that start later.

mod executable;
mod mask;
mod rows;
mod servers;
mod settings;

use std::time::Instant;

use kumon_spool::Spool;
use libbpf_rs::Link;
use libbpf_rs::skel::{OpenSkel, Skel};

pub use settings::DbslowerSettings;

use crate::containers::Containers;
use crate::events::Events;
use crate::object::{self, skeleton};
use crate::{Clock, Collector, CollectorError, Entities, Hook, Loss, ProgramCost, Running, Settings, probe};
use rows::Rows;
use servers::Servers;
use skeleton::DbSkel;

skeleton!("db");

const NAME: &str = "db";
const DBSLOWER: &str = "dbslower";

/// The collector of dbslower.
pub(crate) struct Db {
    settings: Settings,
}

impl Db {
    pub(crate) fn new(settings: &Settings) -> Db {
        Db { settings: settings.clone() }
    }
}

impl Collector for Db {
    fn name(&self) -> &'static str {
        NAME
    }

    fn metrics(&self) -> Vec<&'static str> {
        self.settings.dbslower.enabled.then_some(DBSLOWER).into_iter().collect()
    }

    fn probe(&self) -> Vec<Hook> {
        let hook = |event, strategy| Hook { metrics: vec![DBSLOWER], event, strategy };
        vec![
            hook("sched_process_exec", probe::tp_btf("sched_process_exec")),
            hook("database servers", probe::uprobe()),
        ]
    }

    fn start(&self) -> Result<Box<dyn Running>, CollectorError> {
        let settings = &self.settings.dbslower;
        let mut open = object::open::<skeleton::DbSkelBuilder>(NAME)?;
        if let Some(constants) = open.maps.rodata_data.as_deref_mut() {
            constants.threshold = settings.threshold.as_nanos().try_into().unwrap_or(u64::MAX);
            constants.max_statement_bytes = settings.max_statement_bytes;
            constants.server_names = servers::NAMES.map(comm);
        }
        object::size_events(NAME, &mut open.maps.events, &self.settings)?;
        let skeleton = open.load().map_err(CollectorError::because(NAME, "loading its BPF programs"))?;
        let events = Events::new(&skeleton.maps.events)
            .map_err(CollectorError::because(NAME, "opening its ring buffer"))?;
        let entities =
            Entities::of_this_boot().map_err(CollectorError::because(NAME, "reading the boot id"))?;
        let link = object::attach_program(NAME, &skeleton.progs.server_started)?;
        let rows = Rows { entities, containers: Containers::of_this_node(), mask: settings.mask };
        let mut started = Started { servers: Servers::default(), link: Some(link), events, rows, skeleton };
        started.find_servers(Instant::now());
        Ok(Box::new(started))
    }
}

/// A name as the kernel keeps it in comm, in words that compare fast.
fn comm(name: &str) -> [u64; 2] {
    let mut bytes = [0; 16];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    let (words, _) = bytes.as_chunks();
    [u64::from_ne_bytes(words[0]), u64::from_ne_bytes(words[1])]
}

/// The collector at work.
struct Started {
    servers: Servers,
    link: Option<Link>,
    events: Events,
    rows: Rows,
    skeleton: DbSkel<'static>,
}

impl Started {
    fn find_servers(&mut self, now: Instant) {
        // SAFETY: the map is mapped as long as the skeleton lives; the kernel counts in it.
        let started = self
            .skeleton
            .maps
            .bss_data
            .as_deref()
            .map(|bss| unsafe { (&raw const bss.servers_started).read_volatile() });
        self.servers.update(started.unwrap_or_default(), now, &self.skeleton.progs);
    }
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
            self.link = None;
            self.servers.clear();
        } else {
            self.find_servers(now);
        }
        let rows = &mut self.rows;
        self.events
            .take(last, |event| rows.append(event, clock, spool))
            .map_err(CollectorError::because(NAME, "reading its ring buffer"))
    }

    fn losses(&self) -> Vec<Loss> {
        object::losses(self.skeleton.object(), &[DBSLOWER], |_| DBSLOWER)
    }

    fn programs(&self) -> Vec<ProgramCost> {
        object::programs(self.skeleton.object())
    }
}
