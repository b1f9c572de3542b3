//! Waits for a CPU against the kernel's own account of them, /proc/PID/task/TID/schedstat.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use common::{Collected, Collecting, with_budget};
use kumon_bpf::Settings;
use kumon_testing::{require_bpf, time_scale};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// What the kernel accounted to a thread: how long it waited (ns), how often it was switched in after a wait.
#[derive(Debug, Clone, Copy, Default)]
struct Account {
    waited: i64,
    waits: i64,
}

/// How long the load runs: some seconds, or as long as `SCHEDSTAT_SECONDS` says.
fn duration() -> Duration {
    let seconds = std::env::var("SCHEDSTAT_SECONDS").ok().map(|seconds| seconds.parse().unwrap());
    Duration::from_secs(seconds.unwrap_or(5))
}

/// Waits from here on are told one by one: all of them, unless there are too many in the time.
fn threshold() -> Duration {
    if duration() > Duration::from_secs(30) { Duration::from_millis(1) } else { Duration::from_nanos(1) }
}

/// A process of 200 threads: this program, running the test `load`.
struct Load {
    process: std::process::Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Load {
    /// Starts it; its threads come with [`Load::run`].
    fn start(busy: bool) -> Load {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--ignored", "--exact", "--nocapture", "load"]);
        command.env("KUMON_TEST_BUSY", if busy { "1" } else { "0" });
        command.env("KUMON_TEST_SECONDS", duration().as_secs().to_string());
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Load { process, lines }
    }

    fn hear(&mut self, words: &str) {
        let mut lines = self.lines.by_ref().map(Result::unwrap);
        lines.find(|line| line.contains(words)).unwrap();
    }

    /// Lets it run, and returns the accounts of its threads, all of which sleep for good then.
    fn run(&mut self) -> BTreeMap<i64, Account> {
        self.process.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
        let mut accounts = BTreeMap::new();
        for line in self.lines.by_ref().map(Result::unwrap).take_while(|line| line != "end") {
            let numbers: Vec<i64> = line.split(' ').map_while(|number| number.parse().ok()).collect();
            if let [tid, waited, waits] = numbers[..] {
                accounts.insert(tid, Account { waited, waits });
            }
        }
        accounts
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What the threads do until the end; `number` makes each of them a little different.
fn sleep_and_work(number: usize, pause: Duration, until: Instant) {
    while Instant::now() < until {
        std::thread::sleep(pause);
        spin(Duration::from_micros(20 * (number as u64 % 10)));
    }
}

fn spin(time: Duration) {
    let begin = Instant::now();
    while begin.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// Hands a lock's turn on, to whoever comes next in the ring.
fn pass_on(turns: &Receiver<()>, next: &Sender<()>, until: Instant) {
    while Instant::now() < until {
        if turns.recv_timeout(Duration::from_millis(100)).is_ok() {
            spin(Duration::from_micros(50));
            let _ = next.send(());
        }
    }
}

/// The calling thread keeps to one of the CPUs.
fn pin(number: usize) {
    let all = sched_getaffinity(None).unwrap();
    let cpus: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| all.is_set(*cpu)).collect();
    let mut one = CpuSet::new();
    one.set(cpus[number % cpus.len()]);
    sched_setaffinity(None, &one).unwrap();
}

fn work(number: usize, busy: bool, ring: (Receiver<()>, Sender<()>), until: Instant) {
    let (turns, next) = ring;
    match number {
        0..6 if busy => {
            if number % 2 == 1 {
                rustix::process::nice(10).unwrap();
            }
            spin(until.saturating_duration_since(Instant::now()));
        }
        0..40 => pass_on(&turns, &next, until),
        40..60 => {
            pin(number);
            sleep_and_work(number, Duration::from_millis(3), until);
        }
        60..80 => {
            rustix::process::nice(1 + number as i32 % 19).unwrap();
            sleep_and_work(number, Duration::from_millis(5), until);
        }
        80..90 => {
            while Instant::now() < until {
                spin(Duration::from_micros(200));
                std::thread::yield_now();
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        // Long sleeps are what a wait must not be taken for.
        90..110 => sleep_and_work(number, Duration::from_millis(900), until),
        _ => sleep_and_work(number, Duration::from_millis(5 + number as u64 % 50), until),
    }
}

#[test]
#[ignore = "a process that another test starts"]
fn load() {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let (Some(busy), Some(seconds)) = (number("KUMON_TEST_BUSY"), number("KUMON_TEST_SECONDS")) else {
        return;
    };
    println!("\nready");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    let until = Instant::now() + Duration::from_secs(seconds);
    let (mut senders, mut receivers): (Vec<_>, Vec<_>) = (0..200).map(|_| channel()).unzip();
    // Four turns are under way in the ring of those that pass a lock on.
    (6..40).step_by(10).for_each(|number| senders[number].send(()).unwrap());
    senders[6..40].rotate_left(1);
    let (done, ends) = channel();
    for (number, ring) in receivers.drain(..).zip(senders).enumerate() {
        let done = done.clone();
        std::thread::spawn(move || {
            work(number, busy == 1, ring, until);
            done.send(rustix::thread::gettid().as_raw_nonzero()).unwrap();
            // What it waits from here on is in nobody's account.
            loop {
                std::thread::park();
            }
        });
    }
    let tids: Vec<_> = ends.iter().take(200).collect();
    let state = |tid| std::fs::read_to_string(format!("/proc/self/task/{tid}/stat")).unwrap();
    for tid in &tids {
        while !state(tid).contains(") S ") {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    for tid in &tids {
        let account = std::fs::read_to_string(format!("/proc/self/task/{tid}/schedstat")).unwrap();
        let numbers: Vec<&str> = account.split_whitespace().collect();
        println!("{tid} {} {}", numbers[1], numbers[2]);
    }
    println!("end");
    // Until the other end is closed.
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

/// Runs the load while each of its waits is told.
fn collect(busy: bool) -> (BTreeMap<i64, Account>, Collected) {
    let mut load = Load::start(busy);
    load.hear("ready");
    let mut settings = with_budget(Settings { ring_buffer_bytes: 16 << 20, ..Settings::default() }, 0);
    let of_load: kumon_collect::Filter =
        serde_json::from_str(&format!(r#"{{"pid": [{}]}}"#, load.process.id())).unwrap();
    settings.sched.runqslower.threshold = threshold();
    settings.sched.runqslower.filter = of_load.clone();
    settings.sched.runqlat.filter = of_load;
    settings.sched.cputime.enabled = false;
    let collecting = Collecting::start("sched", settings);
    let accounts = load.run();
    (accounts, collecting.stop())
}

fn compare(busy: bool) {
    let (accounts, collected) = collect(busy);
    assert_eq!(accounts.len(), 200);
    let mut told: BTreeMap<i64, Account> = BTreeMap::new();
    for row in collected.rows("runqslower") {
        let of = told.entry(row.number("tid")).or_default();
        of.waited += row.number("wait");
        of.waits += 1;
    }
    // No thread waited longer than the kernel says: none of its sleeps is told. A wait without length is told as 1 ns.
    for (tid, account) in &accounts {
        let of = told.get(tid).copied().unwrap_or_default();
        assert!(of.waited <= account.waited + of.waits, "{tid}: told {of:?}, accounted {account:?}");
        assert!(of.waits <= account.waits, "{tid}: told {of:?}, accounted {account:?}");
    }
    let waited: i64 = accounts.values().map(|account| account.waited).sum();
    let waits: i64 = accounts.values().map(|account| account.waits).sum();
    let of_threads: i64 = accounts.keys().filter_map(|tid| told.get(tid)).map(|of| of.waited).sum();
    eprintln!("accounted {waited} ns in {waits} waits, told {of_threads} ns, {:?}", collected.losses);
    let all_told = threshold() == Duration::from_nanos(1);
    assert!(!all_told || of_threads * 100 >= waited * 99, "{of_threads} of {waited} ns told");

    let rows = collected.rows("runqlat");
    let sum = |columns: [&str; 2]| -> i64 {
        rows.iter().map(|row| row.number(columns[0]) + row.number(columns[1])).sum()
    };
    // The main thread is in it too.
    let main = told.iter().filter(|(tid, _)| !accounts.contains_key(tid)).map(|(_, of)| *of);
    let (main_waited, main_waits) = main.fold((0, 0), |sum, of| (sum.0 + of.waited, sum.1 + of.waits));
    let summed = sum(["sum", "throttled_sum"]) - main_waited;
    assert!((summed - waited).abs() * 100 <= waited + 100 * waits, "{summed} of {waited} ns summed");
    let counted = sum(["count", "throttled_count"]) - main_waits;
    assert!((counted - waits).abs() * 100 <= waits, "{counted} of {waits} waits counted");
    // The longest wait of all is one of those that are told.
    let longest = rows.iter().map(|row| row.number("max")).max().unwrap();
    let told_longest = collected.rows("runqslower").iter().map(|row| row.number("wait")).max().unwrap();
    assert!(longest <= told_longest.max(waited / 100), "{longest} ns, none of {told_longest} ns told");
}

#[test]
fn waits_on_busy_cpus_are_those_of_schedstat() {
    if require_bpf() {
        compare(true);
    }
}

#[test]
fn waits_on_idle_cpus_are_those_of_schedstat() {
    if require_bpf() && time_scale() == 1 {
        compare(false);
    }
}
