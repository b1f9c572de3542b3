//! Dashboards.

use serde_json::{Map, Value, json};

use super::data_view;
use super::lens;
use super::object::{Reference, SavedObject, SavedObjectType, encoded, in_kql, search_source};
use super::search;
use crate::model::{ChartKind, Content, Control, Dashboard, Link, Panel};
use crate::resolve::id_of;

/// Kibana's grid has 48 columns and rows of 20 pixels.
const GRID_COLUMNS: u32 = 48 / crate::layout::WIDTH;
const GRID_ROWS: u32 = 3;

pub(super) fn render(dashboard: &Dashboard) -> SavedObject {
    let mut references = vec![Reference::to_tag()];
    let panels: Vec<Value> =
        dashboard.panels.iter().map(|panel| render_panel(dashboard, panel, &mut references)).collect();
    let mut attributes = json!({
        "title": format!("[KuMon] {}", dashboard.title),
        "description": dashboard.description,
        "timeRestore": true,
        "timeFrom": "now-1h",
        "timeTo": "now",
        "refreshInterval": {"pause": false, "value": 30_000},
        "version": 1,
        "optionsJSON": encoded(&json!({
            "useMargins": true, "syncColors": false, "syncCursor": true, "syncTooltips": false,
            "hidePanelTitles": false,
        })),
        "panelsJSON": encoded(&panels.into()),
        "kibanaSavedObjectMeta": search_source(&in_kql(""), None),
    });
    if !dashboard.controls.is_empty() {
        attributes["controlGroupInput"] = controls(dashboard, &mut references);
    }
    SavedObject { r#type: SavedObjectType::Dashboard, id: id(&dashboard.name), attributes, references }
}

fn id(name: &str) -> String {
    format!("kumon-dashboard-{name}")
}

fn render_panel(dashboard: &Dashboard, panel: &Panel, references: &mut Vec<Reference>) -> Value {
    let panel = &Panel { title: title(dashboard, panel), ..panel.clone() };
    let (place, id) = (panel.place, &panel.id);
    let mut json = json!({
        "panelIndex": id,
        "gridData": {
            "x": place.x * GRID_COLUMNS, "y": place.y * GRID_ROWS,
            "w": place.width * GRID_COLUMNS, "h": place.height * GRID_ROWS, "i": id,
        },
        "title": panel.title,
    });
    let (r#type, config, own) = match &panel.content {
        Content::Chart(chart) => {
            let (mut config, own) = lens::render(panel, chart);
            // A tile has its title within.
            if chart.kind == ChartKind::Number {
                config["hidePanelTitles"] = true.into();
            }
            ("lens", config, own)
        }
        Content::Joined(parts) => {
            let (config, own) = lens::render_joined(panel, parts, data_view::id_of_dashboard(dashboard));
            ("lens", config, own)
        }
        Content::Rows(rows) => {
            let name = format!("panel_{id}");
            let search = search::id(dashboard, id, rows);
            json["panelRefName"] = name.clone().into();
            let own = vec![Reference::new(SavedObjectType::Search, search, name)];
            ("search", json!({"enhancements": {}}), own)
        }
        // Both tell what they are by themselves.
        Content::Text(text) => {
            json["title"] = "".into();
            ("visualization", markdown(text), Vec::new())
        }
        Content::Links(targets) => {
            json["title"] = "".into();
            let (config, own) = links(targets);
            ("links", config, own)
        }
    };
    json["type"] = r#type.into();
    json["embeddableConfig"] = config;
    let of_panel = |reference: Reference| Reference { name: format!("{id}:{}", reference.name), ..reference };
    references.extend(own.into_iter().map(of_panel));
    json
}

/// The panel's title, with what it goes on to show whatever is chosen in a drop-down.
fn title(dashboard: &Dashboard, panel: &Panel) -> String {
    match dashboard.foreign_controls(panel).as_slice() {
        [] => panel.title.clone(),
        [control] => format!("{} ({})", panel.title, control.without()),
        _ => format!("{} (whole node)", panel.title),
    }
}

fn markdown(text: &str) -> Value {
    let search_source = json!({"query": {"query": "", "language": "kuery"}, "filter": []});
    json!({
        "savedVis": {
            "id": "", "title": "", "description": "", "type": "markdown", "uiState": {},
            "params": {"fontSize": 12, "openLinksInNewTab": false, "markdown": text},
            "data": {"aggs": [], "searchSource": search_source},
        },
        "enhancements": {},
    })
}

/// A links panel: buttons that keep the time range and the filters.
fn links(targets: &[Link]) -> (Value, Vec<Reference>) {
    let (mut links, mut references) = (Vec::new(), Vec::new());
    for (number, target) in targets.iter().enumerate() {
        let name = format!("link_link-{number}_dashboard");
        links.push(json!({
            "id": format!("link-{number}"), "order": number, "label": target.label, "type": "dashboardLink",
            "destinationRefName": name,
            "options": {"openInNewTab": false, "useCurrentFilters": true, "useCurrentDateRange": true},
        }));
        references.push(Reference::new(SavedObjectType::Dashboard, id(&target.dashboard), name));
    }
    (json!({"attributes": {"layout": "horizontal", "links": links}, "enhancements": {}}), references)
}

/// The drop-downs.
fn controls(dashboard: &Dashboard, references: &mut Vec<Reference>) -> Value {
    let mut panels = Map::new();
    for (order, control) in dashboard.controls.iter().enumerate() {
        let Control { field, label } = control;
        let id = format!("control-{}", id_of(field));
        panels.insert(
            id.clone(),
            json!({
                "order": order, "width": "medium", "grow": true, "type": "optionsListControl",
                "explicitInput": {
                    "id": id, "fieldName": field, "title": label, "singleSelect": false,
                    "selectedOptions": [], "enhancements": {},
                },
            }),
        );
        let name = format!("controlGroup_{id}:optionsListDataView");
        references.push(Reference::new(
            SavedObjectType::DataView,
            data_view::id_of_control(dashboard, control),
            name,
        ));
    }
    let ignore = json!({
        "ignoreFilters": false, "ignoreQuery": false, "ignoreTimerange": false, "ignoreValidations": false,
    });
    json!({
        "controlStyle": "oneLine",
        "chainingSystem": "HIERARCHICAL",
        "panelsJSON": encoded(&Value::Object(panels)),
        "ignoreParentSettingsJSON": encoded(&ignore),
    })
}
