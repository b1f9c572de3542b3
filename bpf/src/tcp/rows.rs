//! From the sessions of tcp.bpf.c to rows.

use std::net::{IpAddr, Ipv6Addr};

use kumon_schema::rows::Tcplife;
use kumon_spool::Spool;

use super::skeleton::types;
use crate::containers::Containers;
use crate::started::EventRows;
use crate::{Clock, Entities, events};

/// Makes the rows of tcplife.
pub(super) struct Rows {
    pub(super) entities: Entities,
    pub(super) containers: Containers,
}

impl EventRows for Rows {
    fn append(&mut self, event: &[u8], clock: &Clock, spool: &mut Spool) {
        // SAFETY: the type is integers and arrays of them.
        if let Some(session) = unsafe { events::read::<types::session>(event) } {
            self.session(&session, clock, spool);
        }
    }
}

impl Rows {
    fn session(&mut self, session: &types::session, clock: &Clock, spool: &mut Spool) {
        let egress = session.direction == types::direction::DIRECTION_EGRESS;
        let local = Side::new(&session.local, session.bytes_sent);
        let remote = Side::new(&session.remote, session.bytes_received);
        let (source, destination) = if egress { (&local, &remote) } else { (&remote, &local) };
        let owner = (session.pid != 0).then_some(session);
        let entity = owner.map(|owner| self.entities.id(owner.pid, owner.process_start)).unwrap_or_default();
        let container = owner.and_then(|owner| self.containers.id(owner.cgroup));
        spool.append(&Tcplife {
            timestamp: clock.wall(session.ended),
            entity_id: entity.as_bytes(),
            pid: owner.map(|owner| owner.pid.into()),
            name: events::name(&session.name),
            uid: owner.map(|owner| owner.uid.into()),
            cgroup_id: owner.map(|owner| owner.cgroup),
            container_id: container.unwrap_or_default().as_bytes(),
            direction: if egress { b"egress" } else { b"ingress" },
            network_type: if local.ip.is_ipv4() { b"ipv4" } else { b"ipv6" },
            transport: b"tcp",
            source_ip: source.ip.to_string().as_bytes(),
            source_port: source.port.into(),
            source_bytes: source.bytes,
            destination_ip: destination.ip.to_string().as_bytes(),
            destination_port: destination.port.into(),
            destination_bytes: destination.bytes,
            duration: session.ended.saturating_sub(session.opened),
        });
    }
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
