//! Makes a node that tests have used as it was when it had just started.

use std::time::Duration;

use serde_json::{Value, json};

use super::Elasticsearch;

/// How many names go into one request: the length of its first line is limited.
const NAMES: usize = 20;
const LIMIT: Duration = Duration::from_secs(20);

impl Elasticsearch {
    /// Deletes whatever requests may have put there.
    pub(super) fn delete_everything(&self) {
        self.delete_data_streams();
        self.delete("", &self.indices());
        // What uses others goes first.
        self.delete("_index_template", &self.named("_index_template", "index_templates"));
        self.delete("_component_template", &self.named("_component_template", "component_templates"));
        self.delete("_template", &keys(&self.get("_template")));
        // These take no lists. Where there are no pipelines, the answer is 404 with none.
        for pipeline in keys(&self.request("GET", "_ingest/pipeline", Value::Null).1) {
            self.delete("_ingest/pipeline", &[pipeline]);
        }
        for script in keys(&self.get("_cluster/state/metadata")["metadata"]["stored_scripts"]) {
            self.delete("_scripts", &[script]);
        }
        // Users, roles, role mappings and API keys.
        self.ok("POST", "_features/_reset", Value::Null);
        self.ok("PUT", "_cluster/settings", json!({"persistent": {"*": null}, "transient": {"*": null}}));
    }

    /// By the fixture's plugin.
    fn delete_data_streams(&self) {
        let list = || self.get("_resolve/index/*?expand_wildcards=all")["data_streams"].take();
        if list() == json!([]) {
            return;
        }
        let delete = json!({"transient": {"fixture.delete_data_streams": true}});
        self.ok("PUT", "_cluster/settings", delete);
        crate::wait_for("the data streams to be deleted", LIMIT, || list() == json!([]));
    }

    fn indices(&self) -> Vec<String> {
        let resolved = self.get("_resolve/index/*?expand_wildcards=all");
        let indices = resolved["indices"].as_array().expect("a list").iter();
        let is_system =
            |index: &Value| index["attributes"].as_array().is_some_and(|all| all.contains(&json!("system")));
        indices.filter(|index| !is_system(index)).map(name).collect()
    }

    fn named(&self, api: &str, list: &str) -> Vec<String> {
        self.get(api)[list].as_array().expect("a list").iter().map(name).collect()
    }

    fn delete(&self, api: &str, names: &[String]) {
        for names in names.chunks(NAMES) {
            self.ok("DELETE", &format!("{api}/{}", names.join(",")), Value::Null);
        }
    }

    fn get(&self, path: &str) -> Value {
        self.ok("GET", path, Value::Null)
    }

    fn ok(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.request(method, path, body);
        assert_eq!(status, 200, "{method} {path}: {answer}");
        answer
    }
}

fn keys(object: &Value) -> Vec<String> {
    object.as_object().into_iter().flat_map(|object| object.keys().cloned()).collect()
}

fn name(listed: &Value) -> String {
    listed["name"].as_str().expect("a name").to_owned()
}
