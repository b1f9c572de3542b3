//! The local web page, in a real browser and by plain HTTP.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::ffi::OsStr;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use common::{Kumon, Node, PATIENCE, mark};
use kumon_testing::{free_port, require_bpf, require_program, require_root, wait_for};

const BROWSER: &str = "chromium";

struct Page {
    node: Node,
    agent: Kumon,
    /// With the key.
    address: String,
}

impl Page {
    /// An agent of these `arguments` and its page.
    fn start(arguments: &[&str], more: &str) -> Page {
        Page::of(Node::new(""), arguments, more)
    }

    fn of(node: Node, arguments: &[&str], more: &str) -> Page {
        let port = free_port();
        node.configure(&format!("web: {{ listen: '127.0.0.1:{port}' }}\n{more}"));
        let agent = node.start_agent(arguments);
        agent.wait_for_log(&["the web page listens on"]);
        let shown = node.run(&["web"]);
        shown.expect(0, &[]);
        Page { address: shown.stdout.trim().to_owned(), node, agent }
    }

    fn host(&self) -> &str {
        self.address.split("/?key=").next().unwrap()
    }

    fn key(&self) -> &str {
        self.address.split("/?key=").nth(1).unwrap()
    }

    /// An HTTP request's answer with its head.
    fn curl(&self, path: &str, more: &[&str]) -> String {
        let url = format!("{}{path}", self.host());
        let ended = Command::new("curl")
            .args(["-sS", "-i", "--max-time", "20"])
            .args(more)
            .arg(url)
            .output()
            .unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        String::from_utf8(ended.stdout).unwrap()
    }

    /// The elements of a view as they stand after its scripts have run, in a browser that was let in with the key.
    fn browse(&self, view: &str) -> String {
        let profile = self.node.path("browser");
        if !profile.exists() {
            self.load(&profile, &self.address);
        }
        self.load(&profile, &format!("{}{view}", self.host()))
    }

    fn load(&self, profile: &Path, url: &str) -> String {
        let ended = Command::new(BROWSER)
            .args([
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--virtual-time-budget=20000",
                "--dump-dom",
            ])
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg(url)
            .output()
            .unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        String::from_utf8(ended.stdout).unwrap()
    }
}

#[test]
fn without_the_key_nobody_sees_a_row() {
    if !require_program("curl") || !require_root() {
        return;
    }
    let page = Page::start(&["ship"], "");
    let question = r#"{"metric":"exec","since":0,"until":4000000000000,"limit":10}"#;
    let ask = |cookie: &str| {
        page.curl("/api/rows", &["-H", "content-type: application/json", "-H", cookie, "-d", question])
    };
    for cookie in ["x: y", "cookie: kumon=", "cookie: kumon=00000000000000000000000000000000"] {
        let answer = ask(cookie);
        assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
        assert!(!answer.contains("total"), "{answer}");
    }
    let locked = page.curl("/", &[]);
    assert!(locked.starts_with("HTTP/1.1 401") && locked.contains("kumon web"), "{locked}");
    assert!(page.curl("/?key=wrong", &[]).starts_with("HTTP/1.1 401"));

    // The address that `kumon web` shows gives a cookie that scripts and other sites can't use, and hides the key.
    let opened = page.curl(&format!("/?key={}", page.key()), &[]);
    assert!(opened.starts_with("HTTP/1.1 303") && opened.contains("location: /\r"), "{opened}");
    assert!(opened.contains("HttpOnly; SameSite=Strict"), "{opened}");
    assert!(opened.contains("default-src 'none'"), "{opened}");
    let rows = ask(&format!("cookie: kumon={}", page.key()));
    assert!(rows.starts_with("HTTP/1.1 200") && rows.ends_with(r#"{"total":0,"rows":[]}"#), "{rows}");
    let by_form = page.curl("/", &["-d", &format!("key={}", page.key())]);
    assert!(by_form.starts_with("HTTP/1.1 303"), "{by_form}");

    // Who isn't of KuMon's group doesn't get it.
    fs::set_permissions(page.node.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let other = page.node.spawn(&mut common::as_nobody(&page.node, &["web"])).wait();
    other.expect(1, &["web.key", "group"]);
    assert!(!page.agent.stderr().contains(page.key()), "the log holds the key");
    page.agent.terminate().expect(0, &[]);
}

#[test]
fn a_browser_shows_rows_as_text_and_mistakes_with_their_place() {
    if !require_bpf() || !require_program(BROWSER) {
        return;
    }
    let page = Page::start(&["run"], "");
    let hostile = "<img src=x onerror=alert(1)>,\"b";
    mark(&page.node.path(""), OsStr::new("kumon-marked"), &[OsStr::new(hostile)]);
    wait_for("the marked row", PATIENCE, || page.node.rows("exec", "process.name:kumon-marked").len() == 1);

    let found = page.browse("/#/rows?metric=exec&query=process.name%3Akumon-marked");
    assert!(found.contains("1 rows"), "{found}");
    assert!(found.contains("&lt;img src=x onerror=alert(1)&gt;"), "{found}");
    assert!(!found.contains("<img"), "{found}");
    assert!(found.contains(">process.pid<"), "{found}");
    for left_out in ["host.name", "process.entity_id", "kumon.cgroup.id"] {
        assert!(!found.contains(&format!(">{left_out}<")), "{left_out}: {found}");
    }

    let none = page.browse("/#/rows?metric=exec&query=process.name%3Anobody-called-this");
    assert!(none.contains("No match"), "{none}");
    let mistake = page.browse("/#/rows?metric=exec&query=process.nam%3Ax");
    assert!(
        mistake.contains("error in the query at column 1") && mistake.contains("process.name"),
        "{mistake}"
    );
    page.agent.terminate().expect(0, &[]);
}

#[test]
fn a_browser_draws_every_dashboard() {
    if !require_bpf() || !require_program(BROWSER) {
        return;
    }
    let page =
        Page::start(&["run"], "collectors: { cputime: { interval: 1s }, runqlat: { interval: 1s } }\n");
    wait_for("a summary's row", PATIENCE, || {
        !page.node.rows("cputime", "").is_empty() && !page.node.rows("runqlat_hist", "").is_empty()
    });
    let landing = page.browse("/");
    for dashboard in kumon_dashboards::builtin() {
        assert!(
            landing.contains(&format!("#/{}?", dashboard.name)),
            "no way to {}: {landing}",
            dashboard.name
        );
        let shown = page.browse(&format!("/#/{}?range=15m", dashboard.name));
        assert!(!shown.contains("class=\"error\""), "{}: {shown}", dashboard.name);
        for panel in &dashboard.panels {
            assert!(
                shown.contains(&format!("id=\"panel-{}\"", panel.id)),
                "{}: {} is missing",
                dashboard.name,
                panel.id
            );
        }
        // The sign of a panel that still waits for its numbers.
        assert!(!shown.contains(">…</p>"), "{}: {shown}", dashboard.name);
    }
    let cpu = page.browse("/#/cpu?range=15m");
    assert!(cpu.contains("class=\"uplot") && cpu.contains("class=\"heat\""), "{cpu}");
    // Nobody told that process's waits apart: those of the whole node stay, and say so.
    let narrowed = page.browse("/#/cpu?range=15m&process.name=no-such-process");
    assert!(narrowed.contains("<h2>CPU time</h2>"), "{narrowed}");
    let (_, waits) = narrowed.split_once("<h2>Mean wait for a CPU (all processes)</h2>").unwrap();
    assert!(!waits.split("</section>").next().unwrap().contains(">–<"), "{waits}");
    page.agent.terminate().expect(0, &[]);
}

#[test]
fn ones_own_dashboards_are_there_and_a_wrong_one_is_named_and_hides_no_other() {
    if !require_program("curl") {
        return;
    }
    const OTHER: &str = "title: Other\npanels: [{ title: Ends, kind: number, metric: exit, values: [{ operation: count }] }]\n";
    let shown = |text: &str| {
        let node = Node::new("");
        fs::create_dir(node.path("dashboards")).unwrap();
        fs::write(node.path("dashboards/mine.yml"), text).unwrap();
        fs::write(node.path("dashboards/other.yml"), OTHER).unwrap();
        let page = Page::of(node, &["ship"], "");
        let cookie = format!("cookie: kumon={}", page.key());
        let shown = page.curl("/api/dashboards", &["-H", &cookie]);
        (shown, page.agent.terminate().stderr)
    };
    let right = "title: Mine\npanels: [{ title: Starts, kind: number, metric: exec, values: [{ operation: count }] }]\n";
    let (both, _) = shown(right);
    assert!(both.contains("\"name\":\"mine\"") && both.contains("\"name\":\"cpu\""), "{both}");
    let (others, log) = shown(&right.replace("metric: exec", "metric: exek"));
    assert!(!others.contains("\"name\":\"mine\"") && others.contains("\"name\":\"cpu\""), "{others}");
    assert!(others.contains("\"name\":\"other\""), "one's other ones stay: {others}");
    assert!(log.contains("mine.yml") && log.contains("exek"), "{log}");
}

#[test]
fn an_agent_whose_address_is_taken_works_without_its_page() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let node = Node::new(&format!("web: {{ listen: '{address}' }}\n"));
    let agent = node.start_agent(&["ship"]);
    agent.wait_for_log(&["the web page is left out", &address.to_string(), "web.enabled"]);
    node.run(&["query", "exec"]).expect(1, &["no match"]);
    agent.terminate().expect(0, &[]);
}
