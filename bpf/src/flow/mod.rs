//! Collects network flows and produces flow.
//!
//! Programs of traffic control see each packet at each network interface and count it in the kernel. Whose a flow is follows
//! from the cookies of sockets, which packets carry: tp_btf/inet_sock_set_state and tp_btf/tcp_rcv_space_adjust show the
//! processes of TCP, cgroup/sock_create those that make other sockets, and iter/task_file those that were there before.

mod community_id;
mod interfaces;
mod rows;
mod settings;
mod table;
mod transport;

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsRawFd;

use kumon_collect::{ActiveCollector, Collector, CollectorError, Filter, Hook, MaxRows, cgroup2_mount};
use libbpf_rs::{Iter, Link, ProgramMut};

use settings::FlowSettings;
pub(crate) use settings::Settings;

use crate::active::BpfCollector;
use crate::error::because;
use crate::losses::Metrics;
use crate::object::{self, Loaded, skeleton};
use crate::object_settings::ObjectSettings;
use crate::selection::Selection;
use crate::{probe, tc};
use interfaces::{Interfaces, Wanted};
use rows::Emit;
use skeleton::FlowSkel;
use table::Table;

skeleton!("flow");

const NAME: &str = "flow";
const FLOW: &str = "flow";

/// Strategy name of programs of a cgroup.
const CGROUP: &str = "cgroup";

/// Room for sockets beside the flows: those that listen, and those that have closed.
const SOCKETS_PER_FLOW: u32 = 2;

/// How long a socket is known behind its end, beside the interval, ns.
const KEEP_CLOSED: u64 = 5_000_000_000;

/// The collector of flow.
#[derive(Debug)]
pub(crate) struct Flow {
    object: ObjectSettings,
    flow: FlowSettings,
}

pub(crate) fn collector(object: ObjectSettings, settings: &Settings) -> Flow {
    let Settings { flow } = settings.clone();
    Flow { object, flow }
}

/// What tells of the processes here; without it rows have none.
struct Owners {
    of_tcp: bool,
    of_others: bool,
}

impl Flow {
    fn cookies(&self) -> bool {
        !self.object.as_on_old_kernels && probe::socket_cookies()
    }

    fn load(&self, owners: &Owners) -> Result<Loaded<FlowSkel<'static>>, CollectorError> {
        let flow = &self.flow;
        let metric = (&flow.filter, flow.sample, MaxRows::UNLIMITED);
        let selection = Selection::new(&self.object, [metric]);
        let mut open = object::open::<skeleton::FlowSkelBuilder>(NAME, &self.object, selection)?;
        if let Some(constants) = open.skeleton.maps.rodata_data.as_deref_mut() {
            constants.socket_cookies = self.cookies();
            constants.flow_sample = flow.sample.get();
            constants.flow_seed = kumon_collect::boottime();
            constants.keep_closed = flow.interval.as_nanos() as u64 + KEEP_CLOSED;
        }
        let programs = &mut open.skeleton.progs;
        for program in [
            &mut programs.on_state,
            &mut programs.on_read,
            &mut programs.find_standing,
            &mut programs.renew_sockets,
        ] {
            program.set_autoload(owners.of_tcp);
        }
        for program in [&mut programs.on_create, &mut programs.on_release] {
            program.set_autoload(owners.of_others);
        }
        open.size_map("flows", flow.max_flows)?;
        open.size_map("sockets", flow.max_flows.saturating_mul(SOCKETS_PER_FLOW))?;
        open.load()
    }

    /// How the processes are found, or why they are not: flows are told without them.
    fn probe_owners() -> Vec<Hook> {
        let hook = |event, strategy| Hook::new(vec![FLOW], event, strategy);
        vec![
            hook("inet_sock_set_state", probe::tp_btf("inet_sock_set_state")),
            hook("tcp_rcv_space_adjust", probe::tp_btf("tcp_rcv_space_adjust")),
            hook("task_file", probe::iterator("task_file")),
            hook("bpf_map_elem", probe::iterator("bpf_map_elem")),
            hook("sock_create", sockets_of_cgroups()),
        ]
    }

    fn owners() -> Owners {
        let hooks = Flow::probe_owners();
        for refused in &hooks {
            if let Err(why) = &refused.strategy {
                log::warn!("{NAME}: rows may lack their processes: {why}");
            }
        }
        let works = |hook: &Hook| hook.strategy.is_ok();
        Owners { of_tcp: hooks[..4].iter().all(works), of_others: works(&hooks[4]) }
    }
}

impl Collector for Flow {
    fn name(&self) -> &'static str {
        NAME
    }

    fn metrics(&self) -> Vec<&'static str> {
        self.flow.enabled.then_some(FLOW).into_iter().collect()
    }

    fn probe(&self) -> Vec<Hook> {
        let hooks = tc::probe(self.object.as_on_old_kernels).map(|(_, strategy)| strategy);
        let mut all = vec![Hook::new(vec![FLOW], "network interfaces", hooks)];
        all.extend(Flow::probe_owners());
        all
    }

    fn configuration(&self) -> String {
        format!("{self:?}")
    }

    fn start(&self) -> Result<Box<dyn ActiveCollector>, CollectorError> {
        let refused = |why: String| {
            CollectorError::because(NAME, "attaching to network interfaces")(std::io::Error::other(why))
        };
        let (hooks, _) = tc::probe(self.object.as_on_old_kernels).map_err(refused)?;
        let owners = Flow::owners();
        let loaded = self.load(&owners)?;
        let mut links = loaded.attach()?;
        if owners.of_others {
            links.extend(attach_to_cgroups(&loaded.skeleton)?);
        }
        if owners.of_tcp {
            let standing = loaded.skeleton.progs.find_standing.attach().and_then(|standing| run(&standing));
            standing.map_err(because(NAME, "looking for standing sockets"))?;
        }
        let wanted = Wanted { interfaces: self.flow.interfaces.clone(), exclude: self.flow.exclude.clone() };
        let interfaces = Interfaces::attach(hooks, wanted, &loaded.skeleton, links)
            .map_err(because(NAME, "attaching to network interfaces"))?;
        let emit = Emit::new(self.flow.filter != Filter::default(), self.object.exclude_self);
        let table = Table::new(&loaded.skeleton, &self.flow, owners.of_tcp, emit)
            .map_err(because(NAME, "opening its maps"))?;
        let metrics = Metrics { all: &[FLOW], enabled: self.metrics(), served_by: |_| &[FLOW] };
        Ok(Box::new(BpfCollector::new(loaded, interfaces, vec![Box::new(table)], metrics)))
    }
}

/// The root of cgroup v2: programs there see every socket that is made.
fn root_cgroup() -> Result<File, String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mount = cgroup2_mount(&mounts)
        .ok_or("cgroup v2 is not mounted: who makes sockets other than TCP's isn't known")?;
    File::open(&mount).map_err(|e| format!("{}: {e}", mount.display()))
}

fn sockets_of_cgroups() -> Result<&'static str, String> {
    root_cgroup().map(|_| CGROUP)
}

fn attach_to_cgroups(skeleton: &FlowSkel<'static>) -> Result<Vec<Link>, CollectorError> {
    let tried = "attaching to the root cgroup";
    let root =
        root_cgroup().map_err(|why| CollectorError::because(NAME, tried)(std::io::Error::other(why)))?;
    let attach =
        |program: &ProgramMut<'_>| program.attach_cgroup(root.as_raw_fd()).map_err(because(NAME, tried));
    Ok(vec![attach(&skeleton.progs.on_create)?, attach(&skeleton.progs.on_release)?])
}

/// Lets an iterator run over all there is.
fn run(iterator: &Link) -> libbpf_rs::Result<()> {
    Iter::new(iterator)?.read_to_end(&mut Vec::new())?;
    Ok(())
}
