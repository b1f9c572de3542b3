//! Rows of tcpdrop.

use kumon_collect::{PollContext, Process, Subject};
use kumon_schema::rows;

use super::packet::{Ends, Names, tcp_flags};
use super::skeleton::types;
use crate::active::EventRows;
use crate::events;

/// Makes the rows of tcpdrop.
pub(super) struct Rows {
    pub(super) names: Names,
}

impl EventRows for Rows {
    fn emit(&mut self, event: &[u8], context: &mut PollContext<'_>) {
        // SAFETY: both types hold integers and arrays of them only.
        let Some(drop) = (unsafe { events::read::<types::tcp_drop>(event) }) else { return };
        let traced = unsafe { events::read::<types::traced_tcp_drop>(event) };
        let stack = traced.map(|traced| {
            let frames = traced.size as usize / size_of::<u64>();
            self.names.symbols.fold(&traced.frames[..frames.min(traced.frames.len())])
        });
        let (key, packet) = (&drop.key, &drop.packet);
        let place = self.names.place(key);
        let ends = Ends::of(packet, key.transport);
        let flags = tcp_flags(packet);
        let has_header = packet.has_transport != 0;
        let row = rows::Tcpdrop {
            timestamp: context.clock.wall(drop.time),
            reason: place.reason.as_bytes(),
            class: place.class.name().as_bytes(),
            location: place.location.as_bytes(),
            direction: place.direction.as_bytes(),
            network_type: place.network_type.as_bytes(),
            transport: b"tcp",
            interface: &place.interface,
            source_ip: ends.source_ip.as_bytes(),
            source_port: ends.source_port,
            destination_ip: ends.destination_ip.as_bytes(),
            destination_port: ends.destination_port,
            bytes: drop.bytes.into(),
            flags: flags.as_bytes(),
            sequence: has_header.then_some(packet.sequence.into()),
            acknowledgement: has_header.then_some(packet.acknowledgement.into()),
            tcp_state: ends.tcp_state.as_bytes(),
            stack: stack.as_deref().unwrap_or_default().as_bytes(),
        };
        let process = Process {
            pid: drop.pid,
            start: drop.start,
            name: events::name(&drop.name),
            cgroup: key.cgroup,
            seen: drop.time,
            ..Process::default()
        };
        let subject = match (drop.pid, key.cgroup) {
            (0, 0) => Subject::Unknown,
            (0, id) => Subject::Cgroup { id, seen: drop.time },
            _ => Subject::Process(process),
        };
        context.emitter.emit(&row, &subject);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use kumon_collect::capture::Capture;

    use super::{Names, Rows, types};
    use crate::active::EventRows;
    use crate::drop::reasons::Reasons;
    use crate::drop::symbols::Symbols;
    use crate::events::{comm, event_bytes};

    fn rows() -> Rows {
        let functions = BTreeMap::from([(0x1000, "tcp_v4_rcv".to_owned()), (0x2000, "ip_rcv".to_owned())]);
        let names = Names { reasons: Reasons::default(), symbols: Symbols::of(functions) };
        Rows { names }
    }

    fn drop() -> types::tcp_drop {
        let address = |last| [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
        types::tcp_drop {
            key: types::drop_key {
                location: 0x1010,
                protocol: 0x86dd,
                transport: 6,
                came_in: 1,
                interface: comm(b"eth0"),
                ..Default::default()
            },
            packet: types::packet {
                source: address(1),
                destination: address(2),
                source_port: 40_000,
                destination_port: 80,
                tcp_flags: 2,
                sequence: 7,
                has_addresses: 1,
                has_transport: 1,
                ..Default::default()
            },
            bytes: 60,
            ..Default::default()
        }
    }

    #[test]
    fn a_packet_without_a_socket_belongs_to_nobody() {
        let mut capture = Capture::new();
        capture.poll(false, |context| rows().emit(&event_bytes(&drop(), b""), context));
        let row = &capture.rows("tcpdrop")[0];
        for (column, expected) in [
            ("reason", "NOT_SPECIFIED"),
            ("class", "unknown"),
            ("location", "tcp_v4_rcv"),
            ("direction", "ingress"),
            ("network_type", "ipv6"),
            ("interface", "eth0"),
            ("source_ip", "2001:db8::1"),
            ("destination_port", "80"),
            ("flags", "SYN"),
            ("sequence", "7"),
            ("bytes", "60"),
        ] {
            assert_eq!(row[column], expected, "{column}");
        }
        for column in ["pid", "cgroup_id", "stack", "tcp_state"] {
            assert_eq!(row.get(column), None, "{column}");
        }
    }

    #[test]
    fn a_traced_packet_has_as_many_frames_as_the_kernel_says() {
        let mut frames = [0; 32];
        frames[..3].copy_from_slice(&[0x1010, 0x2010, 0x1020]);
        let traced = types::traced_tcp_drop { drop: drop(), size: 16, frames };
        let mut capture = Capture::new();
        capture.poll(false, |context| rows().emit(&event_bytes(&traced, b""), context));
        assert_eq!(capture.rows("tcpdrop")[0]["stack"], "ip_rcv;tcp_v4_rcv");
    }
}
