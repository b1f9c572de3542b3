//! Collects the slow statements of database servers and produces dbslower.
//!
//! Uprobes at functions that MariaDB and PostgreSQL export tell where a statement begins and ends;
//! tp_btf/sched_process_exec tells of servers that start later.

mod executable;
mod mask;
mod probes;
mod rows;
mod server;
mod servers;
mod settings;

use std::io;
use std::time::Instant;

use kumon_collect::{ActiveCollector, Collector, CollectorError, Hook, comm_words};
use libbpf_rs::Link;

use settings::DbslowerSettings;
pub(crate) use settings::Settings;

use crate::active::{Attached, BpfCollector, EventSource};
use crate::error::because;
use crate::losses::Metrics;
use crate::object::{self, skeleton};
use crate::object_settings::ObjectSettings;
use crate::probe;
use crate::selection::Selection;
use rows::Rows;
use servers::Servers;
use skeleton::DbSkel;

skeleton!("db");

const NAME: &str = "db";
const DBSLOWER: &str = "dbslower";

/// The collector of dbslower.
#[derive(Debug)]
pub(crate) struct Db {
    object: ObjectSettings,
    dbslower: DbslowerSettings,
}

pub(crate) fn collector(object: ObjectSettings, settings: &Settings) -> Db {
    let Settings { dbslower } = settings.clone();
    Db { object, dbslower }
}

impl Collector for Db {
    fn name(&self) -> &'static str {
        NAME
    }

    fn metrics(&self) -> Vec<&'static str> {
        self.dbslower.enabled.then_some(DBSLOWER).into_iter().collect()
    }

    fn probe(&self) -> Vec<Hook> {
        let hook = |event, strategy| Hook::new(vec![DBSLOWER], event, strategy);
        vec![
            hook("sched_process_exec", probe::tp_btf("sched_process_exec")),
            hook("database servers", server_probes()),
        ]
    }

    fn configuration(&self) -> String {
        format!("{self:?}")
    }

    fn start(&self) -> Result<Box<dyn ActiveCollector>, CollectorError> {
        let settings = &self.dbslower;
        // What the kernel says to programs that it can't load is less than this.
        probe::attach_cookie()
            .map_err(io::Error::other)
            .map_err(because(NAME, "looking for what probes at the servers need"))?;
        let metric = (&settings.filter, settings.sample, settings.max_rows_per_second);
        let selection = Selection::new(&self.object, [metric]);
        let mut open = object::open::<skeleton::DbSkelBuilder>(NAME, &self.object, selection)?;
        if let Some(constants) = open.skeleton.maps.rodata_data.as_deref_mut() {
            constants.threshold = settings.threshold.as_nanos().try_into().unwrap_or(u64::MAX);
            constants.max_statement_bytes = settings.max_statement_bytes;
            constants.server_names = servers::NAMES.map(|name| comm_words(name.as_bytes()));
        }
        let loaded = open.load()?;
        let events = EventSource::new(&loaded.skeleton.maps.events, Rows { mask: settings.mask })
            .map_err(because(NAME, "opening its ring buffer"))?;
        let server_started = object::attach_program(NAME, &loaded.skeleton.progs.server_started)?;
        let mut attached = ToServers { server_started: Some(server_started), servers: Servers::default() };
        attached.renew(&loaded.skeleton, Instant::now());
        let metrics = Metrics { all: &[DBSLOWER], enabled: self.metrics(), served_by: |_| &[DBSLOWER] };
        Ok(Box::new(BpfCollector::new(loaded, attached, vec![Box::new(events)], metrics)))
    }
}

/// Whether programs can follow the statements of servers, or why not.
fn server_probes() -> Result<&'static str, String> {
    let strategy = probe::uprobe()?;
    // These are younger than task storage, in which statements are kept.
    probe::attach_cookie()?;
    Ok(strategy)
}

/// The attachments: to what tells of servers that start, and to the servers that run.
struct ToServers {
    server_started: Option<Link>,
    servers: Servers,
}

impl Attached<DbSkel<'static>> for ToServers {
    fn renew(&mut self, skeleton: &DbSkel<'static>, now: Instant) {
        // SAFETY: the map is mapped as long as the skeleton lives; the kernel counts in it.
        let started = skeleton
            .maps
            .bss_data
            .as_deref()
            .map(|bss| unsafe { (&raw const bss.servers_started).read_volatile() });
        self.servers.update(started.unwrap_or_default(), now, &skeleton.progs);
    }

    fn detach(&mut self) {
        self.server_started = None;
        self.servers.clear();
    }
}
