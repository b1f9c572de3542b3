//! The metric snapshot_socket: the sockets that stand at this moment, of /proc/PID/net and /proc/PID/fd.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use kumon_collect::settings::interval;
use kumon_collect::{Emitter, Subject};
use kumon_schema::rows;
use serde::Deserialize;

use crate::Root;
use crate::error::ReadError;
use crate::metric::{Metric, Period};
use crate::parse::{self, SocketLine};
use crate::tasks::{Task, Tasks};

/// Settings of the metric snapshot_socket.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SnapshotSocketSettings {
    pub enabled: bool,
    /// Time between two snapshots.
    #[serde(deserialize_with = "interval")]
    pub interval: Duration,
}

impl Default for SnapshotSocketSettings {
    /// Off, as a node may have thousands.
    fn default() -> SnapshotSocketSettings {
        SnapshotSocketSettings { enabled: false, interval: Duration::from_secs(300) }
    }
}

pub(crate) struct SnapshotSocket {
    tasks: Tasks,
}

/// The files of a network namespace, each with its protocol.
const FILES: [(&str, &str, &str); 4] =
    [("tcp", "ipv4", "tcp"), ("tcp6", "ipv6", "tcp"), ("udp", "ipv4", "udp"), ("udp6", "ipv6", "udp")];

impl Metric for SnapshotSocket {
    const NAME: &'static str = "snapshot_socket";
    const FILE: &'static str = "/proc/PID/net/tcp";
    /// There may be very many.
    const MAY_HANG: bool = true;
    type Settings = SnapshotSocketSettings;

    fn start(root: &Root, _settings: &SnapshotSocketSettings) -> Result<SnapshotSocket, ReadError> {
        Ok(SnapshotSocket { tasks: Tasks::of_node(root)? })
    }

    fn read(&mut self, period: Period, emitter: &mut Emitter<'_>) -> Result<(), ReadError> {
        let tasks = self.tasks.all()?;
        let owners = self.owners(&tasks);
        let mut namespaces = HashSet::new();
        for task in &tasks {
            let net = self.tasks.folder(task.pid).join("net");
            // Each namespace has files of its own, which even those see who may not see the namespace.
            let Ok(file) = fs::metadata(net.join("tcp")) else { continue };
            if !namespaces.insert((file.dev(), file.ino())) {
                continue;
            }
            for (file, network, transport) in FILES {
                // Without IPv6 there are two only.
                let text = fs::read(net.join(file)).unwrap_or_default();
                parse::socket_lines(&text, |socket| {
                    let owner = socket.inode.and_then(|inode| owners.get(&inode));
                    let subject = owner.map_or(Subject::Unknown, |at| tasks[*at].subject());
                    emit(period, &socket, network, transport, &subject, emitter);
                });
            }
        }
        Ok(())
    }
}

impl SnapshotSocket {
    /// By the socket's inode the first process that has it open: processes inherit sockets from those before them.
    fn owners(&self, tasks: &[Task]) -> HashMap<u64, usize> {
        let mut owners = HashMap::new();
        for (at, task) in tasks.iter().enumerate() {
            // Those of others take CAP_SYS_PTRACE.
            let Ok(descriptors) = fs::read_dir(self.tasks.folder(task.pid).join("fd")) else { continue };
            for descriptor in descriptors.flatten() {
                let Ok(target) = fs::read_link(descriptor.path()) else { continue };
                let target = target.to_str().unwrap_or_default();
                let inode = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
                if let Some(inode) = inode.and_then(|inode| inode.parse().ok()) {
                    owners.entry(inode).or_insert(at);
                }
            }
        }
        owners
    }
}

fn emit(
    period: Period,
    socket: &SocketLine,
    network: &str,
    transport: &str,
    subject: &Subject<'_>,
    emitter: &mut Emitter<'_>,
) {
    let remote = Some(socket.remote).filter(|(ip, port)| !ip.is_unspecified() || *port != 0);
    let (local_ip, local_port) = (socket.local.0.to_string(), socket.local.1);
    let remote_ip = remote.map_or(String::new(), |(ip, _)| ip.to_string());
    let row = rows::SnapshotSocket {
        timestamp: period.timestamp,
        network_type: network.as_bytes(),
        transport: transport.as_bytes(),
        local_ip: local_ip.as_bytes(),
        local_port: local_port.into(),
        remote_ip: remote_ip.as_bytes(),
        remote_port: remote.map(|(_, port)| port.into()),
        state: state(socket.state, transport).as_bytes(),
        receive_queue: Some(socket.receive_queue),
        send_queue: Some(socket.send_queue),
        owner: Some(socket.uid.into()),
        inode: socket.inode,
    };
    emitter.emit(&row, subject);
}

/// By the numbers of include/net/tcp_states.h, which UDP uses two of, in the words of `ss`.
fn state(number: u8, transport: &str) -> &'static str {
    match number {
        1 => "ESTAB",
        2 => "SYN-SENT",
        3 | 12 => "SYN-RECV",
        4 => "FIN-WAIT-1",
        5 => "FIN-WAIT-2",
        6 => "TIME-WAIT",
        7 if transport == "udp" => "UNCONN",
        7 => "CLOSED",
        8 => "CLOSE-WAIT",
        9 => "LAST-ACK",
        10 => "LISTEN",
        11 => "CLOSING",
        _ => "UNKNOWN",
    }
}

#[cfg(test)]
mod tests {
    use super::SnapshotSocketSettings;
    use crate::Settings;
    use crate::testing::Node;

    fn process(node: &Node, pid: u32) {
        let rest = "S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 0 1000 200 18446744073709551615 1 1 0 0 0 0 0 4096 0 0 0 0 17 1 0 0 0";
        node.write(&format!("proc/{pid}/stat"), &format!("{pid} (server) {rest}\n"));
        node.write(&format!("proc/{pid}/status"), "Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\n");
    }

    const HEAD: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

    #[test]
    fn each_socket_has_a_row_with_the_first_process_that_has_it() {
        let node = Node::new();
        for pid in [7, 8, 9] {
            process(&node, pid);
            node.link(&format!("proc/{pid}/fd/3"), "socket:[111]");
        }
        node.link("proc/8/fd/4", "socket:[222]");
        node.link("proc/8/fd/5", "/dev/null");
        // The first two have the network in common, the third one has another.
        node.write(
            "proc/7/net/tcp",
            &format!(
                "{HEAD}\
            0: 0100007F:0277 00000000:0000 0A 00000000:00000005 00:00000000 00000000 1000 0 111 1 0\n\
            1: 0100007F:0277 0100007F:8000 06 00000000:00000000 00:00000000 00000000 0 0 0 1 0\n"
            ),
        );
        node.write(
            "proc/7/net/udp",
            &format!("{HEAD}0: 00000000:0035 00000000:0000 07 00000001:00000002 00:0 0 0 0 222 1 0\n"),
        );
        node.link("proc/8/net", "../7/net");
        node.write(
            "proc/9/net/tcp",
            &format!("{HEAD}0: 0100007F:0277 00000000:0000 0A 0:0 00:0 0 5 0 333 1 0\n"),
        );
        let snapshot_socket = SnapshotSocketSettings { enabled: true, ..SnapshotSocketSettings::default() };
        let mut reading = node.start("snapshot_socket", Settings { snapshot_socket, ..Settings::default() });
        let columns =
            ["pid", "transport", "local_ip", "local_port", "remote_port", "state", "receive_queue", "owner"];
        let told: Vec<Vec<String>> = reading
            .rows()
            .iter()
            .map(|row| columns.map(|column| row.get(column).cloned().unwrap_or_default()).to_vec())
            .collect();
        let expected = [
            ["7", "tcp", "127.0.0.1", "631", "", "LISTEN", "5", "1000"],
            ["", "tcp", "127.0.0.1", "631", "32768", "TIME-WAIT", "0", "0"],
            ["8", "udp", "0.0.0.0", "53", "", "UNCONN", "2", "0"],
            ["", "tcp", "127.0.0.1", "631", "", "LISTEN", "0", "5"],
        ];
        assert_eq!(told, expected);
    }
}
