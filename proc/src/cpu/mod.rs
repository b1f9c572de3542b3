//! The metric cpu: what the CPUs do, of /proc/stat.

use std::time::Duration;

use kumon_collect::settings::{INTERVAL, interval};
use kumon_collect::{Emitter, Subject};
use kumon_schema::rows;
use serde::Deserialize;

use crate::Root;
use crate::counter::added_if_known;
use crate::error::ReadError;
use crate::file::KernelFile;
use crate::metric::{Metric, Period, share};
use crate::parse::{self, Stat, Times};
use crate::pressure::Pressure;

/// Settings of the metric cpu.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CpuSettings {
    pub enabled: bool,
    /// Time that a row sums up.
    #[serde(deserialize_with = "interval")]
    pub interval: Duration,
    /// Whether each CPU has rows of its own.
    pub per_cpu: bool,
}

impl Default for CpuSettings {
    fn default() -> CpuSettings {
        CpuSettings { enabled: true, interval: INTERVAL, per_cpu: false }
    }
}

pub(crate) struct Cpu {
    per_cpu: bool,
    /// Nanoseconds of a tick.
    tick: u64,
    stat: KernelFile,
    load: KernelFile,
    pressure: Pressure,
    before: Stat,
}

impl Metric for Cpu {
    const NAME: &'static str = "cpu";
    const FILE: &'static str = "/proc/stat";
    const MAY_HANG: bool = false;
    type Settings = CpuSettings;

    fn start(root: &Root, settings: &CpuSettings) -> Result<Cpu, ReadError> {
        let mut stat = KernelFile::at(root.path(Cpu::FILE));
        let before = stat.read_as(parse::stat)?;
        Ok(Cpu {
            per_cpu: settings.per_cpu,
            tick: kumon_collect::tick(),
            stat,
            load: KernelFile::at(root.path("/proc/loadavg")),
            pressure: Pressure::of("cpu", root),
            before,
        })
    }

    fn read(&mut self, period: Period, emitter: &mut Emitter<'_>) -> Result<(), ReadError> {
        let now = self.stat.read_as(parse::stat)?;
        let stalled = self.pressure.added();
        let load = parse::load(self.load.read_if_any());
        let before = &self.before;
        let times = passed(&before.all, &now.all);
        let cores = now.cpus.len() as u64;
        let total = busy_and_idle(&times);
        // In CPUs: of two that are busy for half of the time it is 1.
        let cpus = |ticks: u64| share(Some(ticks.saturating_mul(cores)), Some(total));
        let [user, nice, system, idle, iowait, irq, softirq, steal, ..] = times;
        let row = rows::Cpu {
            context_switches: added_if_known(before.context_switches, now.context_switches),
            interrupts: added_if_known(before.interrupts, now.interrupts),
            soft_interrupts: added_if_known(before.soft_interrupts, now.soft_interrupts),
            forks: added_if_known(before.forks, now.forks),
            running: now.running,
            blocked: now.blocked,
            pressure_some: stalled.some,
            load_1: load.map(|load| load[0]),
            load_5: load.map(|load| load[1]),
            load_15: load.map(|load| load[2]),
            load_cores: Some(cores),
            cores: Some(cores),
            user_pct: cpus(user),
            nice_pct: cpus(nice),
            system_pct: cpus(system),
            iowait_pct: cpus(iowait),
            irq_pct: cpus(irq),
            softirq_pct: cpus(softirq),
            steal_pct: cpus(steal),
            total_norm_pct: share(Some(total.saturating_sub(idle.saturating_add(iowait))), Some(total)),
            ..self.row(period, b"all", &times)
        };
        emitter.emit(&row, &Subject::Node);
        if self.per_cpu {
            self.emit_each(period, &now, emitter);
        }
        self.before = now;
        Ok(())
    }
}

impl Cpu {
    /// A CPU that came just now has its first row after the next interval.
    fn emit_each(&self, period: Period, now: &Stat, emitter: &mut Emitter<'_>) {
        let mut before = self.before.cpus.iter().peekable();
        for (cpu, times) in &now.cpus {
            while before.next_if(|(other, _)| other < cpu).is_some() {}
            if let Some((_, then)) = before.next_if(|(other, _)| other == cpu) {
                let cpu = cpu.to_string();
                let row = self.row(period, cpu.as_bytes(), &passed(then, times));
                emitter.emit(&row, &Subject::Node);
            }
        }
    }

    /// What the rows of all CPUs and of each have.
    fn row<'a>(&self, period: Period, cpu: &'a [u8], times: &Times) -> rows::Cpu<'a> {
        let [user, nice, system, idle, iowait, irq, softirq, steal, guest, guest_nice] =
            times.map(|ticks| ticks.saturating_mul(self.tick));
        let Period { timestamp, interval } = period;
        rows::Cpu {
            timestamp,
            interval,
            cpu,
            user,
            nice,
            system,
            idle,
            iowait,
            irq,
            softirq,
            steal,
            guest,
            guest_nice,
            ..rows::Cpu::default()
        }
    }
}

/// Unlike other counters some of these go back a little now and then: idle and iowait, as the kernel's own documentation
/// says (Documentation/filesystems/proc.rst), and all of a CPU that was away.
fn passed(before: &Times, now: &Times) -> Times {
    let mut passed = *now;
    passed.iter_mut().zip(before).for_each(|(now, before)| *now = now.saturating_sub(*before));
    passed
}

/// All ticks; those of guests are in user and nice already.
fn busy_and_idle(times: &Times) -> u64 {
    times[..8].iter().fold(0, |sum, ticks| sum.saturating_add(*ticks))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::CpuSettings;
    use crate::Settings;
    use crate::testing::Node;

    fn node() -> Node {
        let node = Node::new();
        node.write(
            "proc/stat",
            "cpu 100 0 50 800 20 0 5 1 0 0\ncpu0 60 0 20 400 10 0 5 1 0 0\n\
            cpu1 40 0 30 400 10 0 0 0 0 0\nintr 1000 5 6\nctxt 5000\nprocesses 300\nprocs_running 2\n\
            procs_blocked 0\nsoftirq 700 1 2\n",
        );
        node.write("proc/loadavg", "0.50 1.25 2.00 1/100 4711\n");
        node.write("proc/pressure/cpu", "some avg10=0.00 avg60=0.00 avg300=0.00 total=1000\n");
        node
    }

    fn settings(per_cpu: bool) -> Settings {
        Settings { cpu: CpuSettings { per_cpu, ..CpuSettings::default() }, ..Settings::default() }
    }

    #[test]
    fn a_row_has_what_came_since_the_last_one() {
        let node = node();
        let mut reading = node.start("cpu", settings(false));
        node.write(
            "proc/stat",
            "cpu 130 10 60 830 30 3 9 8 6 5\ncpu0 1 2 3 4\ncpu1 1 2 3 4\nintr 1010 5 6\n\
            ctxt 5600\nprocesses 307\nprocs_running 5\nprocs_blocked 1\nsoftirq 720 1 2\n",
        );
        node.write("proc/pressure/cpu", "some avg10=0.00 avg60=0.00 avg300=0.00 total=4000\n");
        reading.expect(&[&[
            ("event_module", "system"),
            ("event_dataset", "system.cpu"),
            ("cpu", "all"),
            ("user", "300000000"),
            ("nice", "100000000"),
            ("system", "100000000"),
            ("idle", "300000000"),
            ("iowait", "100000000"),
            ("irq", "30000000"),
            ("softirq", "40000000"),
            ("steal", "70000000"),
            ("guest", "60000000"),
            ("guest_nice", "50000000"),
            ("context_switches", "600"),
            ("interrupts", "10"),
            ("soft_interrupts", "20"),
            ("forks", "7"),
            ("running", "5"),
            ("blocked", "1"),
            ("pressure_some", "3000000"),
            ("load_1", "0.5"),
            ("load_5", "1.25"),
            ("load_15", "2"),
            ("cores", "2"),
            ("load_cores", "2"),
            ("user_pct", "0.5769"),
            ("nice_pct", "0.1923"),
            ("system_pct", "0.1923"),
            ("iowait_pct", "0.1923"),
            ("irq_pct", "0.0577"),
            ("softirq_pct", "0.0769"),
            ("steal_pct", "0.1346"),
            ("total_norm_pct", "0.6154"),
        ]]);
        // Nothing has happened since, and no time has passed for the kernel.
        let row = reading.row();
        assert_eq!((row["user"].as_str(), row.get("user_pct")), ("0", None));
    }

    #[test]
    fn a_cpu_has_rows_once_it_was_there_twice_and_times_that_went_back_are_none() {
        let node = node();
        let mut reading = node.start("cpu", settings(true));
        node.write(
            "proc/stat",
            "cpu 100 0 50 810 15 0 5 1 0 0\ncpu1 45 0 30 400 5 0 0 0\ncpu2 9 9 9 9 9 9 9\n",
        );
        let rows = reading.rows();
        let texts = |column: &str| rows.iter().map(|row| row[column].clone()).collect::<Vec<_>>();
        assert_eq!(texts("cpu"), ["all", "1"]);
        assert_eq!(
            (texts("user"), texts("iowait")),
            (vec!["0".into(), "50000000".into()], vec!["0".to_owned(); 2])
        );
        // What a kernel doesn't tell is no 0.
        assert!(rows.iter().all(|row| !row.contains_key("context_switches")), "{rows:?}");
        let of_cpu = |column: &str| rows[1].contains_key(column);
        assert!(!of_cpu("cores") && !of_cpu("user_pct") && !of_cpu("load_1") && !of_cpu("pressure_some"));
        node.write(
            "proc/stat",
            "cpu 100 0 50 810 15 0 5 1 0 0\ncpu0 0 0 0 1\ncpu1 45 0 30 400 5 0 0 0\ncpu2 9 9 10 9 9 9 9\n",
        );
        let rows = reading.rows();
        let cpus: Vec<_> = rows.iter().map(|row| (row["cpu"].as_str(), row["system"].as_str())).collect();
        assert_eq!(cpus, [("all", "0"), ("1", "0"), ("2", "10000000")]);
    }

    #[test]
    fn a_file_that_can_t_be_read_is_named_and_the_next_row_sums_up_both_intervals() {
        let node = node();
        let mut reading = node.start("cpu", settings(false));
        let began = Instant::now();
        for (text, why) in [("", "it is not what Linux writes there"), ("cpu x\n", "not what Linux writes")] {
            node.write("proc/stat", text);
            let message = reading.failure();
            assert!(message.contains("/proc/stat: ") && message.contains(why), "{message}");
        }
        node.write("proc/stat", "cpu 101 0 50 800 20 0 5 1 0 0\n");
        let least = began.elapsed().as_nanos() as u64;
        let row = reading.row();
        assert_eq!(row["user"], "10000000");
        assert!(row["interval"].parse::<u64>().unwrap() >= least, "{row:?}, {least}");
    }

    #[test]
    fn without_its_file_it_does_not_start_and_says_so_beforehand() {
        let node = Node::new();
        let message = node.refusal("cpu", settings(false));
        assert!(message.contains("proc/stat: No such file or directory"), "{message}");
    }
}
