//! The dashboards on their way into Kibana.
//!
//! No real Kibana is to be had for tests. [`StandIn`] answers the requests that setup makes as Kibana's source
//! and documentation say: `_export` (objects by type and id; 400 with what is missing), `_import` (a file in a form; an id that
//! another space has becomes another one), and those for rules and connectors (ids are UUIDs; a change names nothing that is
//! for good). The records of what setup put there are in a real Elasticsearch.
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

/// What is in a Kibana: by id, and the space of each.
type Objects = BTreeMap<String, (String, Value)>;

/// Answers as Kibana does.
struct StandIn {
    url: String,
    objects: Arc<Mutex<Objects>>,
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
        self.objects.lock().unwrap().get_mut(id).unwrap().1["attributes"]["title"] = title.into();
    }

    fn title(&self, id: &str) -> String {
        self.objects.lock().unwrap()[id].1["attributes"]["title"].as_str().unwrap().to_owned()
    }

    fn ids(&self) -> Vec<String> {
        self.objects.lock().unwrap().keys().cloned().collect()
    }
}

fn serve(stream: TcpStream, objects: &Mutex<Objects>, requests: &Mutex<Vec<Request>>) {
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

fn respond(request: &Request, objects: &mut Objects) -> (u16, String) {
    let path = request.line.split(' ').nth(1).unwrap();
    let space = path.strip_prefix("/s/").and_then(|path| path.split('/').next()).unwrap_or("default");
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
        assert!(asked["objects"][0]["type"].is_string(), "{asked}");
        return match objects.get(id) {
            // Kibana adds what changes by itself.
            Some((of, object)) if of == space => {
                let mut object = object.clone();
                object["version"] = format!("Wz{}", object.to_string().len()).into();
                object["updated_at"] = "2026-11-21T05:00:00Z".into();
                (200, object.to_string())
            }
            _ => {
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
                let found = objects.get(reference["id"].as_str().unwrap());
                if checked && found.is_none_or(|(of, _)| of != space) {
                    let error = json!({"type": "missing_references", "references": [reference]});
                    return (200, json!({"success": false, "errors": [{"error": error}]}).to_string());
                }
            }
            let id = object["id"].as_str().unwrap();
            let taken = objects.get(id).is_some_and(|(of, _)| of != space);
            let id = if taken { format!("another-{id}") } else { id.to_owned() };
            objects.insert(id, (space.to_owned(), object));
        }
        return (200, json!({"success": true, "successCount": 1}).to_string());
    }
    if let Some(path) = path.split_once("/api/alerting/rule/").or(path.split_once("/api/actions/connector/"))
    {
        return of_api(request, path.1, space, objects);
    }
    if path.ends_with("/api/actions/connectors") {
        let connectors =
            objects.iter().filter(|(_, (of, o))| of == space && !o["connector_type_id"].is_null());
        let connectors: Vec<_> = connectors.map(|(id, (_, object))| with_id(id, object)).collect();
        return (200, json!(connectors).to_string());
    }
    let id = path.rsplit('/').next().unwrap();
    if request.line.starts_with("DELETE ") && objects.remove(id).is_some() {
        return (200, "{}".into());
    }
    (404, json!({"message": "Not Found"}).to_string())
}

fn with_id(id: &str, object: &Value) -> Value {
    let mut object = object.clone();
    object["id"] = id.into();
    object["updated_at"] = object.to_string().len().into();
    object
}

/// A request for a rule or a connector.
fn of_api(request: &Request, path: &str, space: &str, objects: &mut Objects) -> (u16, String) {
    let (id, switch) = path.split_once('/').map_or((path, None), |(id, switch)| (id, Some(switch)));
    let is_uuid = id.len() == 36 && id.chars().all(|c| c == '-' || c.is_ascii_hexdigit());
    assert!(is_uuid, "predefined IDs are not allowed unless the ID is a UUID: {id}");
    let there = objects.get_mut(id).filter(|(of, _)| of == space);
    match (request.line.split(' ').next().unwrap(), there) {
        ("POST", None) if switch.is_none() => {
            let object: Value = serde_json::from_str(&request.body).unwrap();
            if let Some(actions) = object["actions"].as_array() {
                let known = |action: &Value| objects.contains_key(action["id"].as_str().unwrap());
                assert!(actions.iter().all(known), "a rule needs its connectors: {actions:?}");
            }
            objects.insert(id.to_owned(), (space.to_owned(), object.clone()));
            (200, with_id(id, &object).to_string())
        }
        ("POST", Some((_, object))) => {
            object["enabled"] = (switch == Some("_enable")).into();
            (204, String::new())
        }
        ("GET", Some((_, object))) => (200, with_id(id, object).to_string()),
        ("PUT", Some((_, object))) => {
            let changed: Value = serde_json::from_str(&request.body).unwrap();
            for (key, value) in changed.as_object().unwrap() {
                let for_good = ["rule_type_id", "consumer", "enabled", "connector_type_id"];
                assert!(!for_good.contains(&key.as_str()), "[request body.{key}]: definition is missing");
                object[key] = value.clone();
            }
            (200, with_id(id, object).to_string())
        }
        ("DELETE", Some(_)) => {
            objects.remove(id);
            (204, String::new())
        }
        _ => (404, json!({"message": "Not Found"}).to_string()),
    }
}

/// A node that is to be set up with both.
fn node(elasticsearch: &Elasticsearch, kibana: &str) -> Node {
    node_of(elasticsearch, kibana, "space: operations", "")
}

fn node_of(elasticsearch: &Elasticsearch, kibana: &str, space: &str, alerts: &str) -> Node {
    let node = Node::new("");
    fs::write(node.path("key"), "a2V5\n").unwrap();
    let key = node.path("key");
    let kibana = format!("kibana: {{ url: '{kibana}', api_key_file: {}, {space} }}\n", key.display());
    node.configure(&(node.output(elasticsearch) + &kibana + alerts));
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
    assert!(first.stdout.contains("created dashboard kumon-dashboard-cpu-operations"), "{}", first.stdout);
    // The tests' Elasticsearch has no API for that.
    assert!(first.stdout.contains("skipped empty data streams"), "{}", first.stdout);
    let ids = kibana.ids();
    for id in ["kumon", "kumon-exec", "kumon-search-exec", "kumon-dashboard-kumon", "kumon-dashboard-shop"] {
        let id = format!("{id}-operations");
        assert!(ids.contains(&id), "{id} is missing: {ids:?}");
    }
    let requests = kibana.requests.lock().unwrap().clone();
    assert!(requests.iter().all(|request| request.line.contains(" /s/operations/api/")), "the space's path");

    let again = setup(&node, &[]);
    assert!(again.stdout.contains("0 created, 0 changed"), "{}", again.stdout);

    // Somebody changes two dashboards; the operator changes the file of one.
    kibana.edit("kumon-dashboard-cpu-operations", "My CPUs");
    kibana.edit("kumon-dashboard-shop-operations", "My shop");
    fs::write(node.path("dashboards/shop.yml"), own.replace("Shop", "Shop 2")).unwrap();
    let kept = setup(&node, &[]);
    let left = "left dashboard kumon-dashboard-cpu-operations: it was changed since setup put it there";
    assert!(kept.stdout.contains(left), "{}", kept.stdout);
    assert_eq!(kibana.title("kumon-dashboard-cpu-operations"), "My CPUs");
    assert_eq!(kibana.title("kumon-dashboard-shop-operations"), "My shop");
    setup(&node, &["--force"]);
    assert_eq!(kibana.title("kumon-dashboard-cpu-operations"), "[KuMon] CPU");
    assert_eq!(kibana.title("kumon-dashboard-shop-operations"), "[KuMon] Shop 2");

    let removed = setup(&node, &["--remove"]);
    assert!(
        removed.stdout.contains("removed dashboard kumon-dashboard-cpu-operations"),
        "{}",
        removed.stdout
    );
    assert!(kibana.ids().is_empty(), "{:?}", kibana.ids());
}

#[test]
fn each_space_has_objects_of_its_own_and_those_of_earlier_versions_keep_their_names() {
    if !require_elasticsearch() {
        return;
    }
    let (kibana, elasticsearch) = (StandIn::start(), Elasticsearch::clean());
    let of_default = node_of(&elasticsearch, &kibana.url, "space: default", "");
    let of_operations = node(&elasticsearch, &kibana.url);
    setup(&of_default, &[]);
    let in_default = kibana.ids().len();
    setup(&of_operations, &[]);
    assert_eq!(kibana.ids().len(), 2 * in_default);
    assert!(kibana.ids().iter().all(|id| !id.starts_with("another-")), "{:?}", kibana.ids());
    for node in [&of_default, &of_operations] {
        let again = setup(node, &[]);
        assert!(again.stdout.contains("0 created, 0 changed"), "{}", again.stdout);
    }
    setup(&of_operations, &["--remove"]);
    assert_eq!(kibana.ids().len(), in_default, "the other space keeps its own");
    let again = setup(&of_default, &[]);
    assert!(again.stdout.contains("0 created, 0 changed"), "still known as KuMon's: {}", again.stdout);

    // As an earlier version left it: in a space alone, with the names of the default one.
    for (space, _) in kibana.objects.lock().unwrap().values_mut() {
        *space = "operations".into();
    }
    let later = setup(&of_operations, &[]);
    assert!(later.stdout.contains("0 created, 0 changed"), "{}", later.stdout);
    assert_eq!(kibana.ids().len(), in_default);
}

#[test]
fn rules_are_there_once_a_users_change_stays_and_they_go_when_the_agents_evaluate() {
    if !require_elasticsearch() {
        return;
    }
    let (kibana, elasticsearch) = (StandIn::start(), Elasticsearch::clean());
    let by_kibana = "alerts: { evaluated_by: kibana }\n";
    let node = node_of(&elasticsearch, &kibana.url, "space: operations", by_kibana);
    let only_rules = |arguments: &[&str]| node.run(&[&["setup", "--only", "rules"], arguments].concat());
    let first = only_rules(&[]);
    assert!(first.stdout.contains("created connector 'KuMon: Kibana's log'"), "{first:?}");
    assert!(first.stdout.contains("created rule '[KuMon] "), "{first:?}");
    let again = only_rules(&[]);
    assert!(again.stdout.contains("0 created, 0 changed"), "{again:?}");

    let rules = |kibana: &StandIn| -> Vec<(String, Value)> {
        let objects = kibana.objects.lock().unwrap().clone().into_iter();
        let rules = objects.filter(|(_, (_, object))| !object["rule_type_id"].is_null());
        rules.map(|(id, (_, rule))| (id, rule)).collect()
    };
    let there = rules(&kibana);
    let all = node.run(&["alerts", "list"]).stdout;
    assert!(there.len() > 5 && there.len() < all.lines().count(), "some alerts have no rule: {there:?}");

    // Somebody switches one off, and the operator changes what all of them do.
    let (id, _) = &there[0];
    kibana.objects.lock().unwrap().get_mut(id).unwrap().1["enabled"] = false.into();
    let text = fs::read_to_string(node.config()).unwrap();
    node.write_configuration(&text.replace("evaluated_by: kibana", "evaluated_by: kibana, interval: 5m"));
    let changed = only_rules(&[]);
    assert!(changed.stdout.contains("it was changed since setup put it there"), "{changed:?}");
    let of = |kibana: &StandIn, id: &str| rules(kibana).into_iter().find(|(known, _)| known == id).unwrap().1;
    assert_eq!(
        (&of(&kibana, id)["enabled"], &of(&kibana, id)["schedule"]),
        (&json!(false), &json!({"interval": "1m"}))
    );
    let (other, _) = &there[1];
    assert_eq!(of(&kibana, other)["schedule"], json!({"interval": "5m"}));
    only_rules(&["--force"]);
    assert_eq!(
        (&of(&kibana, id)["enabled"], &of(&kibana, id)["schedule"]),
        (&json!(true), &json!({"interval": "5m"}))
    );

    // Connectors of the user's own.
    let chat = json!({"name": "ops chat", "connector_type_id": ".slack", "config": {}});
    let tickets = json!({"name": "tickets", "connector_type_id": ".jira", "config": {}});
    for (id, connector) in [("c1", chat), ("c2", tickets)] {
        kibana.objects.lock().unwrap().insert(id.into(), ("operations".into(), connector));
    }
    let with = |names: &str| {
        let kibana = format!("evaluated_by: kibana, kibana: {{ connectors: [{names}] }}");
        node.write_configuration(&text.replace("evaluated_by: kibana", &kibana));
        only_rules(&[])
    };
    with("ops chta").expect(1, &["no connector 'ops chta'", "did you mean 'ops chat'?"]);
    with("tickets").expect(1, &["'tickets' has the type .jira", ".slack"]);
    let own = with("ops chat");
    assert!(own.stdout.contains("removed connector"), "{own:?}");
    let actions = of(&kibana, other)["actions"].clone();
    assert!(actions.as_array().unwrap().iter().all(|action| action["id"] == "c1"), "{actions}");

    node.write_configuration(&text.replace("evaluated_by: kibana", "evaluated_by: kumon"));
    let gone = only_rules(&[]);
    assert!(gone.stdout.contains("no rules: ") && gone.stdout.contains("removed rule"), "{gone:?}");
    assert!(rules(&kibana).is_empty());
    assert_eq!(kibana.ids(), ["c1", "c2"]);
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
