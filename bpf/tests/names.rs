//! What rows call the containers that they are about, against real ones.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use common::containers::{Containerd, Image, Podman, Runc, run};
use common::{Cgroup, Collected, Collecting, Row};
use kumon_bpf::Settings;
use kumon_testing::{repetitions, require_bpf, wait_for};

/// Numbers of containers to start, of each test its own.
fn numbers() -> Range<usize> {
    const APART: usize = 1000;
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let first = NEXT.fetch_add(APART, Relaxed);
    first..first + repetitions(20, 100)
}

/// As the agent polls. A container lives for a quarter of it.
const POLL: Duration = Duration::from_millis(200);
const LIFE: &str = "0.05";

/// A program that lives for 50 ms, and that nobody else runs.
fn program(number: usize) -> [String; 2] {
    ["/bin/sleep".to_owned(), format!("{LIFE}{:07}{number:06}", std::process::id())]
}

fn as_strs(program: &[String]) -> Vec<&str> {
    program.iter().map(String::as_str).collect()
}

/// The rows of the exec and the exit of a program.
fn rows_of(collected: &Collected, program: &[String]) -> [Row; 2] {
    let mut execs = collected.rows("exec");
    let command_line = program.join(" ");
    execs.retain(|row| row.text("command_line") == command_line);
    let [exec] = &execs[..] else { panic!("{command_line}: {execs:?}") };
    let mut exits = collected.rows("exit");
    exits.retain(|row| row.text("entity_id") == exec.text("entity_id"));
    let [exit] = &exits[..] else { panic!("{command_line}: {exits:?}") };
    [exec.clone(), exit.clone()]
}

fn texts<const N: usize>(row: &Row, columns: [&str; N]) -> [String; N] {
    columns.map(|column| row.text(column).to_owned())
}

/// Names, image, runtime, and the name of the user: the containers' own passwd calls root otherwise.
const COLUMNS: [&str; 5] =
    ["container_id", "container_name", "container_image", "container_runtime", "user_name"];
const POD: [&str; 4] = ["kubernetes_namespace", "pod_name", "kubernetes_container", "pod_uid"];

#[test]
fn containers_of_runc_that_live_for_50_ms_have_their_names() {
    let Some(image) = Image::for_runtime("runc").filter(|_| require_bpf()) else { return };
    let runc = Runc(image);
    let numbers = numbers();
    let collecting = Collecting::start_polling("process", Settings::default(), POLL);
    let id = |number| format!("kumon-{}-{number}", std::process::id());
    for number in numbers.clone() {
        run(&mut runc.command(&id(number), &as_strs(&program(number))));
    }
    let collected = collecting.stop();
    for number in numbers.clone() {
        for row in rows_of(&collected, &program(number)) {
            let id = id(number);
            assert_eq!(texts(&row, COLUMNS), [&id, &id, "", "runc", "captain"], "{row:?}");
        }
    }
}

#[test]
fn containers_of_podman_that_live_for_50_ms_have_their_names() {
    let Some(image) = Image::for_runtime("podman").filter(|_| require_bpf()) else { return };
    let podman = Podman::load(image);
    let numbers = numbers();
    let collecting = Collecting::start_polling("process", Settings::default(), POLL);
    let name = |number| format!("kumon-{}-{number}", std::process::id());
    for number in numbers.clone() {
        run(&mut podman.command(&name(number), &as_strs(&program(number))));
    }
    let collected = collecting.stop();
    for number in numbers.clone() {
        for row in rows_of(&collected, &program(number)) {
            let [id, rest @ ..] = texts(&row, COLUMNS);
            assert_eq!(id.len(), 64, "{row:?}");
            assert_eq!(rest, [&name(number), &podman.name, "podman", "captain"], "{row:?}");
        }
    }
}

#[test]
fn pods_of_containerd_whose_containers_live_for_50_ms_have_their_names() {
    let Some(image) = Image::for_runtime("containerd").filter(|_| require_bpf()) else { return };
    let pods = Pods::new(image);
    let numbers = numbers();
    let collecting = Collecting::start_polling("process", Settings::default(), POLL);
    // A pause container, two others, and so on.
    let kinds = ["POD", "api", "log"];
    for number in numbers.clone() {
        pods.run(number, kinds[number % kinds.len()]);
    }
    let collected = collecting.stop();
    for number in numbers.clone() {
        let name = kinds[number % kinds.len()];
        let image = if name == "POD" { "" } else { "registry.example/api:1.2" };
        for row in rows_of(&collected, &program(number)) {
            assert_eq!(
                texts(&row, COLUMNS),
                [&Pods::id(number), name, image, "containerd", "captain"],
                "{row:?}"
            );
            assert_eq!(texts(&row, POD), ["shop", "api-7d4b9", name, Pods::UID], "{row:?}");
        }
    }
}

#[test]
fn a_filter_by_name_lets_containers_through_from_their_first_program_on() {
    let Some(image) = Image::for_runtime("containerd").filter(|_| require_bpf()) else { return };
    let pods = Pods::new(image);
    let mut settings = Settings::default();
    settings.process.exec.filter = serde_json::from_str(r#"{"k8s": ["shop/log", ".+/ap."]}"#).unwrap();
    settings.process.exit.filter =
        serde_json::from_str(r#"{"image": ["registry\\.example/.*"], "container": ["log"]}"#).unwrap();
    let numbers = numbers();
    let collecting = Collecting::start_polling("process", settings, POLL);
    let kinds = ["POD", "api", "log"];
    for number in numbers.clone() {
        pods.run(number, kinds[number % kinds.len()]);
    }
    let collected = collecting.stop();
    let (execs, exits) = (collected.rows("exec"), collected.rows("exit"));
    // runc's own processes are in the container's cgroup too for a while.
    let names = |rows: &[Row]| -> BTreeSet<String> {
        rows.iter().map(|row| row.text("container_name").to_owned()).collect()
    };
    assert_eq!(names(&execs), BTreeSet::from(["api".to_owned(), "log".to_owned()]));
    assert_eq!(names(&exits), BTreeSet::from(["log".to_owned()]));
    for number in numbers.clone() {
        let command_line = program(number).join(" ");
        let of_program: Vec<&Row> =
            execs.iter().filter(|row| row.text("command_line") == command_line).collect();
        let kind = kinds[number % kinds.len()];
        assert_eq!(of_program.len(), usize::from(kind != "POD"), "{command_line}");
        if kind == "log" {
            let ended = |row: &&Row| row.text("entity_id") == of_program[0].text("entity_id");
            assert_eq!(exits.iter().filter(ended).count(), 1, "{command_line}");
        }
    }
}

#[test]
fn a_filter_by_unit_lets_services_through_that_come_later() {
    if !require_bpf() {
        return;
    }
    let mut settings = Settings::default();
    let unit = |name: &str| format!("kumon-{name}-{}.service", std::process::id());
    settings.process.exit.filter =
        serde_json::from_str(&format!(r#"{{"unit": ["{}"]}}"#, unit("a"))).unwrap();
    let Some(before) = Cgroup::new(&unit("b")) else { return };
    let collecting = Collecting::start("process", settings);
    let later = Cgroup::new(&unit("a")).unwrap();
    for cgroup in [&before, &later] {
        assert!(cgroup.command("true").status().unwrap().success());
    }
    let exits = collecting.stop().rows("exit");
    assert_eq!(exits.iter().map(|row| row.text("unit")).collect::<Vec<_>>(), [&unit("a")]);
}

#[test]
fn containers_that_were_there_before_have_their_names_and_new_ones_when_renamed() {
    let Some(image) = Image::for_runtime("podman").filter(|_| require_bpf()) else { return };
    let podman = Podman::load(image);
    let [before, after] = ["before", "after"].map(|name| format!("kumon-{name}-{}", std::process::id()));
    let mut command = podman.command(&before, &["/bin/sleep", "1000"]);
    let mut container = kumon_testing::Child::spawn(&mut command);
    let runs = |name: &str| {
        let mut inspect = Command::new("podman");
        let output = inspect.args(["inspect", "--format", "{{.State.Running}}", name]).output().unwrap();
        output.stdout.starts_with(b"true")
    };
    wait_for("the container to run", Duration::from_secs(30), || runs(&before));
    let collecting = Collecting::start("process", Settings::default());
    let exec = |name: &str, program: &[String]| {
        run(Command::new("podman").args(["--runtime", "runc", "exec", name]).args(program));
    };
    let mut numbers = numbers().start..;
    let first = program(numbers.next().unwrap());
    exec(&before, &first);
    run(Command::new("podman").args(["rename", &before, &after]));
    // It is looked for now and then.
    wait_for("the other name", Duration::from_secs(90), || {
        exec(&after, &program(numbers.next().unwrap()));
        std::thread::sleep(Duration::from_secs(1));
        collecting.rows("exec").iter().any(|row| row.text("container_name") == after)
    });
    run(Command::new("podman").args(["rm", "--force", "--time", "0", &after]));
    container.wait(Duration::from_secs(30));
    let [exec, exit] = rows_of(&collecting.stop(), &first);
    assert_eq!([exec.text("container_name"), exit.text("container_name")], [&before; 2]);
}

#[test]
fn a_cgroup_has_its_unit_and_a_process_of_the_node_its_user() {
    let name = format!("kumon-{}.service", std::process::id());
    let Some(cgroup) = Cgroup::new(&name).filter(|_| require_bpf()) else { return };
    let collecting = Collecting::start("process", Settings::default());
    assert!(cgroup.command("sleep").arg(&program(numbers().start)[1]).status().unwrap().success());
    let collected = collecting.stop();
    let mut exits = collected.rows("exit");
    exits.retain(|row| row.text("cgroup_id") == cgroup.id().to_string());
    assert_eq!(exits.len(), 1, "{exits:?}");
    assert_eq!(texts(&exits[0], ["unit", "user_name", "container_name"]), [&name, "root", ""]);
}

/// Containers of pods, as the kubelet has containerd make them.
struct Pods {
    containerd: Containerd,
    cgroup: String,
}

impl Pods {
    const UID: &str = "8f5bd3ea-4f2c-4c3d-9f3e-0123456789ab";

    fn new(image: Image) -> Pods {
        let own = format!("kumon-{}-{}", std::process::id(), numbers().start);
        let cgroup = format!("/{own}/kubepods/burstable/pod{}", Pods::UID);
        Pods { containerd: Containerd::start(image), cgroup }
    }

    fn id(number: usize) -> String {
        format!("{:056x}{number:08x}", std::process::id())
    }

    /// Runs a container to its end.
    fn run(&self, number: usize, name: &str) {
        let mut annotations = vec![
            ("io.kubernetes.cri.sandbox-namespace", "shop"),
            ("io.kubernetes.cri.sandbox-name", "api-7d4b9"),
            ("io.kubernetes.cri.sandbox-uid", Pods::UID),
        ];
        annotations.extend(match name {
            "POD" => vec![("io.kubernetes.cri.container-type", "sandbox")],
            name => vec![
                ("io.kubernetes.cri.container-type", "container"),
                ("io.kubernetes.cri.container-name", name),
                ("io.kubernetes.cri.image-name", "registry.example/api:1.2"),
            ],
        });
        let (id, program) = (Pods::id(number), program(number));
        let cgroup = format!("{}/{id}", self.cgroup);
        run(&mut self.containerd.command(&id, &cgroup, &annotations, &as_strs(&program)));
    }
}

impl Drop for Pods {
    /// runc leaves the folders above the containers', in each hierarchy.
    fn drop(&mut self) {
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            let mut folder: PathBuf = hierarchy.path().join(self.cgroup.trim_start_matches('/'));
            while std::fs::remove_dir(&folder).is_ok() {
                folder.pop();
            }
        }
    }
}
