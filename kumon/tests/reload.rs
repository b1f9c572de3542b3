//! The configuration while the agent runs.

mod common;

use common::Node;
use kumon_testing::require_bpf;

#[test]
fn a_replaced_configuration_takes_effect() {
    if !require_bpf() {
        return;
    }
    let node = Node::new("collectors: { exit: { enabled: false } }\n");
    let agent = node.start_agent(&["run"]);
    node.configure("collectors: { exec: { enabled: false } }\n");
    agent.wait_for_log(&["kumon.yml: loaded"]);
    agent.terminate().expect(0, &[]);
}
