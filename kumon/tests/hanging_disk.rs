//! A disk that hangs under the spool and the state folder: rows wait in memory, and the kernel's buffers are emptied all
//! the same.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::{Node, PATIENCE, rows};
use kumon_testing::{require_bpf, require_program, wait_for};
use rustix::process::Signal;

/// A file system in a file, mounted. While it is frozen whoever writes to it waits, as for a disk that doesn't answer.
struct Freezer(PathBuf);

impl Freezer {
    fn mount(node: &Node) -> Freezer {
        let (image, folder) = (node.path("image"), node.path("disk"));
        File::create(&image).unwrap().set_len(64 << 20).unwrap();
        std::fs::create_dir(&folder).unwrap();
        run("mkfs.ext4", &["-q".as_ref(), &image]);
        run("mount", &["-o".as_ref(), "loop".as_ref(), &image, &folder]);
        Freezer(folder)
    }

    fn freeze(&self) {
        run("fsfreeze", &["-f".as_ref(), &self.0]);
    }

    fn thaw(&self) {
        run("fsfreeze", &["-u".as_ref(), &self.0]);
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        // Frozen only where the test failed; nobody could be killed who waits for it.
        let _ = Command::new("fsfreeze").arg("-u").arg(&self.0).output();
        let _ = Command::new("umount").args(["--lazy".as_ref(), self.0.as_os_str()]).status();
    }
}

fn run(program: &str, arguments: &[&Path]) {
    let status = Command::new(program).args(arguments).status().unwrap();
    assert!(status.success(), "{program} {arguments:?}");
}

#[test]
fn while_the_disk_hangs_nothing_is_lost_in_the_kernel_and_all_is_written_afterwards() {
    if !require_bpf() || !require_program("fsfreeze") || !require_program("mkfs.ext4") {
        return;
    }
    let node = Node::new("");
    let disk = Freezer::mount(&node);
    let (spool, state) = (disk.0.join("spool"), disk.0.join("state"));
    // The ring buffer has room for far fewer events than come, and other processes' take none of it.
    node.write_configuration(&format!(
        "path: {{ spool: {}, state: {} }}\nweb: {{ enabled: false }}\n\
         collectors: {{ ring_buffer_bytes: 64KiB, exec: {{ filter: {{ comm: [first, frozen] }} }}, exit: {{ enabled: false }} }}\n",
        spool.display(),
        state.display()
    ));
    let agent = node.start(&["collect"]);
    let count = |name: &str| {
        let files = common::files(&spool.join("exec"), "csv");
        rows(&files).iter().filter(|row| row["name"] == name).count()
    };
    wait_for("a row", PATIENCE, || {
        node.mark("first", 1);
        count("first") > 0
    });

    disk.freeze();
    let more = 1000;
    (0..more / 100).for_each(|_| {
        node.mark("frozen", 100);
        // The ring buffer is emptied in between.
        std::thread::sleep(Duration::from_millis(300));
    });
    agent.wait_for_log(&["writing to the spool or to the state folder hangs"]);
    disk.thaw();
    agent.wait_for_log(&["writing to the spool and to the state folder goes on"]);
    agent.stop(Signal::TERM, PATIENCE).expect(0, &[]);
    let lost = |row: &HashMap<String, String>| row["name"] == "exec" && !row["rows_lost"].is_empty();
    let losses: Vec<_> = rows(&common::files(&spool.join("agent"), "csv")).into_iter().filter(lost).collect();
    assert_eq!((count("frozen"), losses), (more, Vec::new()));
}
