//! What the tests share: requirements, waiting for conditions, child processes that never outlive their test.

mod disk;
mod elasticsearch;
mod kql;
mod log;
mod process;

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread::sleep;
use std::time::{Duration, Instant};

pub use disk::{Hang, HangingDisk, SmallDisk};
pub use elasticsearch::{
    Elasticsearch, require_elasticsearch, require_elasticsearch_6, require_elasticsearch_8,
};
pub use kql::kql_to_elasticsearch;
pub use log::{keep_log, logged};
pub use process::Child;

/// The ports of [`free_port`]: Linux chooses from 32768 on unless told otherwise.
const FIRST_PORT: u32 = 10_000;
const PORTS: u32 = 22_000;

/// Whether a test that needs `what` can run. Under CI (`CI` is set) a missing requirement fails the test.
///
/// # Panics
/// Under CI, when `present` is false.
pub fn require(present: bool, what: &str) -> bool {
    assert!(
        present || std::env::var_os("CI").is_none(),
        "this test needs {what}; scripts/setup --tests installs it"
    );
    if !present {
        eprintln!("skipped: needs {what}; scripts/setup --tests installs it");
    }
    present
}

/// Whether the test runs as root.
pub fn require_root() -> bool {
    require(rustix::process::geteuid().is_root(), "root")
}

/// Whether the test runs as root on a kernel with BTF, which loading BPF programs takes.
pub fn require_bpf() -> bool {
    let root = rustix::process::geteuid().is_root();
    require(root && std::path::Path::new("/sys/kernel/btf/vmlinux").exists(), "root and a kernel with BTF")
}

/// Whether `program` is found in PATH.
pub fn require_program(program: &str) -> bool {
    require(found_in_path(program), program)
}

fn found_in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain(["/usr/sbin".into()]).any(|dir| dir.join(program).exists())
}

/// How much longer things may take here: 1, or what `KUMON_TEST_TIME_SCALE` says, as scripts/second-kernel sets it
/// for its emulated processor.
pub fn time_scale() -> u32 {
    std::env::var("KUMON_TEST_TIME_SCALE").ok().and_then(|scale| scale.parse().ok()).unwrap_or(1)
}

/// How many events a load is to make of those that it makes on a processor of its own: an emulated one takes
/// [`time_scale`] times as long for each.
pub fn load_size(full: usize) -> usize {
    full / time_scale() as usize
}

/// How often a test is to repeat something: `all` where its long form is asked for, as `scripts/test --all` does by
/// `KUMON_TEST_ALL`.
pub fn repetitions(usual: usize, all: usize) -> usize {
    if std::env::var_os("KUMON_TEST_ALL").is_some() { all } else { usual }
}

/// Waits until `condition` holds.
///
/// # Panics
/// After `limit` (times [`time_scale`]), naming `what`.
pub fn wait_for(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let limit = limit * time_scale();
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < limit, "waited {limit:?} in vain for {what}");
        sleep(Duration::from_millis(20));
    }
}

/// A TCP port of 127.0.0.1 that nobody listened on a moment ago. It is none that the kernel chooses by itself, for port 0
/// or an outgoing connection: nobody takes it by chance while its server is stopped.
///
/// # Panics
/// When there is none.
pub fn free_port() -> u16 {
    static TRIED: AtomicU32 = AtomicU32::new(0);
    // Test programs that run at once begin at ports of their own.
    let start = std::process::id().wrapping_mul(7919);
    let ports = (0..PORTS).map(|_| FIRST_PORT + start.wrapping_add(TRIED.fetch_add(1, Relaxed)) % PORTS);
    let mut ports = ports.filter_map(|port| u16::try_from(port).ok());
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port on 127.0.0.1")
}
