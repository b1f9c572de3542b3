//! The configuration while the agent runs, and the environment on top of it.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Kumon, Node, PATIENCE};
use kumon_testing::{require_bpf, wait_for};
use rustix::process::Signal;

fn found(node: &Node, metric: &str, name: &str) -> usize {
    node.rows(metric, &format!("process.name:{name}")).len()
}

/// How often the configuration was loaded since the start.
fn reloads(agent: &Kumon) -> usize {
    agent.stderr().matches("kumon.yml: loaded").count()
}

/// For tests that start programs as fast as they can and count on a row of each.
const WITHOUT_BUDGETS: &str = "exec: { max_rows_per_second: 0 }, exit: { max_rows_per_second: 0 }";

/// Starts programs without a pause between them until `done` says so, to which it tells their number; returns it.
fn mark_until(node: &Node, started: usize, done: impl Fn(usize) -> bool) -> usize {
    let mut started = started;
    while !done(started) {
        node.mark("steady", 1);
        started += 1;
    }
    started
}

/// With the configuration that it started with, which is put back for the query to read.
fn assert_still_collects(node: &Node, agent: Kumon) {
    node.configure("");
    node.mark("kept", 1);
    wait_for("the row", PATIENCE, || found(node, "exec", "kept") == 1);
    assert!(!agent.stderr().contains("loaded"), "{}", agent.stderr());
    agent.terminate().expect(0, &[]);
}

#[test]
fn a_replaced_configuration_takes_effect_and_loses_nothing() {
    if !require_bpf() {
        return;
    }
    let node = Node::new("collectors: { exec: { enabled: false } }\n");
    let agent = node.start_agent(&["run"]);
    node.mark("before", 1);
    node.configure("collectors: { exec: { enabled: true } }\n");
    agent.wait_for_log(&["kumon.yml: loaded"]);
    node.mark("after", 1);
    wait_for("the rows", PATIENCE, || found(&node, "exec", "after") + found(&node, "exit", "after") == 2);
    assert_eq!((found(&node, "exec", "before"), found(&node, "exec", "after")), (0, 1));
    assert_eq!((found(&node, "exit", "before"), found(&node, "exit", "after")), (1, 1));
    // What happened while the collectors were replaced was not seen, and that is told.
    wait_for("the pause", PATIENCE, || node.rows("agent", "kumon.agent.reason:pause*").len() == 1);
    agent.terminate().expect(0, &["collecting exit stood still for"]);
}

#[test]
fn a_reload_that_leaves_the_collectors_as_they_are_misses_nothing() {
    if !require_bpf() {
        return;
    }
    let collectors = format!("collectors: {{ {WITHOUT_BUDGETS} }}\n");
    let node = Node::new(&collectors);
    let agent = node.start_agent(&["run"]);
    // Until it has reloaded twice in their midst.
    let mut started = 0;
    for reload in 0..2 {
        let until = started + 100;
        agent.signal(Signal::HUP);
        started = mark_until(&node, started, |started| reloads(&agent) != reload && started >= until);
    }
    node.configure(&format!("namespace: other\n{collectors}"));
    started = mark_until(&node, started, |_| reloads(&agent) != 2);
    wait_for("every row", PATIENCE, || found(&node, "exec", "steady") >= started);
    assert_eq!((found(&node, "exec", "steady"), found(&node, "exit", "steady")), (started, started));
    assert_eq!(node.rows("agent", "kumon.agent.reason:pause*").len(), 0);
    agent.terminate().expect(0, &[]);
}

#[test]
fn new_settings_of_one_collector_keep_the_others_going() {
    if !require_bpf() {
        return;
    }
    let node = Node::new(&format!("collectors: {{ {WITHOUT_BUDGETS} }}\n"));
    let agent = node.start_agent(&["run"]);
    let mut started = 0;
    for threshold in ["20ms", "30ms"] {
        let before = reloads(&agent);
        let runqslower = format!("runqslower: {{ threshold: {threshold} }}");
        node.configure(&format!("collectors: {{ {WITHOUT_BUDGETS}, {runqslower} }}\n"));
        started = mark_until(&node, started, |_| reloads(&agent) != before);
    }
    wait_for("every row", PATIENCE, || found(&node, "exec", "steady") >= started);
    assert_eq!((found(&node, "exec", "steady"), found(&node, "exit", "steady")), (started, started));
    // Who served runqslower stood still both times, and nobody else.
    let paused = |metric: &str| {
        let query = format!("kumon.agent.reason:pause* kumon.agent.name:{metric}");
        node.rows("agent", &query).len()
    };
    wait_for("the pauses", PATIENCE, || paused("runqslower") == 2);
    assert_eq!(["exec", "exit", "tcplife", "biolatency", "all"].map(paused), [0; 5]);
    agent.terminate().expect(0, &["collecting runqlat, runqlat_hist, runqslower, cputime stood still for"]);
}

#[test]
fn a_mistake_keeps_the_old_configuration_and_says_where_it_is() {
    if !require_bpf() {
        return;
    }
    let node = Node::new("");
    let agent = node.start_agent(&["run"]);
    node.configure("collectors: { exec: { enabld: false } }\n");
    agent.wait_for_log(&["kumon.yml: line 2 column 23", "enabld", "the old configuration stays in force"]);
    assert_still_collects(&node, agent);
}

#[test]
fn a_configuration_that_cannot_start_keeps_the_old_one() {
    if !require_bpf() {
        return;
    }
    let node = Node::new("");
    let agent = node.start_agent(&["run"]);
    let password = node.path("no-such-file").display().to_string();
    node.configure(&format!(
        "output: {{ elasticsearch: {{ hosts: ['http://127.0.0.1:1'], username: a, password_file: {password} }} }}\n"
    ));
    agent.wait_for_log(&[&password, "the old configuration stays in force"]);
    assert_still_collects(&node, agent);
}

#[test]
fn a_deleted_configuration_keeps_the_old_one() {
    if !require_bpf() {
        return;
    }
    let node = Node::new("");
    let agent = node.start_agent(&["collect"]);
    std::fs::remove_file(node.config()).unwrap();
    agent.wait_for_log(&["kumon.yml can't be read", "the old configuration stays in force"]);
    node.configure("collectors: { exit: { enabled: false } }\n");
    agent.wait_for_log(&["kumon.yml: loaded"]);
    agent.terminate().expect(0, &[]);
}

#[test]
fn sighup_loads_again_what_an_unchanged_configuration_names() {
    if !require_bpf() {
        return;
    }
    let node = Node::new("");
    let agent = node.start_agent(&["collect"]);
    agent.signal(Signal::HUP);
    agent.wait_for_log(&["kumon.yml: loaded"]);
    agent.terminate().expect(0, &[]);
}

#[test]
fn the_environment_overrides_single_keys() {
    if !require_bpf() {
        return;
    }
    let node = Node::new("collectors: { exit: { enabled: true } }\n");
    let mut command = node.command(&["collect", "--duration", "3s"]);
    let elsewhere = node.path("elsewhere");
    command.env("KUMON_COLLECTORS__EXIT__ENABLED", "false").env("KUMON_PATH__SPOOL", &elsewhere);
    let agent = node.spawn(&mut command);
    wait_for("rows", PATIENCE, || {
        node.mark("marked", 1);
        !common::files(&elsewhere.join("exec"), "csv").is_empty()
    });
    agent.wait().expect(0, &[]);
    assert!(!elsewhere.join("exit").exists() && !node.spool().exists());
}

#[test]
fn a_wrong_variable_is_named() {
    let node = Node::new("");
    let run = |name: &str, value: &str| node.spawn(node.command(&["check"]).env(name, value)).wait();
    run("KUMON_PATH__SPOL", "/tmp").expect(2, &["KUMON_PATH__SPOL", "unknown field `spol`"]);
    run("KUMON_COLLECTORS__EXEC__ENABLED", "maybe").expect(2, &["KUMON_COLLECTORS__EXEC__ENABLED", "maybe"]);
    run("KUMON_PATH__SPOOL", "[").expect(2, &["KUMON_PATH__SPOOL", "line 1"]);
}
