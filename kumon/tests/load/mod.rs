//! A load that gives every collector something to see.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A disk and a container, both made up, and what runs on them.
pub(crate) struct Load {
    folder: TempDir,
    device: String,
    /// The container's, in the hierarchies of both versions that this node has.
    cgroups: Vec<PathBuf>,
}

/// The network's part, in the container, with the node's own interfaces.
const NETWORK: &str = r#"
import socket, struct

# Network: sessions that end well, that are reset, and one that is refused.
listener = socket.create_server(("127.0.0.1", 0))
for reset in (False, False, True):
    client = socket.create_connection(listener.getsockname())
    server, _ = listener.accept()
    client.sendall(b"question")
    server.recv(100)
    server.sendall(b"answer")
    client.recv(100)
    if reset:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    server.close()
port = listener.getsockname()[1]
listener.close()
try:
    socket.create_connection(("127.0.0.1", port))
except ConnectionRefusedError:
    pass

# Packets that the container doesn't take in time.
slow = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
slow.bind(("127.0.0.1", 0))
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(100):
    sender.sendto(bytes(1000), slow.getsockname())
"#;

/// What else happens in a round, within the container and a network of its own.
const ROUND: &str = r#"
import os, signal, subprocess, sys, time
folder, device = sys.argv[1:]

# CPU: more who want to run than there are CPUs.
spinners = [subprocess.Popen(["sh", "-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"])
            for _ in range(2 * os.cpu_count())]

# Disk: direct reads and writes of several sizes.
for size, count in (("4k", 50), ("64k", 20), ("1M", 5)):
    run = ["status=none", "bs=" + size, "count=%d" % count]
    subprocess.run(["dd", "if=/dev/zero", "of=" + device, "oflag=direct"] + run, check=True)
    subprocess.run(["dd", "if=" + device, "of=/dev/null", "iflag=direct"] + run, check=True)

# Processes: good ends and bad ones, a signal, a start that fails.
for command in ("true", "false", "kill -9 $$"):
    subprocess.run(["sh", "-c", command])
try:
    subprocess.run([folder + "/no-such-program"])
except FileNotFoundError:
    pass

# Files: more short-lived ones at a time than are followed, a rename, an empty folder.
names = [os.path.join(folder, "file-%d" % number) for number in range(100)]
for name in names:
    open(name, "w").close()
for name in names[1:]:
    os.unlink(name)
os.rename(names[0], names[1])
os.unlink(names[1])
os.mkdir(names[0])
os.rmdir(names[0])
for spinner in spinners:
    spinner.wait()
"#;

impl Load {
    /// None where there are no loop devices or no cgroup v2.
    pub(crate) fn new() -> Option<Load> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let of_v1 = [",cpu", ",cpuacct", ",memory", ",blkio", ",pids"];
        let is_asked =
            |line: &&str| line.contains(" - cgroup2 ") || of_v1.iter().any(|of| line.ends_with(of));
        let mounts: Vec<&str> =
            mounts.lines().filter(is_asked).filter_map(|line| line.split(' ').nth(4)).collect();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("disk");
        std::fs::File::create(&file).unwrap().set_len(64 << 20).unwrap();
        let made = Command::new("losetup").args(["--find", "--show"]).arg(file).output().ok()?;
        let device = String::from_utf8(made.stdout).ok().filter(|_| made.status.success())?;
        // As systemd and container runtimes name their cgroups: a container in a service.
        let pid = std::process::id();
        let cgroup = format!("kumon-test-{pid}.service/docker-{pid:064x}.scope");
        let folders = mounts.iter().map(|mount| PathBuf::from(mount).join(&cgroup));
        let cgroups: Vec<PathBuf> =
            folders.filter(|folder| std::fs::create_dir_all(folder).is_ok()).collect();
        if cgroups.is_empty() {
            return None;
        }
        Some(Load { folder, device: device.trim().to_owned(), cgroups })
    }

    /// Some seconds of everything.
    pub(crate) fn round(&self) {
        let mut shell = Command::new("sh");
        let enter =
            self.cgroups.iter().map(|cgroup| format!("echo $$ >{}/cgroup.procs && ", cgroup.display()));
        let run = "python3 -c \"$1\" && shift && \
                   exec unshare --net sh -c 'ip link set lo up && exec python3 -c \"$@\"' sh \"$@\"";
        shell.args(["-c", &(enter.collect::<String>() + run), "sh"]);
        shell.arg(NETWORK).arg(ROUND).arg(self.folder.path()).arg(&self.device).stdin(Stdio::null());
        let ended = shell.status().unwrap();
        assert!(ended.success(), "the load ended with {ended}");
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.device]).status();
        for cgroup in &self.cgroups {
            let _ = std::fs::remove_dir(cgroup);
            let _ = cgroup.parent().map(std::fs::remove_dir);
        }
    }
}
