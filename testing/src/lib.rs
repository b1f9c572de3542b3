//! What the tests share: requirements, waiting for conditions, child processes that never outlive their test.

mod disk;
mod elasticsearch;
mod log;
mod process;

use std::net::TcpListener;
use std::thread::sleep;
use std::time::{Duration, Instant};

pub use disk::{Hang, HangingDisk, SmallDisk};
pub use elasticsearch::{
    Elasticsearch, require_elasticsearch, require_elasticsearch_6, require_elasticsearch_8,
};
pub use log::{keep_log, logged};
pub use process::Child;

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

/// A TCP port of 127.0.0.1 that nobody listened on a moment ago.
///
/// # Panics
/// When the kernel has none.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port on 127.0.0.1");
    listener.local_addr().expect("a bound socket has an address").port()
}
