//! What each kind of hooks for files costs, as a ratio in one run; a measurement, to be run by hand:
//! `cargo test -p kumon-bpf --test file_costs -- --ignored --nocapture`, or its program by scripts/second-kernel.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::process::Command;
use std::time::Duration;

use common::{Collecting, file_settings, with_budget};

/// Creates and deletes a file again and again, and prints the ns of CPU time that each one took in the quickest of ten
/// rounds: what others do at the same time is not in it.
const LOAD: &str = "
import os, time
def round(n):
    begin = time.process_time_ns()
    for _ in range(n):
        os.close(os.open('kumon-cost', os.O_CREAT | os.O_WRONLY))
        os.unlink('kumon-cost')
    return (time.process_time_ns() - begin) // n
print(min(round(200) for _ in range(10)))
";

fn load() -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let mut python = Command::new("/usr/bin/python3");
    let output = python.args(["-c", LOAD]).current_dir(folder.path()).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

#[test]
#[ignore = "a measurement, not a check"]
fn creating_and_deleting_a_file_by_each_kind_of_hooks() {
    // What is left out would cost less.
    let kinds: Vec<_> = file_settings().into_iter().map(|settings| with_budget(settings, 0)).collect();
    let (mut bare, mut with) = (u64::MAX, vec![u64::MAX; kinds.len()]);
    // By turns, so that what else the machine does meets all of them.
    for _ in 0..3 {
        bare = bare.min(load());
        for (settings, least) in kinds.iter().zip(&mut with) {
            let collecting = Collecting::start_polling("file", settings.clone(), Duration::from_secs(1));
            *least = (*least).min(load());
            collecting.stop();
        }
    }
    println!("without: {bare} ns");
    for (settings, with) in kinds.iter().zip(with) {
        println!("{:?}: {with} ns, x{:.2}", settings.file.file_hooks, with as f64 / bare as f64);
    }
}
