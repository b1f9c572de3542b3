use std::env::temp_dir;

use kumon_collect::NamePatterns;
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use super::FilesystemSettings;
use crate::Settings;
use crate::testing::{Node, Started};

/// Writes mounts in which `ID` is what the mount with the node's files is known by.
fn mounts(node: &Node, file: &str, text: &str) {
    let of_files = statx(CWD, temp_dir(), AtFlags::empty(), StatxFlags::MNT_ID).unwrap();
    node.write(file, &text.replace("ID", &of_files.stx_mnt_id.to_string()));
}

/// A node whose first process's root can be seen, with these folders.
fn node(folders: &[&str]) -> Node {
    let node = Node::new();
    for folder in folders {
        node.write(&format!("proc/1/root/{folder}/file"), "");
    }
    node
}

/// These columns of the rows, by mount point.
fn told<const N: usize>(reading: &mut Started, columns: [&str; N]) -> Vec<[String; N]> {
    let mut rows = reading.rows();
    rows.sort_by_key(|row| row["mount_point"].clone());
    rows.iter().map(|row| columns.map(|column| row.get(column).cloned().unwrap_or_default())).collect()
}

const WHAT: [&str; 5] = ["mount_point", "device", "file_system_type", "state", "read_only"];

#[test]
fn a_file_system_has_one_row_however_often_it_is_mounted() {
    let node = node(&["home", "a", "srv/data", "srv/other-data", "tmp"]);
    mounts(
        &node,
        "proc/1/mountinfo",
        "ID 1 254:0 /home /home rw - ext4 /dev/vda rw\nID 1 254:0 / / rw - ext4 /dev/vda rw\n\
        ID 1 8:1 /folder /a rw - xfs /dev/sda1 rw\nID 1 8:1 / /srv/other-data rw - xfs /dev/sda1 rw\n\
        ID 1 8:1 / /srv/data ro - xfs /dev/sda1 rw\nID 1 0:9 / /tmp rw - tmpfs  rw\n\
        ID 1 0:50 / /proc rw - proc proc rw\nID 1 0:51 / /run/containerd/rootfs rw - tmpfs tmpfs rw\n",
    );
    let mut reading = node.start("filesystem", Settings::default());
    let expected = [
        ["/", "/dev/vda", "ext4", "ok", "false"],
        ["/srv/data", "/dev/sda1", "xfs", "ok", "true"],
        ["/tmp", "", "tmpfs", "ok", "false"],
    ];
    assert_eq!(told(&mut reading, WHAT), expected);
    let names = ["event_module", "event_dataset", "error", "turned_read_only"];
    assert_eq!(told(&mut reading, names)[0], ["system", "system.filesystem", "", "false"]);
    // Nothing is excluded but what the settings say.
    let settings = FilesystemSettings {
        exclude_types: NamePatterns::of(&["x*", "proc"]),
        exclude_mount_points: NamePatterns::of(&["/", "/run/*"]),
        ..FilesystemSettings::default()
    };
    let mut reading = node.start("filesystem", Settings { filesystem: settings, ..Settings::default() });
    assert_eq!(told(&mut reading, ["mount_point"]), [["/home"], ["/tmp"]]);
}

#[test]
fn file_systems_come_and_go_and_lie_over_one_another() {
    let node = node(&["data", "longer/data"]);
    // The first two are below others.
    mounts(
        &node,
        "proc/1/mountinfo",
        "9999999999 1 8:1 / /data rw - ext4 /dev/sda1 rw\n9999999999 1 8:2 / /data rw - ext4 /dev/sda2 rw\n\
        ID 1 8:2 / /longer/data rw - ext4 /dev/sda2 rw\nID 1 8:3 / /data rw - ext4 /dev/sda3 ro\n\
        ID 1 8:4 / /nowhere rw - ext4 /dev/sda4 rw\n",
    );
    let mut reading = node.start("filesystem", Settings::default());
    let columns = ["device", "mount_point", "read_only", "turned_read_only"];
    let expected = [["/dev/sda3", "/data", "true", "true"], ["/dev/sda2", "/longer/data", "false", "false"]];
    assert_eq!(told(&mut reading, columns), expected);
    mounts(&node, "proc/1/mountinfo", "ID 1 8:5 / /data rw - ext4 /dev/sda5 rw\n");
    assert_eq!(told(&mut reading, columns), [["/dev/sda5", "/data", "false", "false"]]);
    node.write("proc/1/mountinfo", "what is this\n");
    assert!(reading.failure().contains("/proc/1/mountinfo: it is not what Linux writes there"));
}

#[test]
fn the_node_s_file_systems_are_asked_where_kumon_sees_them() {
    // There is no /proc/1/root.
    let node = Node::new();
    mounts(
        &node,
        "proc/1/mountinfo",
        "5 1 8:1 / /data rw - ext4 /dev/sda1 rw\n6 1 8:2 / /home rw - ext4 /dev/sda2 rw\n\
        7 1 8:3 / /srv rw - ext4 /dev/sda3 rw\n",
    );
    mounts(
        &node,
        "proc/self/mountinfo",
        "ID 1 8:1 / /elsewhere ro - ext4 /dev/sda1 rw\n9999999999 1 8:2 / /home ro - ext4 /dev/sda2 rw\n\
        ID 1 0:7 / /own rw - tmpfs tmpfs rw\n",
    );
    for folder in ["elsewhere", "home", "own"] {
        node.write(&format!("{folder}/file"), "");
    }
    let mut reading = node.start("filesystem", Settings::default());
    let why = "KuMon's service can't see it";
    let expected = [
        ["/data", "ok", "false", ""],
        ["/home", "unreadable", "false", why],
        ["/srv", "unreadable", "false", why],
    ];
    assert_eq!(told(&mut reading, ["mount_point", "state", "read_only", "error"]), expected);
    assert!(reading.rows().iter().all(|row| row.contains_key("total") == (row["state"] == "ok")));
}

#[test]
fn where_the_first_process_is_hidden_kumon_s_own_file_systems_have_rows() {
    let node = Node::new();
    let message = node.refusal("filesystem", Settings::default());
    assert!(message.contains("/proc/self/mountinfo: No such file"), "{message}");
    mounts(&node, "proc/self/mountinfo", "ID 1 8:1 / /proc-less rw - ext4 /dev/sda1 rw\n");
    node.write("proc-less/file", "");
    let mut reading = node.start("filesystem", Settings::default());
    assert_eq!(told(&mut reading, ["mount_point", "state"]), [["/proc-less", "ok"]]);
}
