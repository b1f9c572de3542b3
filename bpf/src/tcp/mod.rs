//! Collects TCP sessions and produces tcplife.
//!
//! tp_btf/inet_sock_set_state tells how a session begins and ends, and its process where that one connects or closes;
//! tp_btf/tcp_rcv_space_adjust shows the process that reads from an accepted socket, and tp_btf/tcp_send_reset which side
//! broke a session off that its process had closed already. iter/task_file finds the sessions that stood before.

mod rows;
mod settings;

use std::io::Read;

use libbpf_rs::Iter;

pub use settings::TcplifeSettings;

use crate::containers::Containers;
use crate::object::{self, skeleton};
use crate::selection::Selection;
use crate::started::{EventSource, Metrics, Started};
use crate::{Collector, CollectorError, Entities, Hook, Running, Settings, probe};
use rows::Rows;
use skeleton::TcpSkel;

skeleton!("tcp");

const NAME: &str = "tcp";
const TCPLIFE: &str = "tcplife";
const TRACEPOINTS: [&str; 3] = ["inet_sock_set_state", "tcp_rcv_space_adjust", "tcp_send_reset"];

/// The collector of tcplife.
pub(crate) struct Tcp {
    settings: Settings,
}

impl Tcp {
    pub(crate) fn new(settings: &Settings) -> Tcp {
        Tcp { settings: settings.clone() }
    }

    /// Whether sessions are known by the cookies of their sockets.
    fn cookies(&self) -> bool {
        !self.settings.as_on_old_kernels && probe::socket_cookies()
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
        let hook = |event, strategy| Hook::new(vec![TCPLIFE], event, strategy);
        let mut hooks: Vec<Hook> =
            TRACEPOINTS.into_iter().map(|event| hook(event, probe::tp_btf(event))).collect();
        if self.cookies() {
            hooks.push(hook("task_file", probe::iterator("task_file")));
        }
        hooks
    }

    fn start(&self) -> Result<Box<dyn Running>, CollectorError> {
        let tcplife = &self.settings.tcplife;
        let selection = Selection::new(&self.settings, [(&tcplife.filter, tcplife.sample)]);
        let mut open = object::open::<skeleton::TcpSkelBuilder>(NAME, &self.settings, selection)?;
        let cookies = self.cookies();
        if !cookies {
            log::warn!(
                "{NAME}: sessions that stand already are left out: the kernel gives tracing programs no cookies of \
                 sockets (Linux 5.12 and later do)"
            );
        }
        if let Some(constants) = open.skeleton.maps.rodata_data.as_deref_mut() {
            constants.socket_cookies = cookies;
        }
        // Its helper came a version before the cookies.
        open.skeleton.progs.find_standing.set_autoload(cookies);
        open.size_map("sessions", tcplife.max_sessions)?;
        open.size_map("listeners", tcplife.max_listeners)?;
        let loaded = open.load()?;
        let entities =
            Entities::of_this_boot().map_err(CollectorError::because(NAME, "reading the boot id"))?;
        let rows = Rows::new(entities, Containers::of_this_node());
        let events = EventSource::new(&loaded.skeleton.maps.events, rows)
            .map_err(CollectorError::because(NAME, "opening its ring buffer"))?;
        let links = loaded.attach()?;
        if cookies {
            find_standing(&loaded.skeleton)
                .map_err(CollectorError::because(NAME, "looking for standing sessions"))?;
        }
        let metrics = Metrics { all: &[TCPLIFE], enabled: self.metrics(), served_by: |_| &[TCPLIFE] };
        Ok(Box::new(Started::new(loaded, links, vec![Box::new(events)], metrics)))
    }
}

/// Lets the iterator walk over the open files of all processes once.
fn find_standing(skeleton: &TcpSkel<'static>) -> libbpf_rs::Result<()> {
    let iterator = skeleton.progs.find_standing.attach()?;
    Iter::new(&iterator)?.read_to_end(&mut Vec::new())?;
    Ok(())
}
