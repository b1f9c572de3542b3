//! The metric netdev: what network interfaces receive and send, of /proc/net/dev.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use kumon_collect::settings::{INTERVAL, interval};
use kumon_collect::{Emitter, NamePatterns, Subject};
use kumon_schema::rows;
use serde::Deserialize;

use crate::Root;
use crate::counter::added;
use crate::error::ReadError;
use crate::file::KernelFile;
use crate::metric::{Metric, Period};
use crate::parse::{self, InterfaceNumbers};

/// Settings of the metric netdev.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetdevSettings {
    pub enabled: bool,
    /// Time that a row sums up.
    #[serde(deserialize_with = "interval")]
    pub interval: Duration,
    /// Interfaces without rows.
    pub exclude: NamePatterns,
}

impl Default for NetdevSettings {
    /// The loopback is left out, as Telegraf and Netdata leave it out.
    fn default() -> NetdevSettings {
        NetdevSettings { enabled: true, interval: INTERVAL, exclude: NamePatterns::of(&["lo"]) }
    }
}

pub(crate) struct Netdev {
    root: Root,
    exclude: NamePatterns,
    dev: KernelFile,
    before: Interfaces,
}

/// By name.
type Interfaces = HashMap<Vec<u8>, Interface>;

struct Interface {
    numbers: InterfaceNumbers,
    link: Link,
}

/// What /sys tells of an interface.
struct Link {
    /// Another interface of the same name has another one.
    index: Option<Vec<u8>>,
    /// Bits a second.
    speed: Option<u64>,
    state: Vec<u8>,
}

impl Metric for Netdev {
    const NAME: &'static str = "netdev";
    const FILE: &'static str = "/proc/net/dev";
    /// The speed of a link is known to its driver, and while it is asked nobody else may change a link, nor the other way
    /// round (rtnl_lock).
    const MAY_HANG: bool = true;
    type Settings = NetdevSettings;

    fn start(root: &Root, settings: &NetdevSettings) -> Result<Netdev, ReadError> {
        let mut netdev = Netdev {
            root: root.clone(),
            exclude: settings.exclude.clone(),
            dev: KernelFile::at(root.net("dev")),
            before: Interfaces::new(),
        };
        netdev.before = netdev.read_interfaces()?;
        Ok(netdev)
    }

    fn read(&mut self, period: Period, emitter: &mut Emitter<'_>) -> Result<(), ReadError> {
        let now = self.read_interfaces()?;
        for (name, interface) in &now {
            let before = self.before.get(name).filter(|before| before.link.index == interface.link.index);
            // An interface that came just now has received and sent all of it since.
            let before = before.map_or(InterfaceNumbers::default(), |before| before.numbers);
            emit(period, name, &before, interface, emitter);
        }
        self.before = now;
        Ok(())
    }
}

impl Netdev {
    fn read_interfaces(&mut self) -> Result<Interfaces, ReadError> {
        let Netdev { root, exclude, dev, .. } = self;
        dev.read_as(|text| {
            let mut interfaces = Interfaces::new();
            let is_right = parse::interfaces(text, |name, numbers| {
                if !exclude.matches(name) {
                    interfaces.insert(name.to_vec(), Interface { numbers: *numbers, link: link(root, name) });
                }
            });
            is_right.then_some(interfaces)
        })
    }
}

fn link(root: &Root, interface: &[u8]) -> Link {
    let folder = root.path("/sys/class/net").join(String::from_utf8_lossy(interface).as_ref());
    let read = |file: &str| fs::read(folder.join(file)).ok().map(|text| text.trim_ascii().to_vec());
    // In Mbit/s. A link that is down, or has no speed, is refused or -1.
    let speed = read("speed").and_then(|text| std::str::from_utf8(&text).ok()?.parse::<u64>().ok());
    Link {
        index: read("ifindex"),
        speed: speed.filter(|speed| *speed < u32::MAX.into()).map(|speed| speed * 1_000_000),
        state: read("operstate").unwrap_or_default(),
    }
}

fn emit(period: Period, name: &[u8], before: &InterfaceNumbers, now: &Interface, emitter: &mut Emitter<'_>) {
    let added = |at: usize| Some(added(before[at], now.numbers[at]));
    let row = rows::Netdev {
        timestamp: period.timestamp,
        interval: period.interval,
        interface: name,
        received_bytes: added(0),
        received_packets: added(1),
        received_errors: added(2),
        received_dropped: added(3),
        received_fifo_errors: added(4),
        multicast: added(7),
        sent_bytes: added(8),
        sent_packets: added(9),
        sent_errors: added(10),
        sent_dropped: added(11),
        sent_fifo_errors: added(12),
        collisions: added(13),
        carrier_errors: added(14),
        speed: now.link.speed,
        state: &now.link.state,
        received_bytes_total: Some(now.numbers[0]),
        sent_bytes_total: Some(now.numbers[8]),
    };
    emitter.emit(&row, &Subject::Node);
}

#[cfg(test)]
mod tests {
    use super::NetdevSettings;
    use crate::Settings;
    use crate::testing::Node;
    use kumon_collect::NamePatterns;

    const HEAD: &str =
        "Inter-|   Receive                |  Transmit\n face |bytes    packets|bytes    packets\n";

    fn dev(node: &Node, lines: &str) {
        node.write("proc/net/dev", &format!("{HEAD}{lines}"));
    }

    #[test]
    fn an_interface_has_a_row_of_what_it_received_and_sent() {
        let node = Node::new();
        dev(&node, "lo: 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1\neth0: 100 10 1 1 0 0 0 5 200 20 0 0 0 0 0 0\n");
        for (file, text) in [("ifindex", "4\n"), ("speed", "1000\n"), ("operstate", "up\n")] {
            node.write(&format!("sys/class/net/eth0/{file}"), text);
        }
        let mut reading = node.start("netdev", Settings::default());
        dev(&node, "lo: 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9\neth0: 150 12 2 4 4 9 9 11 270 28 9 10 11 12 13 9\n");
        reading.expect(&[&[
            ("event_module", "system"),
            ("event_dataset", "system.network"),
            ("interface", "eth0"),
            ("received_bytes", "50"),
            ("received_packets", "2"),
            ("received_errors", "1"),
            ("received_dropped", "3"),
            ("received_fifo_errors", "4"),
            ("multicast", "6"),
            ("sent_bytes", "70"),
            ("sent_packets", "8"),
            ("sent_errors", "9"),
            ("sent_dropped", "10"),
            ("sent_fifo_errors", "11"),
            ("collisions", "12"),
            ("carrier_errors", "13"),
            ("speed", "1000000000"),
            ("state", "up"),
            ("received_bytes_total", "150"),
            ("sent_bytes_total", "270"),
        ]]);
    }

    #[test]
    fn the_node_s_network_is_that_of_the_first_process() {
        let node = Node::new();
        dev(&node, "lo: 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1\n");
        let first = format!("{HEAD}eth0: 5 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n");
        node.write("proc/1/net/dev", &first);
        assert_eq!(node.start("netdev", Settings::default()).row()["interface"], "eth0");
    }

    #[test]
    fn interfaces_come_and_go_and_another_of_the_same_name_begins_anew() {
        let node = Node::new();
        let settings = NetdevSettings { exclude: NamePatterns::default(), ..NetdevSettings::default() };
        dev(&node, "lo: 7 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1\nveth0: 100 10 1 1 0 0 0 5 200 20 0 0 0 0 0 0\n");
        node.write("sys/class/net/veth0/ifindex", "4\n");
        let mut reading = node.start("netdev", Settings { netdev: settings, ..Settings::default() });
        dev(&node, "veth0: 130 10 1 1 0 0 0 5 200 20 0 0 0 0 0 0\nnew: 5 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n");
        node.write("sys/class/net/veth0/ifindex", "9\n");
        for (speed, interface) in [("-1\n", "veth0"), ("4294967295\n", "new")] {
            node.write(&format!("sys/class/net/{interface}/speed"), speed);
        }
        let mut rows = reading.rows();
        rows.sort_by_key(|row| row["interface"].clone());
        let told: Vec<_> =
            rows.iter().map(|row| (row["interface"].as_str(), row["received_bytes"].as_str())).collect();
        assert_eq!(told, [("new", "5"), ("veth0", "130")]);
        assert!(rows.iter().all(|row| !row.contains_key("speed") && !row.contains_key("state")), "{rows:?}");
        node.write("proc/net/dev", "garbage");
        assert!(reading.failure().contains("/proc/net/dev: it is not what Linux writes there"));
    }
}
