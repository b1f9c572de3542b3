//! The dashboards on their way into Kibana.
//!
//! No real Kibana is to be had for tests. [`StandIn`] answers the two requests that setup makes as Kibana's source
//! and documentation say: `_export` (objects by id; 400 with what is missing) and `_import` (a file in a form).
//! The records of what setup put there are in a real Elasticsearch.
//!
//! Runs beside other tests.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use common::{Ended, Node};
use kumon_testing::{Elasticsearch, require_elasticsearch};
use serde_json::{Value, json};

/// A request as it came in.
#[derive(Debug, Clone, PartialEq)]
struct Request {
    line: String,
    headers: BTreeMap<String, String>,
    body: String,
}

/// Answers as Kibana does.
struct StandIn {
    url: String,
    objects: Arc<Mutex<BTreeMap<String, Value>>>,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl StandIn {
    fn start() -> StandIn {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stand_in = StandIn { url, objects: Arc::default(), requests: Arc::default() };
        let (objects, requests) = (stand_in.objects.clone(), stand_in.requests.clone());
        // It ends with the test process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (objects, requests) = (objects.clone(), requests.clone());
                std::thread::spawn(move || serve(stream.unwrap(), &objects, &requests));
            }
        });
        stand_in
    }

    /// What somebody does in Kibana.
    fn edit(&self, id: &str, title: &str) {
        self.objects.lock().unwrap().get_mut(id).unwrap()["attributes"]["title"] = title.into();
    }

    fn title(&self, id: &str) -> String {
        self.objects.lock().unwrap()[id]["attributes"]["title"].as_str().unwrap().to_owned()
    }

    fn ids(&self) -> Vec<String> {
        self.objects.lock().unwrap().keys().cloned().collect()
    }
}

fn serve(stream: TcpStream, objects: &Mutex<BTreeMap<String, Value>>, requests: &Mutex<Vec<Request>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Some(request) = read(&mut reader) {
        requests.lock().unwrap().push(request.clone());
        let (status, answer) = respond(&request, &mut objects.lock().unwrap());
        let head = format!("HTTP/1.1 {status} -\r\ncontent-length: {}\r\n\r\n", answer.len());
        (&stream).write_all((head + &answer).as_bytes()).unwrap();
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let headers: BTreeMap<String, String> = lines[1..]
        .iter()
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { line: lines[0].clone(), headers, body: String::from_utf8(body).unwrap() })
}

fn respond(request: &Request, objects: &mut BTreeMap<String, Value>) -> (u16, String) {
    let path = request.line.split(' ').nth(1).unwrap();
    if !request.headers.contains_key("kbn-xsrf") {
        return (400, json!({"message": "Request must contain a kbn-xsrf header."}).to_string());
    }
    let authorization = request.headers.get("authorization").map_or("", String::as_str);
    if authorization != "ApiKey a2V5" && !authorization.starts_with("Basic ") {
        return (401, json!({"message": "[security_exception]: unable to authenticate"}).to_string());
    }
    if path.ends_with("/api/saved_objects/_export") {
        let asked: Value = serde_json::from_str(&request.body).unwrap();
        let id = asked["objects"][0]["id"].as_str().unwrap();
        return match objects.get(id) {
            // Kibana adds what changes by itself.
            Some(object) => {
                let mut object = object.clone();
                object["version"] = format!("Wz{}", object.to_string().len()).into();
                object["updated_at"] = "2026-11-21T05:00:00Z".into();
                (200, object.to_string())
            }
            None => {
                let missing = json!({"id": id, "error": {"statusCode": 404, "message": "Not found"}});
                let message = "Error fetching objects to export";
                (400, json!({"message": message, "attributes": {"objects": [missing]}}).to_string())
            }
        };
    }
    if path.ends_with("/api/saved_objects/_import?overwrite=true") {
        assert_eq!(request.headers["content-type"], "multipart/form-data; boundary=kumon");
        let (head, rest) = request.body.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("--kumon\r\n") && head.contains("filename=\"kumon.ndjson\""), "{head}");
        let file = rest.strip_suffix("\r\n--kumon--\r\n").unwrap();
        for line in file.lines() {
            let object: Value = serde_json::from_str(line).unwrap();
            for reference in object["references"].as_array().unwrap() {
                let checked = ["index-pattern", "search"].contains(&reference["type"].as_str().unwrap());
                if checked && !objects.contains_key(reference["id"].as_str().unwrap()) {
                    let error = json!({"type": "missing_references", "references": [reference]});
                    return (200, json!({"success": false, "errors": [{"error": error}]}).to_string());
                }
            }
            objects.insert(object["id"].as_str().unwrap().to_owned(), object);
        }
        return (200, json!({"success": true, "successCount": 1}).to_string());
    }
    let id = path.rsplit('/').next().unwrap();
    if request.line.starts_with("DELETE ") && objects.remove(id).is_some() {
        return (200, "{}".into());
    }
    (404, json!({"message": "Not Found"}).to_string())
}

/// A node that is to be set up with both.
fn node(elasticsearch: &Elasticsearch, kibana: &str) -> Node {
    let node = Node::new("");
    fs::write(node.path("key"), "a2V5\n").unwrap();
    let key = node.path("key");
    let kibana =
        format!("kibana: {{ url: '{kibana}', api_key_file: {}, space: operations }}\n", key.display());
    node.configure(&(node.output(elasticsearch) + &kibana));
    node
}

fn setup(node: &Node, arguments: &[&str]) -> Ended {
    let ended = node.run(&[&["setup", "--only", "kibana"], arguments].concat());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ended
}

#[test]
fn dashboards_are_put_there_once_and_a_users_change_stays() {
    if !require_elasticsearch() {
        return;
    }
    let kibana = StandIn::start();
    let node = node(Elasticsearch::shared(), &kibana.url);
    fs::create_dir(node.path("dashboards")).unwrap();
    let own = "title: Shop\npanels:\n  - { title: Starts, kind: number, metric: exec, values: [{ operation: count }] }\n";
    fs::write(node.path("dashboards/shop.yml"), own).unwrap();

    let first = setup(&node, &[]);
    assert!(first.stdout.contains("created dashboard kumon-dashboard-cpu"), "{}", first.stdout);
    // The tests' Elasticsearch has no API for that.
    assert!(first.stdout.contains("skipped empty data streams"), "{}", first.stdout);
    let ids = kibana.ids();
    for id in ["kumon", "kumon-exec", "kumon-search-exec", "kumon-dashboard-kumon", "kumon-dashboard-shop"] {
        assert!(ids.iter().any(|known| known == id), "{id} is missing: {ids:?}");
    }
    let requests = kibana.requests.lock().unwrap().clone();
    assert!(requests.iter().all(|request| request.line.contains(" /s/operations/api/")), "the space's path");

    let again = setup(&node, &[]);
    assert!(again.stdout.contains("0 created, 0 changed"), "{}", again.stdout);

    // Somebody changes two dashboards; the operator changes the file of one.
    kibana.edit("kumon-dashboard-cpu", "My CPUs");
    kibana.edit("kumon-dashboard-shop", "My shop");
    fs::write(node.path("dashboards/shop.yml"), own.replace("Shop", "Shop 2")).unwrap();
    let kept = setup(&node, &[]);
    let left = "left dashboard kumon-dashboard-cpu: it was changed since setup put it there";
    assert!(kept.stdout.contains(left), "{}", kept.stdout);
    assert_eq!(kibana.title("kumon-dashboard-cpu"), "My CPUs");
    assert_eq!(kibana.title("kumon-dashboard-shop"), "My shop");
    setup(&node, &["--force"]);
    assert_eq!(kibana.title("kumon-dashboard-cpu"), "[KuMon] CPU");
    assert_eq!(kibana.title("kumon-dashboard-shop"), "[KuMon] Shop 2");

    let removed = setup(&node, &["--remove"]);
    assert!(removed.stdout.contains("removed dashboard kumon-dashboard-cpu"), "{}", removed.stdout);
    assert!(kibana.ids().is_empty(), "{:?}", kibana.ids());
}

#[test]
fn what_kibana_refuses_is_said_with_what_to_do() {
    if !require_elasticsearch() {
        return;
    }
    let kibana = StandIn::start();
    let node = node(Elasticsearch::shared(), &kibana.url);
    fs::write(node.path("key"), "d3Jvbmc=\n").unwrap();
    node.run(&["setup", "--only", "kibana"]).expect(1, &["401", "unable to authenticate", "section kibana"]);

    let text = fs::read_to_string(node.config()).unwrap();
    node.write_configuration(&text.replace(&kibana.url, "http://127.0.0.1:1"));
    node.run(&["setup", "--only", "kibana"]).expect(1, &["can't be reached", "kibana.url"]);
}

#[test]
fn a_password_from_a_pipe_serves_elasticsearch_and_kibana() {
    if !require_elasticsearch() {
        return;
    }
    let (kibana, elasticsearch) = (StandIn::start(), Elasticsearch::shared());
    let node = Node::new("");
    let output = format!("output: {{ elasticsearch: {{ hosts: ['{}'] }} }}\n", elasticsearch.url());
    node.configure(&format!("{output}kibana: {{ url: '{}' }}\n", kibana.url));
    let who = ["--username", elasticsearch.username(), "--password-file", "/dev/stdin"];
    let mut command = node.command(&[&["setup", "--only", "kibana"], &who[..]].concat());
    let mut setup =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    setup.stdin.take().unwrap().write_all(elasticsearch.password().as_bytes()).unwrap();
    let ended = setup.wait_with_output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    let asked = kibana.requests.lock().unwrap().last().unwrap().headers["authorization"].clone();
    let (status, user) = elasticsearch.request_as(&asked, "GET", "_security/_authenticate", Value::Null);
    assert_eq!((status, &user["username"]), (200, &json!(elasticsearch.username())));
}

#[test]
fn a_file_for_import_by_hand_is_printed() {
    let node = Node::new("");
    let ended = node.run(&["setup", "--dry-run", "--only", "kibana"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let lines: Vec<Value> = ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.len() > 40 && lines.iter().all(|object| object["id"].is_string()), "{}", lines.len());
}

#[test]
fn a_wrong_dashboard_is_refused_with_its_place() {
    let node = Node::new("");
    let folder = node.path("dashboards");
    fs::create_dir(&folder).unwrap();
    let text = "title: Shop\npanels:\n  - title: Slow\n    kind: number\n    metric: dbslow\n    values: [{ operation: count }]\n";
    fs::write(folder.join("shop.yml"), text).unwrap();
    let expected = ["shop.yml: line 5 column 13: there is no metric 'dbslow'; did you mean 'dbslower'?"];
    node.run(&["setup", "--dry-run"]).expect(2, &expected);
    let check = node.run(&["check"]);
    assert!(check.stdout.contains(expected[0]), "{check:?}");
}
