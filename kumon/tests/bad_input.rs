//! What goes wrong for an operator: each mistake and fault gets a message that says what, where and what to do, the
//! exit code that fits, and costs no row.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Node, PATIENCE};
use kumon_testing::{SmallDisk, require_bpf, require_root, wait_for};
use serde_json::Value;

/// Waits for the marks' rows; more than `count` are too many.
fn assert_found(node: &Node, name: &str, count: usize) {
    wait_for(&format!("{count} rows of {name}"), PATIENCE, || found(node, name) >= count);
    assert_eq!(found(node, name), count, "{name}");
}

fn found(node: &Node, name: &str) -> usize {
    node.rows("exec", &format!("process.name:{name}")).len()
}

#[test]
fn mistakes_in_the_configuration_are_named_with_their_place() {
    let node = Node::new("");
    let schema = node.path("schema.json");
    fs::write(&schema, "{\"fields\": [{\"name\": \"a\", \"type\": \"geopoint\"}]}").unwrap();
    let input = |more: &str| format!("inputs: [{{ paths: [\"/x/*\"], format: csv, dataset: a, {more} }}]\n");
    for (text, parts) in [
        ("path: [\n".to_owned(), ["line 1 column 7", "expected mapping"].as_slice()),
        ("path:\n  spool: /a\n spool: {}\n".into(), &["line 3"]),
        ("collectors:\n  exek: {}\n".into(), &["line 2 column 3", "unknown field `exek`", "exec"]),
        ("collectors:\n  exec: { enabled: perhaps }\n".into(), &["line 2 column 20", "bool"]),
        ("collectors:\n  runqlat: { interval: 10 }\n".into(), &["line 2 column 24", "'10'", "10s or 500ms"]),
        ("spool:\n  max_bytes: lots\n".into(), &["line 2", "16MiB"]),
        ("path: {}\npath: {}\n".into(), &["line 2 column 1", "path"]),
        ("path: { spool: here }\n".into(), &["path.spool", "'here' must be absolute"]),
        ("namespace: Prod-1\n".into(), &["line 1", "'Prod-1'", "lower-case"]),
        (input("").replace("/x/", "/x/["), &["dataset 'a'", "'/x/[*' is no pattern"]),
        (input("").replace("/x/", "x/"), &["dataset 'a'", "'x/*' must be absolute"]),
        (input("schema: /no/such.json"), &["dataset 'a'", "/no/such.json", "No such file"]),
        (input(&format!("schema: {}", schema.display())), &["schema.json", "geopoint"]),
        (input("time_zone: Mars/Olympus"), &["dataset 'a'", "time_zone: 'Mars/Olympus'", "Europe/Berlin"]),
        (input("encoding: utf-7"), &["dataset 'a'", "encoding: 'utf-7'", "utf-16le"]),
        (input("timestamp_format: '%H:%M'"), &["dataset 'a'", "timestamp_format: '%H:%M'", "%d/%b/%Y"]),
        ("output: { elasticsearch: { hosts: [] } }\n".into(), &["output.elasticsearch", "hosts"]),
        (
            "output: { elasticsearch: { hosts: [\"http://a\"], username: b } }\n".into(),
            &["output.elasticsearch", "password_file"],
        ),
    ] {
        node.write_configuration(&text);
        let config = node.config();
        for command in [["check"].as_slice(), &["run"], &["query", "exec"], &["status"]] {
            let ended = node.run(command);
            ended.expect(2, parts);
            assert_eq!(ended.stderr.lines().count(), 1, "one mistake, one line: {}", ended.stderr);
        }
        let named = node.run(&["check"]).stderr;
        let has_a_place = parts[0].starts_with("line");
        assert!(!has_a_place || named.contains(&config.display().to_string()), "{named}");
    }
    fs::write(node.config(), b"\xff\xfe\0").unwrap();
    node.run(&["check"]).expect(2, &["kumon.yml", "UTF-8"]);
    fs::remove_file(node.config()).unwrap();
    node.run(&["run"]).expect(2, &["kumon.yml", "No such file"]);
}

#[test]
fn variables_that_are_not_for_kumon_or_no_text_stop_nothing_without_a_name() {
    let node = Node::new("");
    let run = |name: &[u8], value: &[u8]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kumon"));
        command
            .env(OsStr::from_bytes(name), OsStr::from_bytes(value))
            .arg("--config")
            .arg(node.config())
            .arg("status");
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    // Of others, not UTF-8; and of Kubernetes, for a Service that is called kumon. Nothing runs, which is 1.
    for (name, value) in [
        (b"LEGACY_PATH".as_slice(), b"/caf\xe9".as_slice()),
        (b"CAF\xe9", b"1"),
        (b"KUMON_SERVICE_HOST", b"10.0.0.1"),
        (b"KUMON_PORT", b"tcp://10.0.0.1:5680"),
        (b"KUMON_PORT_5680_TCP_ADDR", b"10.0.0.1"),
    ] {
        assert_eq!(run(name, value), (Some(1), String::new()), "{}", name.escape_ascii());
    }
    let (code, message) = run(b"KUMON_PATH__SPOOL", b"/caf\xe9");
    assert!(code == Some(2) && message.contains("KUMON_PATH__SPOOL: is not UTF-8"), "{message}");
    let (code, message) = run(b"KUMON_PATHS__SPOOL", b"/a");
    assert!(
        code == Some(2) && message.contains("KUMON_PATHS__SPOOL") && message.contains("paths"),
        "{message}"
    );
}

#[test]
fn names_of_others_reach_no_terminal_as_they_are() {
    let (node, folder) = with_inputs("");
    fs::write(folder.join("a\x1b[31m\nshipping: all is well\u{202e}.csv"), b"a\x80,b\n1,2\n").unwrap();
    let agent = node.start_agent(&["ship"]);
    wait_for("the file's trouble", PATIENCE, || node.run(&["status"]).stdout.contains("is not shipped"));
    let status = node.run(&["status"]).stdout;
    assert!(status.contains(r"a\u{1b}[31m\nshipping: all is well\u{202e}.csv"), "{status}");
    assert!(!status.contains(['\x1b', '\u{202e}']), "{status}");
    agent.terminate().expect(0, &[]);
}

#[test]
fn an_output_that_cannot_be_used_is_a_wrong_configuration() {
    let node = Node::new("");
    let missing = node.path("password").display().to_string();
    for (output, parts) in [
        ("hosts: ['es1:9200']".to_owned(), ["'es1:9200'", "https://"].as_slice()),
        (
            format!("hosts: ['http://es1'], username: a, password_file: {missing}"),
            &[&missing, "No such file"],
        ),
        (format!("hosts: ['http://es1'], ca_file: {missing}"), &["ca_file", &missing]),
    ] {
        node.configure(&format!("output: {{ elasticsearch: {{ {output} }} }}\n"));
        node.run(&["ship"]).expect(2, parts);
    }
}

/// A node with two inputs in one folder.
fn with_inputs(more: &str) -> (Node, PathBuf) {
    let node = Node::new("");
    let folder = node.path("inputs");
    fs::create_dir(&folder).unwrap();
    let inputs = |folder: &Path| {
        format!(
            "inputs:\n  - {{ paths: [\"{0}/*.ndjson\"], format: ndjson, dataset: app }}\n  \
             - {{ paths: [\"{0}/*.csv\"], format: csv, dataset: export{more} }}\n",
            folder.display()
        )
    };
    node.configure(&inputs(&folder));
    (node, folder)
}

fn text<'a>(letter: &'a Value, key: &str) -> &'a str {
    letter[key].as_str().unwrap()
}

/// The dead letters, oldest first.
fn dead_letters(node: &Node) -> Vec<Value> {
    let files = common::files(&node.state().join("ship/dead-letters"), "ndjson");
    let text: String = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn garbage_in_an_input_goes_to_the_dead_letters_and_the_rest_ships() {
    let (node, folder) = with_inputs("");
    let lines = [&b"{\"n\":1}"[..], b"\x00\xff\xfe garbage \x80", b"{\"n\":", b"[1,2]", b"{\"n\":2}", b""];
    fs::write(folder.join("a.ndjson"), lines.join(&b'\n')).unwrap();
    let records = [&b"name,size"[..], b"a,1", b"\xff\xfe\x00,2", b"too,many,columns", b"b,3", b""];
    fs::write(folder.join("b.csv"), records.join(&b'\n')).unwrap();
    let noise: Vec<u8> = (0..100_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(folder.join("c.ndjson"), [&noise[..], b"\n{\"n\":3}\n"].concat()).unwrap();

    node.run(&["ship", "--duration", "2s"]).expect(0, &["to the dead letters in", "dead-letters"]);
    let numbers: Vec<_> = node.rows("app", "").iter().map(|row| row["n"].as_u64().unwrap()).collect();
    assert_eq!((numbers.len(), numbers.iter().sum::<u64>()), (3, 6), "{numbers:?}");
    let names = node.rows("export", "");
    assert!(["a", "b"].iter().all(|name| names.iter().any(|row| row["name"] == *name)), "{names:?}");

    let letters = dead_letters(&node);
    for (file, line) in [
        // The NUL before it is a hole.
        ("a.ndjson", r"\xff\xfe garbage \x80"),
        ("a.ndjson", "{\"n\":"),
        ("a.ndjson", "[1,2]"),
        ("b.csv", "too,many,columns"),
    ] {
        let fits = |letter: &&Value| {
            text(letter, "file").ends_with(file) && text(letter, "document").trim_end() == line
        };
        let letter = letters.iter().find(fits).unwrap_or_else(|| panic!("no letter on {line} of {file}"));
        assert!(!text(letter, "reason").is_empty(), "{letter}");
        let place = letter["offset"].as_u64().unwrap() as usize;
        let bytes = fs::read(folder.join(file)).unwrap();
        assert!(bytes[place..].starts_with(&kumon_schema::unescape(line)), "{letter}");
    }
    let of_noise = letters.iter().filter(|letter| text(letter, "file").ends_with("c.ndjson"));
    assert!(of_noise.count() > 0);
}

#[test]
fn rows_that_do_not_match_their_schema_go_to_the_dead_letters() {
    let (node, folder) = with_inputs("");
    let schema = node.path("export.json");
    fs::write(&schema, r#"{"fields":[{"name":"name","type":"string"},{"name":"size","type":"integer"}]}"#)
        .unwrap();
    let config = fs::read_to_string(node.config()).unwrap();
    let with_schema = format!("dataset: export, schema: {}", schema.display());
    node.write_configuration(&config.replace("dataset: export", &with_schema));
    fs::write(folder.join("a.csv"), "name,size\na,1\nb,big\nc,3\n").unwrap();
    fs::write(folder.join("other.csv"), "size,colour\n1,red\n").unwrap();

    let agent = node.start_agent(&["ship"]);
    wait_for("the rows that fit", PATIENCE, || node.rows("export", "size:[1 TO 3]").len() >= 2);
    wait_for("the row that doesn't", PATIENCE, || {
        let letters = dead_letters(&node);
        letters
            .iter()
            .any(|letter| text(letter, "document") == "b,big\n" && text(letter, "reason").contains("big"))
    });
    // A header that isn't the schema's.
    let told = || {
        let status = node.run(&["status"]).stdout;
        status.contains("other.csv")
            || dead_letters(&node).iter().any(|letter| text(letter, "document") == "1,red\n")
    };
    wait_for("the file that doesn't fit to be told", PATIENCE, told);
    agent.terminate().expect(0, &["other.csv"]);
}

/// Gives a test's folder to everybody.
fn open_to_all(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
}

#[test]
fn an_unreadable_input_is_named_and_the_others_ship() {
    if !require_root() {
        return;
    }
    let (node, folder) = with_inputs("");
    open_to_all(&node.path(""));
    fs::write(folder.join("secret.ndjson"), "{\"n\":1}\n").unwrap();
    fs::set_permissions(folder.join("secret.ndjson"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(folder.join("open.ndjson"), "{\"n\":2}\n").unwrap();

    let agent = node.spawn(&mut common::as_nobody(&node, &["ship"]));
    agent.wait_for_log(&["secret.ndjson", "Permission denied"]);
    wait_for("the other file's row", PATIENCE, || {
        node.state().join("ship/query.sock").exists() && node.rows("app", "n:2").len() == 1
    });
    node.wait_for_status(1, &["secret.ndjson", "Permission denied"]);
    fs::set_permissions(folder.join("secret.ndjson"), fs::Permissions::from_mode(0o644)).unwrap();
    wait_for("the row that could not be read", PATIENCE, || node.rows("app", "n:1").len() == 1);
    agent.terminate().expect(0, &[]);
}

#[test]
fn without_privileges_the_agent_says_what_it_lacks() {
    if !require_bpf() {
        return;
    }
    let node = Node::new("");
    open_to_all(&node.path(""));
    let run = |arguments: &[&str]| node.spawn(&mut common::as_nobody(&node, arguments)).wait();
    run(&["collect"]).expect(1, &["no collector could be started", "kumon check", "CAP_BPF"]);
    run(&["run"]).expect(1, &["no collector could be started", "CAP_BPF"]);
    let check = run(&["check"]);
    assert!(check.code == Some(1) && check.stdout.contains("CAP_BPF missing"), "{check:?}");

    // What is read from /proc takes none.
    let of_kernel = [
        "exec",
        "exit",
        "runqlat",
        "runqslower",
        "cputime",
        "biolatency",
        "bitesize",
        "tcplife",
        "drop",
        "tcpdrop",
        "dbslower",
        "filelife",
        "filegone",
    ];
    let off = of_kernel.map(|metric| format!("  {metric}: {{ enabled: false }}\n"));
    let of_proc = Node::new(&format!("collectors:\n{}", off.concat()));
    open_to_all(&of_proc.path(""));
    let run = |arguments: &[&str]| of_proc.spawn(&mut common::as_nobody(&of_proc, arguments)).wait();
    let check = run(&["check"]);
    assert!(check.code == Some(0) && check.stdout.contains("/proc/stat"), "{check:?}");
    run(&["run", "--duration", "2s"]).expect(0, &["cpu: ", "memory: ", "netdev: ", "netstat: "]);

    // Folders of somebody else.
    let closed = Node::new("");
    fs::set_permissions(closed.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let ship = closed.spawn(&mut common::as_nobody(&closed, &["ship"])).wait();
    ship.expect(1, &[&closed.state().display().to_string(), "Permission denied"]);
    assert_eq!(ship.stderr.matches("Permission denied").count(), 1, "said once: {}", ship.stderr);
}

#[test]
fn check_says_what_database_servers_take_beyond_the_capabilities_of_the_services() {
    if !require_bpf() {
        return;
    }
    let node = Node::new("");
    open_to_all(&node.path(""));
    let servers = |capabilities: &str| {
        let check = node.spawn(&mut common::as_nobody_with(&node, capabilities, &["check", "--json"])).wait();
        let found: serde_json::Value = serde_json::from_str(&check.stdout).unwrap();
        let hooks = found["hooks"].as_array().unwrap();
        assert!(hooks.iter().any(|hook| hook["strategy"] == "tp_btf"), "{capabilities}: {found}");
        hooks.iter().find(|hook| hook["event"] == "database servers").unwrap().clone()
    };
    // Older kernels allow uprobes to CAP_PERFMON; the other one is needed on all.
    let reason = servers("+bpf,+perfmon")["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("CAP_SYS_ADMIN") || reason.contains("CAP_SYS_PTRACE"), "{reason}");
    let reason = servers("+bpf,+perfmon,+sys_admin")["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("CAP_SYS_PTRACE"), "{reason}");
    assert_eq!(servers("+bpf,+perfmon,+sys_admin,+sys_ptrace")["strategy"], "uprobe");
}

#[test]
fn a_collector_that_cannot_start_is_named_with_its_metrics_and_the_others_go_on() {
    if !require_bpf() {
        return;
    }
    let both = "filelife: { enabled: true }, filegone: { enabled: true }";
    let node = Node::new(&format!("collectors: {{ file_hooks: tracepoint, {both} }}\n"));
    open_to_all(&node.path(""));
    // These tracepoints take a tracefs that may be read, which those of the services' capabilities don't give.
    let mut collect = common::as_nobody_with(&node, "+bpf,+perfmon", &["collect"]);
    let agent = node.spawn(&mut collect);
    node.wait_for_status(1, &["file (filelife, filegone) is left out", "CAP_DAC_READ_SEARCH", "exec: "]);
    agent.terminate().expect(0, &[]);
}

#[test]
fn two_agents_on_one_state_folder_keep_apart() {
    if !require_bpf() {
        return;
    }
    let node = Node::new("");
    let agent = node.start_agent(&["run"]);
    let state = node.state().display().to_string();
    node.run(&["collect"]).expect(1, &["another KuMon collects", &state, "kumon status"]);
    for command in ["ship", "run"] {
        let process = format!("process {}", agent.id());
        node.run(&[command]).expect(1, &[&state, &process, "stop that one", "a state folder of its own"]);
    }
    node.mark("unharmed", 3);
    assert_found(&node, "unharmed", 3);
    agent.terminate().expect(0, &[]);
}

#[test]
fn a_full_disk_under_the_spool_costs_no_row() {
    if !require_bpf() {
        return;
    }
    let node = Node::new("");
    let disk = SmallDisk::mount(node.spool(), c"size=1m");
    let agent = node.start_agent(&["run"]);
    node.mark("before", 1);
    assert_found(&node, "before", 1);
    disk.fill();
    node.mark("meanwhile", 10);
    agent.wait_for_log(&["No space left", "free some space", "rows wait in memory"]);
    node.wait_for_status(1, &["the spool: ", "No space left", "rows wait in memory"]);
    disk.make_room();
    agent.wait_for_log(&["the spool works again"]);
    assert_found(&node, "meanwhile", 10);
    node.wait_for_status(0, &[]);
    agent.terminate().expect(0, &[]);
    assert_eq!((found(&node, "before"), found(&node, "meanwhile")), (1, 10));
}

#[test]
fn a_full_disk_under_the_state_costs_no_row() {
    if !require_bpf() {
        return;
    }
    let node = Node::new("");
    let disk = SmallDisk::mount(node.state(), c"size=8m");
    let agent = node.start_agent(&["run"]);
    node.mark("earlier", 1);
    assert_found(&node, "earlier", 1);
    disk.fill();
    node.mark("during", 10);
    // A question makes it commit.
    node.run(&["query", "exec"]);
    agent.wait_for_log(&["shipping halts, rows wait in their files", "No space left"]);
    disk.make_room();
    assert_found(&node, "during", 10);
    agent.wait_for_log(&["shipping goes on"]);
    node.wait_for_status(0, &[]);
    agent.terminate().expect(0, &[]);
    assert_eq!((found(&node, "earlier"), found(&node, "during")), (1, 10));
}
