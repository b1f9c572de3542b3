//! The metrics snapshot_process and snapshot_socket beside `ps` and `ss`.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Row, number, output};
use kumon_collect::capture::Capture;
use kumon_proc::{Settings, collectors};
use kumon_testing::{Child, require_program, require_root, wait_for};

/// What stands now.
fn snapshot(metric: &'static str) -> Vec<Row> {
    let mut settings = Settings::default();
    settings.snapshot_process.enabled = true;
    settings.snapshot_socket.enabled = true;
    let mut collectors = collectors(&settings);
    collectors.retain(|collector| collector.metrics() == [metric]);
    let mut active = collectors[0].start().unwrap();
    let mut capture = Capture::new();
    capture.poll(true, |context| active.poll(context)).unwrap();
    capture.rows(metric)
}

#[test]
fn processes_are_what_ps_tells() {
    if !require_program("ps") {
        return;
    }
    // A child with a secret, which has a thread and an owner that ps knows too.
    let mut command = Command::new("sh");
    command.args(["-c", "read line", "sh", "--password=hunter2", "an argument"]);
    let child = Child::spawn(command.stdin(Stdio::piped()));
    // Each is the same at some moment: in between, threads and children come and go.
    let mut compared = BTreeSet::new();
    wait_for("each process to be as ps tells", Duration::from_secs(60), || {
        let told = output("ps", &["-eo", "pid=,ppid=,ruid=,nlwp=,s=,comm="]);
        let rows = snapshot("snapshot_process");
        let rows: BTreeMap<&str, &Row> = rows.iter().map(|row| (row["pid"].as_str(), row)).collect();
        let mut different = Vec::new();
        for line in told.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            // Those that have ended, `ps` itself among them.
            let Some(row) = rows.get(words[0]) else { continue };
            let letter = match row["state"].as_str() {
                "running" => "R",
                "sleeping" => "S",
                "uninterruptible" => "D",
                "idle" => "I",
                "zombie" => "Z",
                "stopped" => "T",
                other => other,
            };
            let ours = ["ppid", "uid", "threads"].map(|column| row[column].as_str());
            // Of a kernel thread ps has a longer name.
            let name = row["name"].split_whitespace().next().unwrap_or_default();
            if ours == words[1..4] && letter == words[4] && words[5].starts_with(name) {
                compared.insert(words[0].to_owned());
            } else if !compared.contains(words[0]) {
                different.push((line.to_owned(), (*row).clone()));
            }
        }
        if !different.is_empty() {
            println!("{different:?}");
        }
        different.is_empty() && compared.len() > 2
    });
    println!("{} processes are the same", compared.len());
    let rows = snapshot("snapshot_process");
    let row = rows.iter().find(|row| row["pid"] == child.id().to_string()).unwrap();
    assert_eq!(row["command_line"], "sh -c read line sh --password=*** an argument");
    assert_eq!(number(row, "ppid"), u64::from(std::process::id()));
    // `Mon Nov 30 15:10:44 2026`, to the second.
    let started = output("ps", &["-o", "lstart=", "-p", &child.id().to_string()]);
    let started: u64 = output("date", &["-u", "-d", started.trim(), "+%s"]).trim().parse().unwrap();
    let ours: u64 = output("date", &["-u", "-d", &row["start"], "+%s"]).trim().parse().unwrap();
    assert!(ours.abs_diff(started) <= 1, "{ours} {started}");
}

#[test]
fn sockets_are_what_ss_tells() {
    if !require_root() || !require_program("ss") {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let six = TcpListener::bind("[::1]:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut client = TcpStream::connect(address).unwrap();
    let (server, _) = listener.accept().unwrap();
    client.write_all(b"twelve bytes").unwrap();
    let _waits = TcpStream::connect(address).unwrap();

    // `tcp LISTEN 0 128 127.0.0.1:631 0.0.0.0:* users:((…,pid=7,fd=3)) uid:1000 ino:123 sk:…`
    let told = || -> BTreeMap<u64, Vec<String>> {
        let text = output("ss", &["-tunapeH"]);
        let words = text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect());
        let inode =
            |words: &Vec<String>| words.iter().find_map(|word| word.strip_prefix("ino:")?.parse().ok());
        words
            .filter_map(|words: Vec<String>| Some((inode(&words)?, words)))
            .filter(|(inode, _)| *inode > 0)
            .collect()
    };
    let before = told();
    let rows = snapshot("snapshot_socket");
    let after = told();
    let by_inode: BTreeMap<u64, &Row> =
        rows.iter().filter(|row| row.contains_key("inode")).map(|row| (number(row, "inode"), row)).collect();
    let mut compared = 0;
    for (inode, words) in before.iter().filter(|(inode, words)| after.get(inode) == Some(words)) {
        let row = by_inode.get(inode).unwrap_or_else(|| panic!("{words:?} has no row"));
        assert_eq!(
            (row["transport"].as_str(), row["state"].as_str()),
            (&*words[0], &*words[1]),
            "{row:?} {words:?}"
        );
        assert_eq!(row["receive_queue"], words[2], "{row:?} {words:?}");
        // Of those that listen ss tells how many may wait.
        assert!(row["state"] == "LISTEN" || row["send_queue"] == words[3], "{row:?} {words:?}");
        assert_eq!(Some(row["local_port"].as_str()), words[4].rsplit(':').next(), "{row:?} {words:?}");
        let remote = words[5].rsplit(':').next().unwrap().replace('*', "");
        assert_eq!(row.get("remote_port").map_or("", String::as_str), remote, "{row:?} {words:?}");
        let users = words.iter().find(|word| word.starts_with("users:"));
        let is_told = |users: &String| users.contains(&format!("pid={},", row["pid"]));
        assert_eq!(users.is_some(), row.contains_key("pid"), "{row:?} {words:?}");
        assert!(users.is_none_or(is_told), "{row:?} {words:?}");
        compared += 1;
    }
    println!("{compared} sockets are the same of {}", rows.len());
    assert!(compared >= 6, "{before:?}");

    let own =
        |of: &dyn Fn(&Row) -> bool| rows.iter().find(|row| of(row)).unwrap_or_else(|| panic!("{rows:?}"));
    let listening = own(&|row| row["local_port"] == address.port().to_string() && row["state"] == "LISTEN");
    assert_eq!((listening["local_ip"].as_str(), listening["receive_queue"].as_str()), ("127.0.0.1", "1"));
    assert_eq!(number(listening, "pid"), u64::from(std::process::id()));
    let peer = server.peer_addr().unwrap().port().to_string();
    let established = own(&|row| row.get("remote_port") == Some(&peer) && row["state"] == "ESTAB");
    assert_eq!(
        (established["remote_ip"].as_str(), established["receive_queue"].as_str()),
        ("127.0.0.1", "12")
    );
    let six = six.local_addr().unwrap().port().to_string();
    assert_eq!(own(&|row| row["local_port"] == six)["local_ip"], "::1");
    let udp = udp.local_addr().unwrap().port().to_string();
    assert_eq!(own(&|row| row["local_port"] == udp && row["transport"] == "udp")["state"], "UNCONN");
}
