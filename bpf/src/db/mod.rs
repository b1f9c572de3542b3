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

pub use settings::DbslowerSettings;

use crate::containers::Containers;
use crate::object::{self, skeleton};
use crate::selection::Selection;
use crate::started::{EventSource, Metrics, Started};
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
        let hook = |event, strategy| Hook::new(vec![DBSLOWER], event, strategy);
        vec![
            hook("sched_process_exec", probe::tp_btf("sched_process_exec")),
            hook("database servers", probe::uprobe()),
        ]
    }

    fn start(&self) -> Result<Box<dyn Running>, CollectorError> {
        let settings = &self.settings.dbslower;
        let selection = Selection::new(&self.settings, []);
        let mut open = object::open::<skeleton::DbSkelBuilder>(NAME, &self.settings, selection)?;
        if let Some(constants) = open.skeleton.maps.rodata_data.as_deref_mut() {
            constants.threshold = settings.threshold.as_nanos().try_into().unwrap_or(u64::MAX);
            constants.max_statement_bytes = settings.max_statement_bytes;
            constants.server_names = servers::NAMES.map(comm);
        }
        let loaded = open.load()?;
        let entities =
            Entities::of_this_boot().map_err(CollectorError::because(NAME, "reading the boot id"))?;
        let rows = Rows { entities, containers: Containers::of_this_node(), mask: settings.mask };
        let events = EventSource::new(&loaded.skeleton.maps.events, rows)
            .map_err(CollectorError::because(NAME, "opening its ring buffer"))?;
        let link = object::attach_program(NAME, &loaded.skeleton.progs.server_started)?;
        let metrics = Metrics { all: &[DBSLOWER], enabled: self.metrics(), served_by: |_| &[DBSLOWER] };
        let object = Started::new(loaded, vec![link], vec![Box::new(events)], metrics);
        let mut servers = WithServers { servers: Servers::default(), object };
        servers.find_servers(Instant::now());
        Ok(Box::new(servers))
    }
}

/// A name as the kernel keeps it in comm, in words that compare fast.
fn comm(name: &str) -> [u64; 2] {
    let mut bytes = [0; 16];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    let (words, _) = bytes.as_chunks();
    [u64::from_ne_bytes(words[0]), u64::from_ne_bytes(words[1])]
}

/// The collector at work, with what is attached to the servers that run.
struct WithServers {
    servers: Servers,
    object: Started<DbSkel<'static>>,
}

impl WithServers {
    fn find_servers(&mut self, now: Instant) {
        let skeleton = self.object.skeleton();
        // SAFETY: the map is mapped as long as the skeleton lives; the kernel counts in it.
        let started = skeleton
            .maps
            .bss_data
            .as_deref()
            .map(|bss| unsafe { (&raw const bss.servers_started).read_volatile() });
        self.servers.update(started.unwrap_or_default(), now, &skeleton.progs);
    }
}

impl Running for WithServers {
    fn poll(
        &mut self,
        clock: &Clock,
        now: Instant,
        last: bool,
        spool: &mut Spool,
    ) -> Result<(), CollectorError> {
        if last {
            self.servers.clear();
        } else {
            self.find_servers(now);
        }
        self.object.poll(clock, now, last, spool)
    }

    fn losses(&self) -> Vec<Loss> {
        self.object.losses()
    }

    fn programs(&self) -> Vec<ProgramCost> {
        self.object.programs()
    }
}
