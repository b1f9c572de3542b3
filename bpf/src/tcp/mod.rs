//! Collects TCP sessions and produces tcplife.
//!
//! tp_btf/inet_sock_set_state tells how a session begins and ends, and its process where that one connects or closes;
//! tp_btf/tcp_rcv_space_adjust shows the process that reads from an accepted socket.

mod rows;
mod settings;

pub use settings::TcplifeSettings;

use crate::containers::Containers;
use crate::object::{self, skeleton};
use crate::selection::Selection;
use crate::started::{EventSource, Metrics, Started};
use crate::{Collector, CollectorError, Entities, Hook, Running, Settings, probe};
use rows::Rows;

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
        let selection = Selection::new(&self.settings, []);
        let mut open = object::open::<skeleton::TcpSkelBuilder>(NAME, &self.settings, selection)?;
        let sessions = self.settings.tcplife.max_sessions.max(1);
        open.skeleton
            .maps
            .sessions
            .set_max_entries(sessions)
            .map_err(CollectorError::because(NAME, &format!("making room for {sessions} sessions")))?;
        let loaded = open.load()?;
        let entities =
            Entities::of_this_boot().map_err(CollectorError::because(NAME, "reading the boot id"))?;
        let rows = Rows { entities, containers: Containers::of_this_node() };
        let events = EventSource::new(&loaded.skeleton.maps.events, rows)
            .map_err(CollectorError::because(NAME, "opening its ring buffer"))?;
        let links = loaded.attach()?;
        let metrics = Metrics { all: &[TCPLIFE], enabled: self.metrics(), served_by: |_| &[TCPLIFE] };
        Ok(Box::new(Started::new(loaded, links, vec![Box::new(events)], metrics)))
    }
}
