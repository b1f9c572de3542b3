//! Collects TCP sessions and produces tcplife.
//!
//! tp_btf/inet_sock_set_state tells how a session begins and ends, and its process where that one connects or closes;
//! tp_btf/tcp_rcv_space_adjust shows the process that reads from an accepted socket, tp_btf/tcp_destroy_sock the one that
//! closes it after the network has ended the session, and tp_btf/tcp_send_reset which side broke a session off that its
//! process had closed already. iter/task_file finds who listens and the sessions that stood before, iter/bpf_map_elem
//! those that ended unseen.

mod rows;
mod settings;
mod sweep;

use std::io::Read;

use kumon_collect::{ActiveCollector, Collector, CollectorError, Hook};
use libbpf_rs::{Iter, Link};

pub(crate) use settings::Settings;
use settings::TcplifeSettings;

use crate::active::{BpfCollector, EventSource, Source};
use crate::error::because;
use crate::losses::Metrics;
use crate::object::{self, Loaded, skeleton};
use crate::object_settings::ObjectSettings;
use crate::probe;
use crate::selection::Selection;
use rows::Rows;
use skeleton::TcpSkel;
use sweep::Sweep;

skeleton!("tcp");

const NAME: &str = "tcp";
const TCPLIFE: &str = "tcplife";
const TRACEPOINTS: [&str; 4] =
    ["inet_sock_set_state", "tcp_rcv_space_adjust", "tcp_send_reset", "tcp_destroy_sock"];

/// The collector of tcplife.
#[derive(Debug)]
pub(crate) struct Tcp {
    object: ObjectSettings,
    tcplife: TcplifeSettings,
}

pub(crate) fn collector(object: ObjectSettings, settings: &Settings) -> Tcp {
    let Settings { tcplife } = settings.clone();
    Tcp { object, tcplife }
}

impl Tcp {
    /// Whether sessions are known by the cookies of their sockets.
    fn cookies(&self) -> bool {
        !self.object.as_on_old_kernels && probe::socket_cookies()
    }

    /// Whether programs may walk over maps.
    fn sweeps(&self) -> bool {
        probe::iterator("bpf_map_elem").is_ok()
    }

    fn load(&self) -> Result<Loaded<TcpSkel<'static>>, CollectorError> {
        let tcplife = &self.tcplife;
        let metric = (&tcplife.filter, tcplife.sample, tcplife.max_rows_per_second);
        let selection = Selection::new(&self.object, [metric]);
        let mut open = object::open::<skeleton::TcpSkelBuilder>(NAME, &self.object, selection)?;
        let (cookies, sweeps) = (self.cookies(), self.sweeps());
        if !cookies {
            log::warn!(
                "{NAME}: sessions that stand already are left out: the kernel gives tracing programs no cookies of \
                 sockets (Linux 5.12 and later do)"
            );
        }
        if let Some(constants) = open.skeleton.maps.rodata_data.as_deref_mut() {
            constants.socket_cookies = cookies;
            constants.sweeps = sweeps;
        }
        let programs = &mut open.skeleton.progs;
        for program in [
            &mut programs.sweep_sessions,
            &mut programs.end_sessions,
            &mut programs.sweep_listeners,
            &mut programs.confirm_listeners,
            &mut programs.renew_listeners,
        ] {
            program.set_autoload(sweeps);
        }
        open.size_map("sessions", tcplife.max_sessions)?;
        open.size_map("listeners", tcplife.max_listeners)?;
        open.load()
    }
}

impl Collector for Tcp {
    fn name(&self) -> &'static str {
        NAME
    }

    fn metrics(&self) -> Vec<&'static str> {
        self.tcplife.enabled.then_some(TCPLIFE).into_iter().collect()
    }

    fn probe(&self) -> Vec<Hook> {
        let hook = |event, strategy| Hook::new(vec![TCPLIFE], event, strategy);
        let mut hooks: Vec<Hook> =
            TRACEPOINTS.into_iter().map(|event| hook(event, probe::tp_btf(event))).collect();
        hooks.push(hook("task_file", probe::iterator("task_file")));
        hooks
    }

    fn configuration(&self) -> String {
        format!("{self:?}")
    }

    fn start(&self) -> Result<Box<dyn ActiveCollector>, CollectorError> {
        let loaded = self.load()?;
        let events = EventSource::new(&loaded.skeleton.maps.events, Rows::default())
            .map_err(because(NAME, "opening its ring buffer"))?;
        let links = loaded.attach()?;
        find_standing(&loaded.skeleton).map_err(because(NAME, "looking for standing sessions"))?;
        let mut sources: Vec<Box<dyn Source>> = Vec::new();
        if self.sweeps() {
            // What it tells is among the events that are read after it.
            let sweep = Sweep::new(&loaded.skeleton);
            sources.push(Box::new(sweep.map_err(because(NAME, "preparing its sweeps"))?));
        }
        sources.push(Box::new(events));
        let metrics = Metrics { all: &[TCPLIFE], enabled: self.metrics(), served_by: |_| &[TCPLIFE] };
        Ok(Box::new(BpfCollector::new(loaded, links, sources, metrics)))
    }
}

/// Lets the iterator walk over the open files of all processes once.
fn find_standing(skeleton: &TcpSkel<'static>) -> libbpf_rs::Result<()> {
    run(&skeleton.progs.find_standing.attach()?)
}

/// Lets an iterator run over all there is.
fn run(iterator: &Link) -> libbpf_rs::Result<()> {
    Iter::new(iterator)?.read_to_end(&mut Vec::new())?;
    Ok(())
}
