//! From the sessions of tcp.bpf.c to rows.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};

use kumon_collect::{PollContext, Process, Subject};
use kumon_schema::rows::Tcplife;

use super::skeleton::types;
use crate::active::EventRows;
use crate::events;

/// Makes the rows of tcplife.
#[derive(Default)]
pub(super) struct Rows {
    /// Closed sessions whose process was gone: what still came for them may have been answered with a RST, of which
    /// the next event tells.
    held: Vec<types::session>,
    /// How many of these were there before this poll.
    due: usize,
}

impl EventRows for Rows {
    fn emit(&mut self, event: &[u8], context: &mut PollContext<'_>) {
        // SAFETY: the types are integers and arrays of them.
        let session = unsafe { events::read::<types::session>(event) };
        match session {
            Some(session) if session.may_reset != 0 => self.held.push(session),
            Some(session) => emit_session(&session, context),
            None => self.reset_sent(event),
        }
    }

    /// What was held back in the poll before has its reset by now, if there is one.
    fn end_poll(&mut self, context: &mut PollContext<'_>) {
        let due = if context.last { self.held.len() } else { self.due };
        for session in self.held.drain(..due) {
            emit_session(&session, context);
        }
        self.due = self.held.len();
    }
}

impl Rows {
    fn reset_sent(&mut self, event: &[u8]) {
        // SAFETY: the type is an integer.
        let Some(reset) = (unsafe { events::read::<types::reset_sent>(event) }) else { return };
        // The latest is the one: where keys are addresses, an earlier session may have had the same.
        if let Some(session) = self.held.iter_mut().rev().find(|session| session.key == reset.key) {
            session.end = types::end::END_RESET;
            session.error = 0;
        }
    }
}

fn emit_session(session: &types::session, context: &mut PollContext<'_>) {
    let egress = session.direction == types::direction::DIRECTION_EGRESS;
    let local = Side::new(&session.local, session.bytes_sent);
    let remote = Side::new(&session.remote, session.bytes_received);
    let (source, destination) = if egress { (&local, &remote) } else { (&remote, &local) };
    let (source_ip, destination_ip) = (source.ip.to_string(), destination.ip.to_string());
    let error = error(session.error);
    let row = Tcplife {
        timestamp: context.clock.wall(session.ended),
        direction: if egress { b"egress" } else { b"ingress" },
        network_type: if local.ip.is_ipv4() { b"ipv4" } else { b"ipv6" },
        transport: b"tcp",
        source_ip: source_ip.as_bytes(),
        source_port: source.port.into(),
        source_bytes: source.bytes,
        destination_ip: destination_ip.as_bytes(),
        destination_port: destination.port.into(),
        destination_bytes: destination.bytes,
        duration: session.ended.saturating_sub(session.opened),
        end: end(session.end),
        error: error.as_bytes(),
        standing: Some(session.standing != 0),
    };
    context.emitter.emit(&row, &subject(session));
}

fn subject(session: &types::session) -> Subject<'_> {
    let owner = &session.owner;
    if owner.pid == 0 {
        return Subject::Unknown;
    }
    Subject::Process(Process {
        pid: owner.pid,
        start: owner.start,
        name: events::name(&owner.name),
        uid: Some(owner.uid),
        gid: None,
        cgroup: owner.cgroup,
        seen: session.ended,
    })
}

fn end(end: types::end) -> &'static [u8] {
    match end {
        types::end::END_CLOSED => b"closed",
        types::end::END_RESET => b"reset",
        types::end::END_RESET_BY_PEER => b"reset_by_peer",
        types::end::END_REFUSED => b"refused",
        types::end::END_TIMED_OUT => b"timed_out",
        _ => b"failed",
    }
}

/// The name of an error of a TCP socket (errno(3)), its number where it is none of the usual ones.
fn error(number: u32) -> Cow<'static, str> {
    let name = match number as i32 {
        0 => "",
        libc::ECONNREFUSED => "ECONNREFUSED",
        libc::ECONNRESET => "ECONNRESET",
        libc::ETIMEDOUT => "ETIMEDOUT",
        libc::EPIPE => "EPIPE",
        libc::EHOSTUNREACH => "EHOSTUNREACH",
        libc::ENETUNREACH => "ENETUNREACH",
        libc::ECONNABORTED => "ECONNABORTED",
        libc::ENETDOWN => "ENETDOWN",
        libc::EHOSTDOWN => "EHOSTDOWN",
        libc::ENONET => "ENONET",
        libc::EACCES => "EACCES",
        libc::EPROTO => "EPROTO",
        libc::ENOPROTOOPT => "ENOPROTOOPT",
        libc::EOPNOTSUPP => "EOPNOTSUPP",
        libc::EMSGSIZE => "EMSGSIZE",
        libc::ENOBUFS => "ENOBUFS",
        libc::EKEYREJECTED => "EKEYREJECTED",
        number => return Cow::Owned(number.to_string()),
    };
    Cow::Borrowed(name)
}

/// One end of a session, with what it sent.
struct Side {
    ip: IpAddr,
    port: u32,
    bytes: u64,
}

impl Side {
    fn new(endpoint: &types::endpoint, bytes: u64) -> Side {
        Side { ip: Ipv6Addr::from(endpoint.address).to_canonical(), port: endpoint.port, bytes }
    }
}

#[cfg(test)]
mod tests {
    use kumon_collect::capture::Capture;

    use super::{Rows, types};
    use crate::active::EventRows;
    use crate::events::{comm, event_bytes};

    fn endpoint(last: u8, port: u32) -> types::endpoint {
        let address = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, last];
        types::endpoint { address, port }
    }

    fn session(key: u64) -> types::session {
        let owner = types::owner { pid: 7, uid: 33, name: comm(b"nginx"), ..Default::default() };
        types::session {
            key,
            opened: 1_000,
            ended: 3_500,
            bytes_sent: 10,
            bytes_received: 20,
            owner,
            direction: types::direction::DIRECTION_INGRESS,
            local: endpoint(1, 80),
            remote: endpoint(2, 40_000),
            ..Default::default()
        }
    }

    #[test]
    fn an_accepted_session_has_the_peer_as_its_source() {
        let mut capture = Capture::new();
        capture.poll(false, |context| Rows::default().emit(&event_bytes(&session(1), b""), context));
        let row = &capture.rows("tcplife")[0];
        for (column, expected) in [
            ("source_ip", "10.0.0.2"),
            ("source_port", "40000"),
            ("source_bytes", "20"),
            ("destination_ip", "10.0.0.1"),
            ("destination_port", "80"),
            ("destination_bytes", "10"),
            ("network_type", "ipv4"),
            ("direction", "ingress"),
            ("duration", "2500"),
            ("end", "closed"),
            ("pid", "7"),
            ("name", "nginx"),
            ("uid", "33"),
        ] {
            assert_eq!(row[column], expected, "{column}");
        }
    }

    #[test]
    fn a_session_without_a_known_process_has_none() {
        let mut capture = Capture::new();
        let unknown = types::session { owner: types::owner::default(), ..session(1) };
        capture.poll(false, |context| Rows::default().emit(&event_bytes(&unknown, b""), context));
        let row = &capture.rows("tcplife")[0];
        for column in ["pid", "name", "uid", "entity_id", "cgroup_id", "container_id"] {
            assert_eq!(row.get(column), None, "{column}");
        }
    }

    #[test]
    fn a_reset_behind_a_session_is_its_end_and_is_waited_for_one_poll() {
        let (mut rows, mut capture) = (Rows::default(), Capture::new());
        let held = |key| event_bytes(&types::session { may_reset: 1, ..session(key) }, b"");
        capture.poll(false, |context| {
            rows.emit(&held(1), context);
            rows.emit(&held(2), context);
            rows.end_poll(context);
        });
        assert!(capture.rows("tcplife").is_empty(), "the reset may still come");
        capture.poll(false, |context| {
            rows.emit(&event_bytes(&types::reset_sent { key: 2 }, b""), context);
            rows.end_poll(context);
        });
        let ends = |capture: &Capture| {
            capture.rows("tcplife").iter().map(|row| row["end"].clone()).collect::<Vec<_>>()
        };
        assert_eq!(ends(&capture), ["closed", "reset"]);
        capture.poll(true, |context| {
            rows.emit(&held(3), context);
            rows.end_poll(context);
        });
        assert_eq!(ends(&capture).len(), 3, "at the last poll nothing is held back");
    }
}
