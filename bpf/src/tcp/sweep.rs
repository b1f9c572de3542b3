//! What the tracepoints leave behind: closed sessions that wait for their process, and what ended unseen.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use kumon_collect::PollContext;
use libbpf_rs::{Link, MapCore, MapFlags, MapHandle};

use super::run;
use super::skeleton::TcpSkel;
use crate::active::Source;

/// From one sweep to the next. What is gone is forgotten in the second that finds it so.
const PERIOD: Duration = Duration::from_secs(10);

/// Walks over the maps of tcp.bpf.c now and then. What it tells is in the ring buffer, which is read after it.
pub(super) struct Sweep {
    sessions: Link,
    listeners: Link,
    /// Ends all that wait.
    end: Link,
    /// How many wait: a number.
    held: MapHandle,
    /// Look in this order for who listens now.
    find_listeners: [Link; 2],
    due: Instant,
}

impl Sweep {
    pub(super) fn new(skeleton: &TcpSkel<'static>) -> libbpf_rs::Result<Sweep> {
        let (programs, maps) = (&skeleton.progs, &skeleton.maps);
        Ok(Sweep {
            sessions: programs.sweep_sessions.attach_iter(maps.sessions.as_fd())?,
            listeners: programs.sweep_listeners.attach_iter(maps.listeners.as_fd())?,
            end: programs.end_sessions.attach_iter(maps.sessions.as_fd())?,
            held: MapHandle::try_from(&maps.data_held)?,
            find_listeners: [programs.confirm_listeners.attach()?, programs.renew_listeners.attach()?],
            due: Instant::now() + PERIOD,
        })
    }

    fn sweep(&self) -> libbpf_rs::Result<()> {
        self.find_listeners()?;
        run(&self.sessions)?;
        run(&self.listeners)
    }

    /// Where sessions wait that may become those of who listens. It walks over the open files of all processes.
    fn find_listeners(&self) -> libbpf_rs::Result<()> {
        let held = self.held.lookup(&0_u32.to_ne_bytes(), MapFlags::ANY)?;
        if held.is_none_or(|count| count.iter().all(|byte| *byte == 0)) {
            return Ok(());
        }
        self.find_listeners.iter().try_for_each(run)
    }
}

impl Source for Sweep {
    fn reading(&self) -> &'static str {
        "sweeping its maps"
    }

    fn read(&mut self, context: &mut PollContext<'_>) -> libbpf_rs::Result<()> {
        if context.last {
            self.find_listeners()?;
            return run(&self.end);
        }
        if context.now < self.due {
            return Ok(());
        }
        self.due = context.now + PERIOD;
        self.sweep()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::time::Duration;

    use kumon_testing::{require_bpf, wait_for};
    use libbpf_rs::{Link, MapCore, MapFlags};

    use super::Sweep;
    use crate::object::Loaded;
    use crate::tcp::collector;
    use crate::tcp::skeleton::{TcpSkel, types};
    use crate::{Settings, events};

    /// A listener, and sessions with it that stand.
    struct Sessions {
        listener: TcpListener,
        streams: Vec<TcpStream>,
    }

    impl Sessions {
        fn new(count: usize) -> Sessions {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let open = |_| {
                let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                [client, listener.accept().unwrap().0]
            };
            let streams = (0..count).flat_map(open).collect();
            Sessions { listener, streams }
        }

        fn address(&self) -> SocketAddr {
            self.listener.local_addr().unwrap()
        }
    }

    /// How many sessions of a server's port are in the map.
    fn followed(loaded: &Loaded<TcpSkel<'static>>, server: SocketAddr) -> usize {
        let sessions = &loaded.skeleton.maps.sessions;
        let values = sessions.keys().filter_map(|key| sessions.lookup(&key, MapFlags::ANY).unwrap());
        // SAFETY: the type is integers and arrays of them.
        let read = values.filter_map(|value| unsafe { events::read::<types::session>(&value) });
        let port = u32::from(server.port());
        read.filter(|session| session.local.port == port || session.remote.port == port).count()
    }

    /// The addresses of the sockets that somebody listens on.
    fn listeners(loaded: &Loaded<TcpSkel<'static>>) -> HashSet<Vec<u8>> {
        loaded.skeleton.maps.listeners.keys().collect()
    }

    #[test]
    fn sessions_that_ended_unseen_make_room_again_and_those_that_stand_stay() {
        if !require_bpf() {
            return;
        }
        for as_on_old_kernels in [false, true] {
            let settings = Settings { as_on_old_kernels, ..Settings::default() };
            let loaded = collector(settings.object(), &settings.tcp).load().unwrap();
            let attach = || -> Vec<Link> { loaded.attach().unwrap() };
            let links = attach();
            let (kept, ended) = (Sessions::new(2), Sessions::new(50));
            let (of_kept, of_ended) = (kept.address(), ended.address());
            assert_eq!((followed(&loaded, of_kept), followed(&loaded, of_ended)), (4, 100));
            let listening = listeners(&loaded);
            drop(links);
            drop(ended);
            let _links = attach();
            let sweep = Sweep::new(&loaded.skeleton).unwrap();
            sweep.sweep().unwrap();
            assert_eq!(followed(&loaded, of_ended), 100, "an end may be just about to be told");
            wait_for("the sessions that ended to be forgotten", Duration::from_secs(10), || {
                sweep.sweep().unwrap();
                followed(&loaded, of_ended) == 0
            });
            assert_eq!(followed(&loaded, of_kept), kept.streams.len());
            assert!(!listening.is_subset(&listeners(&loaded)));
        }
    }
}
