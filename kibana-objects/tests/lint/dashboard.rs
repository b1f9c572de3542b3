//! Rules for dashboards: the grid, what panels refer to, the drop-downs.

use std::collections::HashSet;

use serde_json::Value;

use crate::{decoded, lens, objects, readable, references};

pub(crate) fn lint(dashboard: &Value, objects: &[Value], findings: &mut Vec<String>) {
    let attributes = &dashboard["attributes"];
    for key in ["optionsJSON", "panelsJSON"] {
        if let Err(e) = decoded(&attributes[key]) {
            findings.push(format!("{key} {e}"));
        }
    }
    if attributes["timeRestore"] == true
        && (attributes["timeFrom"].is_null() || attributes["timeTo"].is_null())
    {
        findings.push("timeRestore without a time".into());
    }
    let refresh = &attributes["refreshInterval"];
    if !refresh["pause"].is_boolean() || !refresh["value"].is_u64() {
        findings.push("refreshInterval needs pause and value".into());
    }
    let panels = decoded(&attributes["panelsJSON"]).unwrap_or_default();
    let panels = panels.as_array().cloned().unwrap_or_default();
    lint_grid(&panels, findings);

    let names: HashSet<&str> = references(dashboard).into_iter().map(|[_, _, name]| name).collect();
    let mut used: HashSet<String> = HashSet::from(["tag-ref-kumon".to_owned()]);
    for panel in &panels {
        let id = panel["panelIndex"].as_str().unwrap_or_default();
        let mut of_panel = Vec::new();
        used.extend(needed(panel, id, objects, &mut of_panel));
        findings.extend(of_panel.into_iter().map(|finding| format!("panel {id}: {finding}")));
    }
    let control_group = &attributes["controlGroupInput"];
    if !control_group.is_null() {
        lint_titles(control_group, dashboard, &panels, objects, findings);
        used.extend(lint_controls(control_group, dashboard, objects, findings));
    }
    for missing in used.iter().filter(|name| !names.contains(name.as_str())) {
        findings.push(format!("the reference {missing} is missing"));
    }
    for unused in names.iter().filter(|name| !used.contains(**name)) {
        findings.push(format!("nothing uses the reference {unused}"));
    }
}

fn lint_grid(panels: &[Value], findings: &mut Vec<String>) {
    let (mut ids, mut taken) = (HashSet::new(), HashSet::new());
    for panel in panels {
        let (id, grid) = (&panel["panelIndex"], &panel["gridData"]);
        if !ids.insert(id.to_string()) {
            findings.push(format!("the panel {id} stands twice"));
        }
        if grid["i"] != *id {
            findings.push(format!("panel {id}: gridData.i is another"));
        }
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| grid[key].as_u64().unwrap_or(99));
        if w == 0 || h == 0 || x + w > 48 {
            findings.push(format!("panel {id} does not fit the 48 columns"));
            continue;
        }
        let cells = (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y)));
        if cells.filter(|cell| !taken.insert(*cell)).count() > 0 {
            findings.push(format!("panel {id} overlaps another"));
        }
    }
}

/// The names of the references that a panel needs.
fn needed(panel: &Value, id: &str, objects: &[Value], findings: &mut Vec<String>) -> Vec<String> {
    let config = &panel["embeddableConfig"];
    let names: Vec<String> = match panel["type"].as_str().unwrap_or_default() {
        "lens" => {
            let references = config["attributes"]["references"].as_array().into_iter().flatten();
            let mut views = references.filter_map(|reference| reference["id"].as_str());
            let is_summary = views.any(|view| objects::is_of_summaries(view, objects));
            readable::chart(config, is_summary, &mut |what| findings.push(what));
            lens::lint(&config["attributes"], objects, findings)
        }
        "search" => match panel["panelRefName"].as_str() {
            Some(name) => vec![name.to_owned()],
            None => {
                findings.push("a search without panelRefName".into());
                Vec::new()
            }
        },
        "links" => config["attributes"]["links"].as_array().map_or_else(Vec::new, |links| {
            links.iter().map(|link| link["destinationRefName"].as_str().unwrap_or_default().into()).collect()
        }),
        "visualization" if config["savedVis"]["type"] == "markdown" => Vec::new(),
        other => {
            findings.push(format!("an unknown panel type '{other}'"));
            Vec::new()
        }
    };
    names.into_iter().map(|name| format!("{id}:{name}")).collect()
}

fn lint_controls(
    group: &Value,
    dashboard: &Value,
    objects: &[Value],
    findings: &mut Vec<String>,
) -> Vec<String> {
    let controls = decoded(&group["panelsJSON"]).unwrap_or_else(|e| {
        findings.push(format!("controlGroupInput.panelsJSON {e}"));
        Value::Null
    });
    let views = panel_views(dashboard, objects);
    let mut names = Vec::new();
    for (id, control) in controls.as_object().into_iter().flatten() {
        if control["explicitInput"]["id"] != *id {
            findings.push(format!("the control {id} is named otherwise within"));
        }
        if control["type"] != "optionsListControl" {
            findings.push(format!("the control {id} has the type {}", control["type"]));
        }
        let field = control["explicitInput"]["fieldName"].as_str().unwrap_or_default();
        let name = format!("controlGroup_{id}:optionsListDataView");
        let view = references(dashboard).into_iter().find(|reference| reference[2] == name);
        let fields = view.and_then(|[_, view, _]| objects::fields(view, objects)).unwrap_or_default();
        if !fields.contains(field) {
            findings.push(format!("the control's field {field} is in no schema of its data view"));
        }
        if let Some([_, view, _]) = view {
            let foreign =
                objects::streams(view, objects).into_iter().filter(|stream| !views.contains(stream));
            findings.extend(foreign.map(|stream| format!("the control {field} offers values of {stream}")));
        }
        if control["explicitInput"]["title"] == field {
            findings.push(format!("the control {field} has no label"));
        }
        names.push(name);
    }
    names
}

/// A panel that a drop-down can't narrow has to say what it shows.
fn lint_titles(
    group: &Value,
    dashboard: &Value,
    panels: &[Value],
    objects: &[Value],
    findings: &mut Vec<String>,
) {
    let controls = decoded(&group["panelsJSON"]).unwrap_or_default();
    let controls = controls.as_object().into_iter().flatten();
    let fields: Vec<&str> =
        controls.filter_map(|(_, control)| control["explicitInput"]["fieldName"].as_str()).collect();
    for panel in panels {
        let id = panel["panelIndex"].as_str().unwrap_or_default();
        let of_panel =
            references(dashboard).into_iter().filter(|[_, _, name]| name.starts_with(&format!("{id}:")));
        let known: Vec<HashSet<String>> = of_panel
            .flat_map(|reference| view_of(reference, objects))
            .filter_map(|view| objects::fields(&view, objects))
            .collect();
        let is_narrowed = |field: &&str| known.iter().all(|known| known.contains(*field));
        let says = panel["title"].as_str().is_some_and(|title| title.ends_with(')'));
        if !fields.iter().all(is_narrowed) && !says {
            findings.push(format!("panel {id} doesn't say that a drop-down leaves it alone"));
        }
    }
}

/// The data streams that the dashboard's panels show.
fn panel_views(dashboard: &Value, objects: &[Value]) -> HashSet<String> {
    let shown = references(dashboard).into_iter().filter(|[_, _, name]| !name.starts_with("controlGroup_"));
    let views = shown.flat_map(|reference| view_of(reference, objects));
    views.flat_map(|view| objects::streams(&view, objects)).collect()
}

/// The data view that a reference leads to, by way of a search where it does.
fn view_of([r#type, id, _]: [&str; 3], objects: &[Value]) -> Option<String> {
    match r#type {
        "index-pattern" => Some(id.to_owned()),
        "search" => {
            let search = objects.iter().find(|object| object["type"] == "search" && object["id"] == id)?;
            let view = references(search).into_iter().find(|[r#type, ..]| *r#type == "index-pattern");
            view.map(|[_, view, _]| view.to_owned())
        }
        _ => None,
    }
}
