//! What setup last put there, as the cluster gave it back: the index `kumon-setup`.
//!
//! To tell a user's change from KuMon's own earlier version, setup has to know what it put there in the form that a
//! later GET shows: Elasticsearch adds defaults and writes settings anew, Kibana migrates. That form is known only
//! after the PUT, so a hash in the object itself would need a second PUT of each; and Kibana's objects have no place
//! for one. A document per object serves all kinds alike, and makes it possible to show what the user changed.

use std::collections::HashMap;

use anyhow::{Context, Result};
use kumon_shipper::elasticsearch::{Client, Method};
use serde_json::{Value, json};

use super::object::{Kind, Object};

pub(super) const INDEX: &str = "kumon-setup";
/// A search answers no more by default; KuMon puts some hundred objects there.
const MOST: u32 = 10_000;

/// The records of a cluster.
pub(super) struct Records<'a> {
    client: &'a Client,
    /// Who sets up now.
    author: Author,
}

/// Who put something there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Author {
    /// The node's name.
    pub(super) node: String,
    /// KuMon's.
    pub(super) version: String,
}

impl Author {
    /// This program on this node.
    pub(super) fn this(node: String) -> Author {
        Author { node, version: env!("CARGO_PKG_VERSION").into() }
    }

    /// Whether its KuMon is not older than that of `other`.
    pub(super) fn is_as_new_as(&self, other: &Author) -> bool {
        let numbers = |version: &str| -> Vec<u64> {
            version.split(['.', '-', '+']).map_while(|part| part.parse().ok()).collect()
        };
        numbers(&self.version) >= numbers(&other.version)
    }
}

/// What is known of one object.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Record {
    /// Of the body that was sent.
    pub(super) fingerprint: String,
    /// What a GET showed afterwards; none when setup was interrupted between the two.
    pub(super) installed: Option<Value>,
    /// Who put it there; none where the record does not say so.
    pub(super) author: Option<Author>,
}

impl<'a> Records<'a> {
    /// The records of that cluster, which may have none yet.
    pub(super) fn new(client: &'a Client, author: Author) -> Records<'a> {
        Records { client, author }
    }

    /// Who sets up now.
    pub(super) fn author(&self) -> &Author {
        &self.author
    }

    /// Where they are.
    pub(super) fn client(&self) -> &'a Client {
        self.client
    }

    /// Makes the index where there is none.
    pub(super) fn create_index(&self) -> Result<()> {
        let body = json!({
            "settings": {"index": {"hidden": true, "number_of_shards": 1, "auto_expand_replicas": "0-1"}},
            "mappings": {"dynamic": false, "properties": {
                "kind": {"type": "keyword"},
                "name": {"type": "keyword"},
                // Bodies are kept, not understood: no two of them have the same fields.
                "installed": {"type": "object", "enabled": false},
            }},
        });
        let answer = self.client.request(Method::PUT, INDEX, Some(&body))?;
        let exists = answer.status == 400 && answer.reason().contains("already_exists");
        if !exists {
            self.client.ok(answer).with_context(needed)?;
        }
        Ok(())
    }

    /// The records of these objects, by their ids.
    pub(super) fn of(&self, objects: &[Object]) -> Result<HashMap<String, Record>> {
        if objects.is_empty() {
            return Ok(HashMap::new());
        }
        let ids: Vec<String> = objects.iter().map(id).collect();
        let answer =
            self.client.request(Method::POST, &format!("{INDEX}/_mget"), Some(&json!({"ids": ids})))?;
        if answer.status == 404 {
            return Ok(HashMap::new());
        }
        let mut answer = self.client.ok(answer).with_context(needed)?.json();
        let documents = answer["docs"].as_array_mut().map(std::mem::take).unwrap_or_default();
        Ok(documents.into_iter().filter_map(record).collect())
    }

    /// All objects of these kinds that setup put there, also those that this configuration does not have, with who did.
    pub(super) fn of_kinds(&self, kinds: &[Kind]) -> Result<Vec<(Object, Option<Author>)>> {
        let labels: Vec<&str> = kinds.iter().map(|kind| kind.label()).collect();
        let query = json!({"size": MOST, "query": {"terms": {"kind": labels}}, "_source": {"excludes": ["installed"]}});
        self.client.request(Method::POST, &format!("{INDEX}/_refresh"), None)?;
        let answer = self.client.request(Method::POST, &format!("{INDEX}/_search"), Some(&query))?;
        if answer.status == 404 {
            return Ok(Vec::new());
        }
        let answer = self.client.ok(answer).with_context(needed)?.json();
        let mut objects: Vec<(Object, Option<Author>)> = Vec::new();
        for hit in answer["hits"]["hits"].as_array().into_iter().flatten() {
            let source = &hit["_source"];
            let kind = kinds.iter().find(|kind| source["kind"] == kind.label());
            if let (Some(kind), Some(name)) = (kind, source["name"].as_str()) {
                let object = Object::named(*kind, name.to_owned()).in_space(source["space"].as_str());
                objects.push((object, author(source)));
            }
        }
        objects.sort_by(|(a, _), (b, _)| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
        Ok(objects)
    }

    /// Notes that these are about to be put: whatever is found there after a crash is KuMon's.
    pub(super) fn begin(&self, objects: &[&Object]) -> Result<()> {
        self.write(objects.iter().map(|object| (*object, self.record(object, None))))
    }

    /// Notes what a GET shows of these after they were put.
    pub(super) fn finish(&self, installed: Vec<(&Object, Record)>) -> Result<()> {
        self.write(installed.into_iter())
    }

    /// Of what is put there now.
    pub(super) fn record(&self, object: &Object, installed: Option<Value>) -> Record {
        Record { fingerprint: object.fingerprint(), installed, author: Some(self.author.clone()) }
    }

    /// Forgets these.
    pub(super) fn forget(&self, objects: &[&Object]) -> Result<()> {
        let lines = objects.iter().map(|object| format!("{}\n", json!({"delete": {"_id": id(object)}})));
        self.bulk(lines.collect())
    }

    /// Deletes the index when it holds nothing but the lock.
    pub(super) fn delete_if_empty(&self) -> Result<()> {
        let query = json!({"query": {"exists": {"field": "kind"}}});
        self.client.ok(self.client.request(Method::POST, &format!("{INDEX}/_refresh"), None)?)?;
        let answer = self.client.request(Method::POST, &format!("{INDEX}/_count"), Some(&query))?;
        if self.client.ok(answer)?.json()["count"] == 0 {
            self.client.ok(self.client.request(Method::DELETE, INDEX, None)?)?;
        }
        Ok(())
    }

    fn write<'o>(&self, records: impl Iterator<Item = (&'o Object, Record)>) -> Result<()> {
        let lines = records.map(|(object, record)| {
            let document = json!({
                "kind": object.kind.label(),
                "name": object.name,
                "space": object.space,
                "fingerprint": record.fingerprint,
                "installed": record.installed,
                "node": record.author.as_ref().map(|author| &author.node),
                "version": record.author.as_ref().map(|author| &author.version),
            });
            format!("{}\n{document}\n", json!({"index": {"_id": id(object)}}))
        });
        self.bulk(lines.collect())
    }

    fn bulk(&self, lines: String) -> Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let answer = self.client.post_ndjson(&format!("{INDEX}/_bulk"), lines.into())?;
        let answer = self.client.ok(answer).with_context(needed)?.json();
        anyhow::ensure!(answer["errors"] != true, "the index {INDEX} refuses a note: {}", answer["items"][0]);
        Ok(())
    }
}

/// The id of an object's record.
pub(super) fn id(object: &Object) -> String {
    format!("{}:{}", object.kind.label(), object.name)
}

fn record(mut document: Value) -> Option<(String, Record)> {
    let source = document.get_mut("_source")?;
    let installed = Some(source["installed"].take()).filter(|installed| !installed.is_null());
    let fingerprint = source["fingerprint"].as_str()?.to_owned();
    let author = author(source);
    Some((document["_id"].as_str()?.to_owned(), Record { fingerprint, installed, author }))
}

fn author(source: &Value) -> Option<Author> {
    Some(Author {
        node: source["node"].as_str()?.to_owned(),
        version: source["version"].as_str()?.to_owned(),
    })
}

fn needed() -> String {
    format!(
        "setup notes what it put there in the index {INDEX}: run it as a superuser or with the role kumon_admin \
         (--username and --password-file)"
    )
}
