//! Collects TCP sessions and produces tcplife.
//!
//! tp_btf/inet_sock_set_state tells how a session begins and ends, and its process where that one connects or closes;
//! tp_btf/tcp_rcv_space_adjust shows the process that reads from an accepted socket.

mod rows;
mod settings;

use std::time::Instant;

use kumon_spool::Spool;
use libbpf_rs::Link;
use libbpf_rs::skel::{OpenSkel, Skel};

pub use settings::TcplifeSettings;

use crate::containers::Containers;
use crate::events::Events;
use crate::object::{self, skeleton};
use crate::{Clock, Collector, CollectorError, Entities, Hook, Loss, ProgramCost, Running, Settings, probe};
use rows::Rows;
use skeleton::TcpSkel;

skeleton!("tcp");

const NAME: &str = "tcp";
const TCPLIFE: &str = "tcplife";

/// The collector of tcplife.
pub(crate) struct Tcp {
    settings: Settings,
}

impl Tcp {
    pub(crate) fn new(settings: &Settings) -> Tcp {
        Tcp { settings: settings.clone() }
    }
}

impl Collector for Tcp {
    fn name(&self) -> &'static str {
        NAME
    }

    fn metrics(&self) -> Vec<&'static str> {
        self.settings.tcplife.enabled.then_some(TCPLIFE).into_iter().collect()
    }

    fn probe(&self) -> Vec<Hook> {
        let hook = |event| Hook { metrics: vec![TCPLIFE], event, strategy: probe::tp_btf(event) };
        ["inet_sock_set_state", "tcp_rcv_space_adjust"].map(hook).into()
    }

    fn start(&self) -> Result<Box<dyn Running>, CollectorError> {
        let mut open = object::open::<skeleton::TcpSkelBuilder>(NAME)?;
        if let Some(constants) = open.maps.rodata_data.as_deref_mut() {
            constants.self_tgid = self.settings.self_tgid();
        }
        object::size_events(NAME, &mut open.maps.events, &self.settings)?;
        let sessions = self.settings.tcplife.max_sessions.max(1);
        open.maps
            .sessions
            .set_max_entries(sessions)
            .map_err(CollectorError::because(NAME, &format!("making room for {sessions} sessions")))?;
        let skeleton = open.load().map_err(CollectorError::because(NAME, "loading its BPF programs"))?;
        let events = Events::new(&skeleton.maps.events)
            .map_err(CollectorError::because(NAME, "opening its ring buffer"))?;
        let entities =
            Entities::of_this_boot().map_err(CollectorError::because(NAME, "reading the boot id"))?;
        let links = object::attach(NAME, skeleton.object())?;
        let rows = Rows { entities, containers: Containers::of_this_node() };
        Ok(Box::new(Started { links, events, rows, skeleton }))
    }
}

/// The collector at work.
struct Started {
    links: Vec<Link>,
    events: Events,
    rows: Rows,
    skeleton: TcpSkel<'static>,
}

impl Running for Started {
    fn poll(
        &mut self,
        clock: &Clock,
        _now: Instant,
        last: bool,
        spool: &mut Spool,
    ) -> Result<(), CollectorError> {
        if last {
            self.links.clear();
        }
        let rows = &mut self.rows;
        self.events
            .take(last, |event| rows.append(event, clock, spool))
            .map_err(CollectorError::because(NAME, "reading its ring buffer"))
    }

    fn losses(&self) -> Vec<Loss> {
        object::losses(self.skeleton.object(), &[TCPLIFE], |_| TCPLIFE)
    }

    fn programs(&self) -> Vec<ProgramCost> {
        object::programs(self.skeleton.object())
    }
}
