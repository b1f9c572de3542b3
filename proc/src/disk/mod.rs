//! The metric disk: what disks do, of /proc/diskstats.

use std::collections::HashMap;
use std::time::Duration;

use kumon_collect::settings::{INTERVAL, interval};
use kumon_collect::{Emitter, NamePatterns, Subject};
use kumon_schema::rows;
use serde::Deserialize;

use crate::Root;
use crate::counter::{added, added_32};
use crate::error::ReadError;
use crate::file::KernelFile;
use crate::metric::{Metric, Period, share};
use crate::parse::{self, DiskNumbers};
use crate::pressure::{Pressure, Stalled};

/// Settings of the metric disk.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DiskSettings {
    pub enabled: bool,
    /// Time that a row sums up.
    #[serde(deserialize_with = "interval")]
    pub interval: Duration,
    /// Disks without rows.
    pub exclude: NamePatterns,
}

impl Default for DiskSettings {
    /// Those left out are the ones that prometheus-node-exporter leaves out too.
    fn default() -> DiskSettings {
        let exclude = NamePatterns::of(&["loop*", "ram*", "zram*", "fd*"]);
        DiskSettings { enabled: true, interval: INTERVAL, exclude }
    }
}

pub(crate) struct Disk {
    exclude: NamePatterns,
    diskstats: KernelFile,
    /// Below it each whole disk has a folder; partitions have none.
    disks: Root,
    pressure: Pressure,
    before: Disks,
}

/// By device number: another disk of the same name is another one.
type Disks = HashMap<(u64, u64), Known>;

struct Known {
    name: Vec<u8>,
    numbers: DiskNumbers,
}

/// What the kernel calls a sector, whatever the disk's own are: 512 bytes.
const SECTOR: u64 = 512;
const MILLISECOND: u64 = 1_000_000;

impl Metric for Disk {
    const NAME: &'static str = "disk";
    const FILE: &'static str = "/proc/diskstats";
    const MAY_HANG: bool = false;
    type Settings = DiskSettings;

    fn start(root: &Root, settings: &DiskSettings) -> Result<Disk, ReadError> {
        let mut disk = Disk {
            exclude: settings.exclude.clone(),
            diskstats: KernelFile::at(root.path(Disk::FILE)),
            disks: root.clone(),
            pressure: Pressure::of("io", root),
            before: Disks::new(),
        };
        disk.before = disk.read_disks()?;
        Ok(disk)
    }

    fn read(&mut self, period: Period, emitter: &mut Emitter<'_>) -> Result<(), ReadError> {
        let now = self.read_disks()?;
        let stalled = self.pressure.added();
        for (device, disk) in &now {
            // A disk that came just now has done all of it since.
            let before = self.before.get(device).filter(|before| before.name == disk.name);
            let before = before.map_or(DiskNumbers::default(), |before| before.numbers);
            emit(period, &disk.name, &before, &disk.numbers, stalled, emitter);
        }
        self.before = now;
        Ok(())
    }
}

impl Disk {
    fn read_disks(&mut self) -> Result<Disks, ReadError> {
        let (mut disks, mut is_right) = (Disks::new(), false);
        let text = self.diskstats.read()?;
        is_right |= text.is_empty();
        parse::diskstats(text, |device, name, numbers| {
            is_right = true;
            if self.exclude.matches(name) {
                return;
            }
            let known = self.before.get(&device).is_some_and(|before| before.name == name);
            // In /sys a slash of a name is an exclamation mark.
            let folder = String::from_utf8_lossy(name).replace('/', "!");
            if known || self.disks.path("/sys/block").join(folder).exists() {
                disks.insert(device, Known { name: name.to_vec(), numbers: *numbers });
            }
        });
        if is_right { Ok(disks) } else { Err(ReadError::not_understood(self.disks.path(Disk::FILE))) }
    }
}

fn emit(
    period: Period,
    disk: &[u8],
    before: &DiskNumbers,
    now: &DiskNumbers,
    stalled: Stalled,
    emitter: &mut Emitter<'_>,
) {
    let count = |at: usize| added(before[at], now[at]);
    let bytes = |at: usize| count(at).saturating_mul(SECTOR);
    // The kernel gives them as numbers of 32 bits, which are full after 50 days (part_stat_show of block/genhd.c).
    let time = |at: usize| added_32(before[at], now[at]).saturating_mul(MILLISECOND);
    let mean = |time: u64, count: u64| time.checked_div(count);
    let busy_time = time(9);
    let row = rows::Disk {
        timestamp: period.timestamp,
        interval: period.interval,
        disk,
        reads: Some(count(0)),
        reads_merged: Some(count(1)),
        read_bytes: Some(bytes(2)),
        read_time: Some(time(3)),
        writes: Some(count(4)),
        writes_merged: Some(count(5)),
        write_bytes: Some(bytes(6)),
        write_time: Some(time(7)),
        in_flight: Some(now[8]),
        busy_time: Some(busy_time),
        weighted_time: Some(time(10)),
        discards: Some(count(11)),
        discards_merged: Some(count(12)),
        discard_bytes: Some(bytes(13)),
        discard_time: Some(time(14)),
        flushes: Some(count(15)),
        flush_time: Some(time(16)),
        // The kernel's ticks and the interval's ends don't meet.
        busy_pct: share(Some(busy_time.min(period.interval)), Some(period.interval)),
        read_wait: mean(time(3), count(0)),
        write_wait: mean(time(7), count(4)),
        pressure_some: stalled.some,
        pressure_full: stalled.full,
        reads_total: Some(now[0]),
        read_bytes_total: Some(now[2].saturating_mul(SECTOR)),
        read_time_total: Some(now[3]),
        writes_total: Some(now[4]),
        write_bytes_total: Some(now[6].saturating_mul(SECTOR)),
        write_time_total: Some(now[7]),
    };
    emitter.emit(&row, &Subject::Node);
}

#[cfg(test)]
mod tests {
    use super::DiskSettings;
    use crate::Settings;
    use crate::testing::Node;
    use kumon_collect::NamePatterns;

    fn node() -> Node {
        let node = Node::new();
        node.write(
            "proc/diskstats",
            "254 0 vda 10 1 100 7 20 2 200 9 0 50 60 5 0 40 3 4 6\n\
            254 1 vda1 10 1 100 7 20 2 200 9 0 50 60\n7 0 loop0 1 2 3 4 5 6 7 8 9 10 11\n",
        );
        node.write("proc/pressure/io", "some total=10\nfull total=5\n");
        node.write("sys/block/vda/stat", "");
        node.write("sys/block/loop0/stat", "");
        node
    }

    #[test]
    fn a_whole_disk_has_a_row_of_what_it_did() {
        let node = node();
        let mut reading = node.start("disk", Settings::default());
        node.write(
            "proc/diskstats",
            "254 0 vda 14 2 110 15 25 4 230 29 3 51 160 6 1 48 5 6 9\n\
            254 1 vda1 999 1 100 7 20 2 200 9 0 50 60\n7 0 loop0 99 2 3 4 5 6 7 8 9 10 11\n",
        );
        node.write("proc/pressure/io", "some total=17\nfull total=6\n");
        let mut row = reading.row();
        let busy: f64 = row.remove("busy_pct").unwrap().parse().unwrap();
        assert!(busy > 0.0 && busy <= 1.0, "{busy}");
        let expected = [
            ("disk", "vda"),
            ("event_module", "system"),
            ("event_dataset", "system.diskio"),
            ("reads", "4"),
            ("reads_merged", "1"),
            ("read_bytes", "5120"),
            ("read_time", "8000000"),
            ("writes", "5"),
            ("writes_merged", "2"),
            ("write_bytes", "15360"),
            ("write_time", "20000000"),
            ("in_flight", "3"),
            ("busy_time", "1000000"),
            ("weighted_time", "100000000"),
            ("discards", "1"),
            ("discards_merged", "1"),
            ("discard_bytes", "4096"),
            ("discard_time", "2000000"),
            ("flushes", "2"),
            ("flush_time", "3000000"),
            ("read_wait", "2000000"),
            ("write_wait", "4000000"),
            ("pressure_some", "7000"),
            ("pressure_full", "1000"),
            ("reads_total", "14"),
            ("read_bytes_total", "56320"),
            ("read_time_total", "15"),
            ("writes_total", "25"),
            ("write_bytes_total", "117760"),
            ("write_time_total", "29"),
        ];
        for (column, text) in expected {
            assert_eq!(row.remove(column).as_deref(), Some(text), "{column}");
        }
        assert_eq!(row.keys().collect::<Vec<_>>(), ["interval", "timestamp"]);
        // Without requests there is no mean time of one.
        let row = reading.row();
        assert_eq!((row["reads"].as_str(), row.get("read_wait"), row.get("write_wait")), ("0", None, None));
    }

    #[test]
    fn times_of_32_bits_wrap_and_disks_come_and_go() {
        let node = node();
        let settings = DiskSettings { exclude: NamePatterns::default(), ..DiskSettings::default() };
        node.write(
            "proc/diskstats",
            "7 0 loop0 9 0 0 4294967290 9 0 0 0 0 0 0\n254 0 vda 1 0 0 0 5 0 0 0 0 0 0\n",
        );
        let mut reading = node.start("disk", Settings { disk: settings, ..Settings::default() });
        // Another disk has the name vda; one is new; one began anew with its number and name.
        node.write("sys/block/cciss!c0d0/stat", "");
        node.write(
            "proc/diskstats",
            "7 0 loop0 10 0 0 4 9 0 0 0 0 0 0\n254 16 vda 0 0 0 0 4 0 0 0 0 0 0\n\
            104 0 cciss/c0d0 3 0 0 0 4 0 0 0 0 0 0\n",
        );
        let mut rows = reading.rows();
        rows.sort_by_key(|row| row["disk"].clone());
        let told: Vec<_> = rows
            .iter()
            .map(|row| ["disk", "reads", "read_time", "writes"].map(|key| row[key].as_str()))
            .collect();
        assert_eq!(
            told,
            [["cciss/c0d0", "3", "0", "4"], ["loop0", "1", "10000000", "0"], ["vda", "0", "0", "4"]]
        );
        node.write("proc/diskstats", "254 16 vda 0 0 0 0 1 0 0 0 0 0 0\n");
        assert_eq!(reading.row()["writes"], "1");
        // A node without disks has no rows, and nothing is wrong with it.
        node.write("proc/diskstats", "");
        assert!(reading.rows().is_empty());
        node.write("proc/diskstats", "what is this\n");
        assert!(reading.failure().contains("/proc/diskstats: it is not what Linux writes there"));
    }
}
