//! Elasticsearch 8.x takes the same setup, the same rows and the same pipelines as 9.x.

use kumon_testing::{Elasticsearch, require_elasticsearch_8};

use super::pipelines::same_documents;
use super::support::Setup;

#[test]
fn elasticsearch_8_takes_setup_rows_and_pipelines() {
    if !require_elasticsearch_8() {
        return;
    }
    let node = Elasticsearch::start_8();
    same_documents(&node);
    // What it gives back is as it was noted: nothing seems to have been changed by somebody.
    let setup = Setup::new(&node, "");
    let again = setup.run(&["--create-api-key", setup.path("key").to_str().unwrap()]);
    assert!(again.contains("0 created, 0 changed") && !again.contains("left"), "{again}");
    assert!(again.contains("created API key"), "{again}");
    let forced = setup.run(&["--force"]);
    assert!(forced.contains("0 created, 0 changed"), "{forced}");
}
