//! What a dashboard's author is told.
//!
//! Runs beside other tests.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use kumon_dashboards::{Catalog, Content, SourceFile, builtin_sources, read};

fn read_one(text: &str) -> Result<(), String> {
    let file = SourceFile { path: "shop.yml".into(), text: text.to_owned() };
    match read(&[file], Catalog::builtin()) {
        Ok(_) => Ok(()),
        Err(errors) => Err(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
    }
}

/// A dashboard of one panel, in the third line.
fn panel(panel: &str) -> Result<(), String> {
    read_one(&format!("title: Shop\npanels:\n  - {{ title: A, {panel} }}\n"))
}

#[test]
fn mistakes_are_named_with_their_place_and_what_is_allowed() {
    let mut wrong = Vec::new();
    let counted = "values: [{ operation: count }]";
    for (text, expected) in [
        (
            "kind: lines",
            &["line 3 column 23", "unknown variant `lines`, expected one of number, line, bar"][..],
        ),
        ("kind: number", &["column 23", "a panel of kind 'number' needs 'metric'"]),
        (
            "kind: number, metric: exe, values: []",
            &["column 39", "there is no metric 'exe'; did you mean 'exec'?"],
        ),
        ("kind: number, metric: zzz, values: []", &["known are: agent, biolatency"]),
        ("kind: number, metric: exec", &["needs 'values'"]),
        ("kind: number, metric: exec, values: []", &["exactly one value, not 0"]),
        ("kind: number, metric: exec, valuse: []", &["unknown field `valuse`", "values"]),
        (
            "kind: number, metric: exec, top: 5",
            &["a panel of kind 'number' has no 'top'; it has: metric, query, values"],
        ),
        (
            "kind: number, metric: exec, values: [{ metric: exit, operation: count }]",
            &["only values of a table without 'metric' have one each"],
        ),
        (
            "kind: table, breakdown: [host.name], values: [{ metric: exec, operation: count }, { operation: count }]",
            &["needs 'metric'"],
        ),
        (
            "kind: table, breakdown: [kumon.disk.name], values: [{ metric: exec, operation: count }]",
            &["the metric 'exec' has no field 'kumon.disk.name'"],
        ),
        (
            "kind: table, query: '*', breakdown: [host.name], values: [{ metric: exec, operation: count }]",
            &["a table of several metrics has no 'query'"],
        ),
        (
            "kind: table, breakdown: [host.name], values: [{ metric: exec, operation: count, per: row }]",
            &["values of several metrics have no 'per'"],
        ),
        ("kind: links, text: x", &["has no 'text'; it has: links"]),
        ("kind: links, links: [shopp]", &["there is no dashboard 'shopp'; did you mean 'shop'?"]),
        (
            "kind: number, metric: exec, values: [{ operation: avg, field: process.pid }]",
            &["unknown variant `avg`", "average"],
        ),
        ("kind: number, metric: exec, values: [{ operation: sum }]", &["needs a 'field'"]),
        (
            "kind: number, metric: exec, values: [{ operation: count, field: process.pid }]",
            &["count is of rows"],
        ),
        (
            "kind: line, metric: tcplife, values: [{ operation: count, per: second, unit: at_a_time }]",
            &["only a time 'per: second' tells how many"],
        ),
        (
            "kind: line, metric: exec, values: [{ operation: count, unit: threads }]",
            &["unknown variant `threads`"],
        ),
        (
            "kind: line, metric: exec, values: [{ operation: count, red_from: 1 }]",
            &["only a panel of kind 'number' turns red"],
        ),
        (
            "kind: number, metric: exec, values: [{ operation: sum, field: process.pd }]",
            &["has no field 'process.pd'; did you mean 'process.pid'?"],
        ),
        (
            "kind: number, metric: runqlat, values: [{ operation: max, field: p99 }]",
            &["the column 'p99' is the field 'kumon.runqlat.p99'"],
        ),
        (
            "kind: number, metric: exec, values: [{ operation: sum, field: process.name }]",
            &["'process.name' is a keyword, not a number"],
        ),
        (
            "kind: number, metric: runqlat, values: [{ operation: average, field: kumon.runqlat.p99 }]",
            &[
                "'kumon.runqlat.p99' is a p99 of its interval",
                "weigh a quiet interval like a busy one",
                "take 'operation: sum' of kumon.runqlat.sum, 'per: kumon.runqlat.count'",
            ],
        ),
        (
            "kind: number, metric: runqlat, values: [{ operation: average, field: kumon.runqlat.throttled.sum }]",
            &["sum' of kumon.runqlat.throttled.sum, 'per: kumon.runqlat.throttled.count'"],
        ),
        ("kind: number, metric: exec, values: [{ operation: count, per: second }]", &["needs a time axis"]),
        (
            "kind: line, metric: exec, values: [{ operation: max, field: process.pid, per: row }]",
            &["only counts and sums"],
        ),
        (&format!("kind: table, metric: exec, {counted}"), &["one to three fields as its breakdown, not 0"]),
        (
            &format!("kind: pie, metric: exec, breakdown: [process.executable.text], {counted}"),
            &["leave out '.text'"],
        ),
        (&format!("kind: bar, metric: exec, over: '@timestamp', {counted}"), &["take 'over: time'"]),
        (&format!("kind: bar, metric: exec, over: time, top: 0, {counted}"), &["top is 1 to 1000"]),
        (&format!("kind: number, metric: exec, width: 13, {counted}"), &["width is 1 to 12"]),
        (
            &format!("kind: number, metric: exec, query: 'process.nam:x', {counted}"),
            &["error in the query at column 1", "did you mean 'process.name'?"],
        ),
        ("kind: rows, metric: exec, columns: [proces.name]", &["did you mean 'process.name'?"]),
    ] {
        let message = panel(text).expect_err(text);
        let missing = expected.iter().filter(|part| !message.contains(**part)).count();
        if missing > 0 || !message.starts_with("shop.yml: line 3") {
            wrong.push(format!("{text}\n  {message}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn all_mistakes_of_a_file_are_told_at_once() {
    let text = "title: Shop\ncontrols: [host.nam]\npanels:\n\
                \x20 - { title: A, kind: rows, metric: exe }\n  - { title: A, kind: rows, metric: exec }\n";
    let message = read_one(text).unwrap_err();
    for part in [
        "line 2",
        "no metric has a field 'host.nam' with values; did you mean 'host.name'?",
        "line 4",
        "no metric 'exe'",
        "line 5",
        "stands in line 4",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert!(read_one("title: Shop\n").unwrap_err().contains("panels"));
    assert!(read_one("title: [\n").unwrap_err().contains("line "));
    let file = SourceFile { path: "My Shop.yml".into(), text: "title: Shop\npanels: []\n".into() };
    assert!(read(&[file], Catalog::builtin()).unwrap_err()[0].to_string().contains("'My Shop' must be"));
}

#[test]
fn the_example_in_the_manual_is_a_dashboard() {
    let page = include_str!("../../docs/dashboards.md");
    let example = page.split("```yaml\n").find(|block| block.starts_with("title: Shop")).unwrap();
    let text = example.split("```").next().unwrap().to_owned();
    let mut files = builtin_sources();
    files.push(SourceFile { path: "shop.yml".into(), text });
    let dashboards = read(&files, Catalog::builtin()).unwrap();
    assert_eq!(dashboards.last().unwrap().panels.len(), 5);
}

#[test]
fn the_manual_names_every_dashboard_and_panels_that_exist() {
    let page = include_str!("../../docs/dashboards.md");
    let table = page.split("## Where each view is").nth(1).unwrap().split("\n\n").next().unwrap();
    for line in table.lines().skip(3).filter(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let boards = kumon_dashboards::builtin().iter().filter(|board| cells[2].contains(&board.title));
        let titles: Vec<&str> =
            boards.flat_map(|board| &board.panels).map(|panel| panel.title.as_str()).collect();
        let named = cells[3].split("; ").filter(|name| !name.is_empty());
        for name in named.map(|name| name.trim_end_matches(" (heat map)").trim_end_matches(", …")) {
            // 'also CPU: X' leads to another dashboard; 'by container' sums several up.
            let name = name.rsplit(": ").next().unwrap();
            let summed_up = name.contains("by container");
            assert!(
                summed_up || titles.contains(&name),
                "docs/dashboards.md: no panel '{name}' in {}",
                cells[2]
            );
        }
    }
    for board in kumon_dashboards::builtin() {
        assert!(page.contains(&format!("`{}.yml`", board.name)), "{}", board.name);
    }
}

#[test]
fn the_audit_logs_lead_to_the_rows_of_every_metric() {
    let audit = kumon_dashboards::builtin().iter().find(|dashboard| dashboard.name == "audit").unwrap();
    let texts = audit.panels.iter().filter_map(|panel| match &panel.content {
        Content::Text(text) => Some(text.as_str()),
        _ => None,
    });
    let text: String = texts.collect();
    // Rows by 10 minutes say nothing that those which they sum up don't.
    for schema in kumon_schema::all().iter().filter(|schema| schema.coarse_of.is_none()) {
        let link = format!("[{}](discover#/view/kumon-search-", schema.name);
        assert!(text.contains(&link), "audit.yml has no way to the rows of {}", schema.name);
    }
}

#[test]
fn an_input_can_be_shown_and_its_fields_are_not_checked() {
    let catalog = Catalog::builtin().clone().with_inputs(["app.events"]);
    let text = "title: Shop\npanels:\n  - { title: A, kind: table, metric: app.events, breakdown: [user.name], \
                values: [{ operation: average, field: load }] }\n";
    let file = SourceFile { path: "shop.yml".into(), text: text.into() };
    let dashboards = read(&[file], &catalog).unwrap();
    assert_eq!(dashboards[0].panels[0].content.metrics()[0].pattern, "logs-app.events-*");
}
