//! How long rows are kept.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use kumon_testing::require_elasticsearch;
use serde_json::Value;

#[test]
fn the_dry_run_shows_policies_that_elasticsearchs_own_parser_accepts() {
    if !require_elasticsearch() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let kumon = Command::new(env!("CARGO_BIN_EXE_kumon")).args(["setup", "--dry-run"]).output().unwrap();
    assert!(kumon.status.success());
    let requests = String::from_utf8(kumon.stdout).unwrap();
    let mut policies = Vec::new();
    for request in requests.split("PUT ").skip(1) {
        let (path, body) = request.split_once('\n').unwrap();
        let body: Value = serde_json::from_str(body).unwrap();
        if let Some(name) = path.strip_prefix("_ilm/policy/") {
            policies.push(folder.path().join(format!("{name}.json")));
            fs::write(&policies[policies.len() - 1], body.to_string()).unwrap();
        }
    }
    assert_eq!(policies.len(), kumon_schema::all().len());
    let check = |files: &[PathBuf]| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../elk/fixture/ilm-check/run");
        let output = Command::new(script).args(files).output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(check(&policies), (true, String::new()));

    let broken = folder.path().join("broken.json");
    fs::write(&broken, r#"{"policy":{"phases":{"warm":{"actions":{"rollover":{"max_age":"1d"}}}}}}"#)
        .unwrap();
    let (fine, message) = check(&[broken]);
    assert!(!fine && message.contains("rollover"), "{message}");
}
