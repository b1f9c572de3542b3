//! Something broken for each rule.

use serde_json::{Value, json};

use crate::decoded;

type Mutation = (&'static str, fn(&mut Vec<Value>), &'static str);

/// What is broken, how, and what the linter has to say.
pub(crate) const ALL: &[Mutation] = &[
    ("an object twice", |o| o.push(o[0].clone()), "the id stands twice"),
    ("an id in capitals", |o| find(o, "tag")["id"] = "KuMon".into(), "not in lower-case words"),
    ("a key of an export", |o| find(o, "tag")["updatedAt"] = "now".into(), "unknown key updatedAt"),
    (
        "a newer core stamp",
        |o| find(o, "search")["coreMigrationVersion"] = "9.0.0".into(),
        "coreMigrationVersion",
    ),
    ("a newer type stamp", |o| find(o, "dashboard")["typeMigrationVersion"] = "10.0.0".into(), "not 8.9.0"),
    ("no stamp", |o| drop(object(find(o, "search")).remove("typeMigrationVersion")), "not 8.0.0"),
    ("an unknown type", |o| find(o, "tag")["type"] = "canvas".into(), "an unknown type"),
    (
        "an attribute less",
        |o| drop(attributes(o, "search").remove("columns")),
        "attribute columns is missing",
    ),
    (
        "an attribute more",
        |o| drop(attributes(o, "search").insert("x".into(), 1.into())),
        "unknown attribute x",
    ),
    ("a colour by name", |o| drop(attributes(o, "tag").insert("color".into(), "red".into())), "colour"),
    (
        "a format that is no JSON",
        |o| drop(attributes(o, "index-pattern").insert("fieldFormatMap".into(), "{".into())),
        "is no JSON",
    ),
    (
        "a missing data view",
        |o| o.retain(|o| o["id"] != "kumon-runqlat"),
        "leads to nothing: index-pattern/kumon-runqlat",
    ),
    ("a missing search", |o| o.retain(|o| o["id"] != "kumon-search-runqslower"), "leads to nothing: search"),
    (
        "a missing dashboard",
        |o| o.retain(|o| o["id"] != "kumon-dashboard-storage"),
        "leads to nothing: dashboard",
    ),
    ("a missing tag", |o| o.retain(|o| o["type"] != "tag"), "leads to nothing: tag/kumon"),
    ("a reference name twice", |o| twice(&mut find(o, "dashboard")["references"]), "stands twice"),
    ("a tag by another name", |o| tag_reference(find(o, "dashboard")), "not tag-ref-kumon"),
    ("a data view by id", |o| source(find(o, "search"), "index", "kumon-exec"), "names its data view"),
    (
        "a search without data view",
        |o| source(find(o, "search"), "indexRefName", "other"),
        "has no data view",
    ),
    (
        "a column that no schema has",
        |o| drop(attributes(o, "search").insert("columns".into(), json!(["proces.name"]))),
        "is no field of",
    ),
    (
        "the oldest rows first",
        |o| drop(attributes(o, "search").insert("sort".into(), json!([["@timestamp", "asc"]]))),
        "newest rows",
    ),
    (
        "panels as an array",
        |o| drop(attributes(o, "dashboard").insert("panelsJSON".into(), json!([]))),
        "is not a string",
    ),
    (
        "options that are no JSON",
        |o| drop(attributes(o, "dashboard").insert("optionsJSON".into(), "x".into())),
        "optionsJSON is no JSON",
    ),
    (
        "a time range without end",
        |o| drop(attributes(o, "dashboard").remove("timeTo")),
        "timeRestore without",
    ),
    (
        "a refresh without pause",
        |o| attributes(o, "dashboard")["refreshInterval"] = json!({"value": 5}),
        "refreshInterval",
    ),
    (
        "a panel twice",
        |o| {
            panels(o, |p| {
                let first = p[1].clone();
                p.push(first);
            })
        },
        "stands twice",
    ),
    (
        "a panel over another",
        |o| panels(o, |p| p[2]["gridData"] = grid(&p[2], p[1]["gridData"]["x"].clone())),
        "overlaps another",
    ),
    ("a panel beyond the edge", |o| panels(o, |p| p[1]["gridData"]["x"] = 47.into()), "does not fit"),
    ("a panel of no height", |o| panels(o, |p| p[1]["gridData"]["h"] = 0.into()), "does not fit"),
    ("another panel's place", |o| panels(o, |p| p[1]["gridData"]["i"] = "x".into()), "gridData.i"),
    ("an unknown panel type", |o| panels(o, |p| p[1]["type"] = "canvas".into()), "an unknown panel type"),
    (
        "a search without its name",
        |o| panels(o, |p| drop(object(last(p)).remove("panelRefName"))),
        "without panelRefName",
    ),
    ("a panel without its reference", |o| panels(o, |p| last(p)["panelRefName"] = "x".into()), "is missing"),
    ("a reference that nothing uses", |o| panels(o, |p| drop(p.pop())), "nothing uses the reference"),
    (
        "a link without reference",
        |o| {
            panels(o, |p| {
                p[0]["embeddableConfig"]["attributes"]["links"][0]["destinationRefName"] = "x".into()
            })
        },
        "reference dashboards:x is missing",
    ),
    (
        "a control by another name",
        |o| controls(o, |c| c["control-host-name"]["explicitInput"]["id"] = "x".into()),
        "named otherwise",
    ),
    (
        "a control of another kind",
        |o| controls(o, |c| c["control-host-name"]["type"] = "slider".into()),
        "has the type",
    ),
    (
        "a control's wrong field",
        |o| controls(o, |c| c["control-host-name"]["explicitInput"]["fieldName"] = "hostname".into()),
        "is in no schema",
    ),
    (
        "steps as short as Kibana likes",
        |o| lens(o, "time", |_, layer| layer["columns"]["time"]["params"]["interval"] = "auto".into()),
        "shorter than what a row covers",
    ),
    (
        "a control over all metrics",
        |o| {
            let references = find(o, "dashboard")["references"].as_array_mut().unwrap();
            let of_control = |r: &&mut Value| r["name"].as_str().unwrap().starts_with("controlGroup_");
            references.iter_mut().find(of_control).unwrap()["id"] = "kumon-all".into();
        },
        "offers values of",
    ),
    (
        "a title as if everything could be narrowed",
        |o| {
            let storage = o.iter_mut().find(|o| o["id"] == "kumon-dashboard-storage").unwrap();
            within(&mut storage["attributes"]["panelsJSON"], |panels| {
                let mut panels = panels.as_array_mut().unwrap().iter_mut();
                let ends = |panel: &&mut Value| panel["title"].as_str().unwrap().ends_with("(all processes)");
                panels.find(ends).unwrap()["title"] = "Mean latency".into();
            });
        },
        "a drop-down leaves it alone",
    ),
    (
        "a control without reference",
        |o| {
            controls(o, |c| {
                c["x"] = json!({"type": "optionsListControl", "explicitInput": {"id": "x", "fieldName": "host.name"}})
            })
        },
        "controlGroup_x:optionsListDataView is missing",
    ),
    (
        "an unknown visualization",
        |o| lens(o, "v0", |a, _| a["visualizationType"] = "lnsGauge3D".into()),
        "an unknown visualization",
    ),
    (
        "a chart without a query",
        |o| lens(o, "v0", |a, _| drop(object(&mut a["state"]).remove("query"))),
        "state.query is missing",
    ),
    (
        "a layer of old",
        |o| lens(o, "v0", |a, _| a["state"]["datasourceStates"] = json!({"indexpattern": {}})),
        "no formBased layer",
    ),
    ("a chart without data view", |o| lens(o, "v0", |a, _| a["references"] = json!([])), "has no data view"),
    (
        "a column left out of the order",
        |o| lens(o, "v0", |_, l| drop(l["columnOrder"].as_array_mut().unwrap().pop())),
        "columnOrder and columns differ",
    ),
    (
        "a field that no schema has",
        |o| lens(o, "v0X0", |_, l| l["columns"]["v0X0"]["sourceField"] = "kumon.runqlat.summ".into()),
        "is in no schema",
    ),
    (
        "a sum of names",
        |o| lens(o, "v0X0", |_, l| l["columns"]["v0X0"]["sourceField"] = "host.name".into()),
        "a sum of a keyword",
    ),
    (
        "a breakdown of another type",
        |o| lens(o, "by0", |_, l| l["columns"]["by0"]["dataType"] = "number".into()),
        "dataType is",
    ),
    (
        "an unknown operation",
        |o| lens(o, "v0", |_, l| l["columns"]["v0"]["operationType"] = "mode".into()),
        "an unknown operation",
    ),
    (
        "a column without label",
        |o| lens(o, "v0", |_, l| drop(object(&mut l["columns"]["v0"]).remove("label"))),
        "label is missing",
    ),
    (
        "a formula without math",
        |o| lens(o, "v0X2", |_, l| remove_column(l, "v0X2")),
        "without its math column",
    ),
    ("a formula without a part", |o| lens(o, "v0X1", |_, l| remove_column(l, "v0X1")), "which is missing"),
    (
        "a broken formula",
        |o| lens(o, "v0X0", |_, l| l["columns"]["v0"]["params"]["isFormulaBroken"] = true.into()),
        "a broken formula",
    ),
    (
        "math with other columns",
        |o| lens(o, "v0X2", |_, l| l["columns"]["v0X2"]["params"]["tinymathAst"]["args"] = json!(["v0X0"])),
        "calculates with other columns",
    ),
    (
        "an order by nothing",
        |o| {
            lens(o, "by0", |_, l| {
                l["columns"]["by0"]["params"]["orderBy"] = json!({"type": "column", "columnId": "x"})
            })
        },
        "ordered by a column",
    ),
    (
        "an order by no aggregation",
        |o| {
            lens(o, "by0", |_, l| {
                l["columns"]["by0"]["params"]["orderBy"] = json!({"type": "custom"});
                object(&mut l["columns"]["by0"]["params"]).remove("orderAgg");
            })
        },
        "ordered by an aggregation",
    ),
    (
        "a value that is no column",
        |o| lens(o, "v0", |a, _| a["state"]["visualization"] = json!({"metricAccessor": "x"})),
        "which is no column",
    ),
    (
        "a query bar in Lucene",
        |o| {
            within(
                &mut find(o, "dashboard")["attributes"]["kibanaSavedObjectMeta"]["searchSourceJSON"],
                |source| {
                    source["query"]["language"] = "lucene".into();
                },
            );
        },
        "query bar is not in KQL",
    ),
    (
        "a search in Lucene",
        |o| {
            let search =
                o.iter_mut().find(|o| o["id"].as_str().unwrap().starts_with("kumon-search-self-")).unwrap();
            within(&mut search["attributes"]["kibanaSavedObjectMeta"]["searchSourceJSON"], |source| {
                source["query"] = json!({"language": "lucene", "query": "kumon.agent.lost:{0 TO *]"});
            });
        },
        "its query bar is not in KQL",
    ),
    (
        "a chart's query bar in Lucene",
        |o| lens(o, "v0", |a, _| a["state"]["query"] = json!({"query": "", "language": "lucene"})),
        "query bar is not in KQL",
    ),
    ("fields without labels", |o| view(o, "fieldAttrs", |a| *a = json!({})), "has no label"),
    (
        "whole container ids",
        |o| view(o, "fieldFormatMap", |f| drop(object(f).remove("container.id"))),
        "container.id is not cut to 12",
    ),
    (
        "signals by number",
        |o| view(o, "fieldFormatMap", |f| drop(object(f).remove("kumon.exit.signal"))),
        "kumon.exit.signal has numbers without names",
    ),
    (
        "times of one decimal",
        |o| view(o, "fieldFormatMap", |f| f["kumon.runqlat.p99"]["params"]["outputPrecision"] = 1.into()),
        "kumon.runqlat.p99: short times",
    ),
    (
        "rows of any height",
        |o| drop(attributes(o, "search").insert("rowHeight".into(), 3.into())),
        "more than one line",
    ),
    (
        "columns of any width",
        |o| drop(attributes(o, "search").insert("grid".into(), json!({}))),
        "column @timestamp has no width",
    ),
    (
        "a rate with the format's suffix too",
        |o| {
            lens(o, "time", |_, l| {
                l["columns"]["v0"]["timeScale"] = "s".into();
                l["columns"]["v0"]["params"]["format"]["params"]["suffix"] = "/s".into();
            })
        },
        "per second twice",
    ),
    (
        "partial steps",
        |o| lens(o, "time", |_, l| l["columns"]["time"]["params"]["dropPartials"] = false.into()),
        "look like a drop",
    ),
    (
        "a tile without rows",
        |o| lens(o, "v0", |_, l| l["columns"]["v0"]["params"]["emptyAsNull"] = true.into()),
        "N/A instead of 0",
    ),
    (
        "a tile with two titles",
        |o| panels(o, |p| drop(object(&mut p[1]["embeddableConfig"]).remove("hidePanelTitles"))),
        "two titles",
    ),
    (
        "a count with decimals",
        |o| {
            lens(o, "v0", |_, l| {
                l["columns"]["v0"]["operationType"] = "count".into();
                l["columns"]["v0"]["params"]["format"] = json!({"id": "number", "params": {"decimals": 2}});
            })
        },
        "a count has decimals",
    ),
    (
        "a time of one decimal",
        |o| lens(o, "v0", |_, l| l["columns"]["v0"]["params"]["format"]["params"]["decimals"] = 1.into()),
        "short times are written as 0.0 ms",
    ),
    (
        "a breakdown by its field",
        |o| lens(o, "by0", |_, l| l["columns"]["by0"]["label"] = l["columns"]["by0"]["sourceField"].clone()),
        "has no label",
    ),
    (
        "a heat map of numbered labels",
        |o| lens(o, "by0", |_, l| l["columns"]["by0"]["sourceField"] = "kumon.runqlat.bucket.label".into()),
        "the numbers that sort its texts",
    ),
    (
        "a heat map of any colours",
        |o| drawing(o, "lnsHeatmap", |v| drop(object(v).remove("palette"))),
        "colours have no order",
    ),
    (
        "a table without order",
        |o| drawing(o, "lnsDatatable", |v| drop(object(v).remove("sorting"))),
        "no order",
    ),
    (
        "a line of dots",
        |o| drawing(o, "lnsXY", |v| v["fittingFunction"] = "None".into()),
        "falls apart into dots",
    ),
    (
        "an axis with a title",
        |o| drawing(o, "lnsXY", |v| v["axisTitlesVisibilitySettings"]["yLeft"] = true.into()),
        "named by the first",
    ),
    (
        "a drop-down by its field",
        |o| controls(o, |c| c["control-host-name"]["explicitInput"]["title"] = "host.name".into()),
        "control host.name has no label",
    ),
];

/// Changes an attribute of the data view over all metrics that is JSON within a string.
fn view(objects: &mut [Value], attribute: &str, change: impl FnOnce(&mut Value)) {
    let view = objects.iter_mut().find(|object| object["id"] == "kumon-all").unwrap();
    within(&mut view["attributes"][attribute], change);
}

/// Changes how the first chart of a kind is drawn.
fn drawing(objects: &mut [Value], kind: &str, change: impl FnOnce(&mut Value)) {
    panels(objects, |panels| {
        let attributes = "/embeddableConfig/attributes";
        let is =
            |panel: &&mut Value| panel.pointer(attributes).is_some_and(|it| it["visualizationType"] == kind);
        let panel = panels.iter_mut().find(is).unwrap();
        change(panel.pointer_mut(&format!("{attributes}/state/visualization")).unwrap());
    });
}

/// The first of a type; of dashboards the one about CPUs, which has every kind of panel that breaks.
fn find<'a>(objects: &'a mut [Value], r#type: &str) -> &'a mut Value {
    let wanted =
        |o: &&mut Value| o["type"] == *r#type && (r#type != "dashboard" || o["id"] == "kumon-dashboard-cpu");
    objects.iter_mut().find(wanted).unwrap()
}

fn object(value: &mut Value) -> &mut serde_json::Map<String, Value> {
    value.as_object_mut().unwrap()
}

fn attributes<'a>(objects: &'a mut [Value], r#type: &str) -> &'a mut serde_json::Map<String, Value> {
    object(&mut find(objects, r#type)["attributes"])
}

/// The last panel of raw rows.
fn last(panels: &mut [Value]) -> &mut Value {
    panels.iter_mut().rfind(|panel| panel["type"] == "search").unwrap()
}

fn grid(panel: &Value, x: Value) -> Value {
    let mut grid = panel["gridData"].clone();
    grid["x"] = x;
    grid
}

fn twice(references: &mut Value) {
    let first = references[1].clone();
    references.as_array_mut().unwrap().push(first);
}

fn tag_reference(dashboard: &mut Value) {
    dashboard["references"][0]["name"] = "tag".into();
}

/// Changes what is within a string of JSON.
fn within(text: &mut Value, change: impl FnOnce(&mut Value)) {
    let mut value = decoded(text).unwrap();
    change(&mut value);
    *text = value.to_string().into();
}

fn source(search: &mut Value, key: &str, value: &str) {
    within(&mut search["attributes"]["kibanaSavedObjectMeta"]["searchSourceJSON"], |source| {
        source[key] = value.into();
    });
}

fn panels(objects: &mut [Value], change: impl FnOnce(&mut Vec<Value>)) {
    within(&mut find(objects, "dashboard")["attributes"]["panelsJSON"], |panels| {
        change(panels.as_array_mut().unwrap());
    });
}

fn controls(objects: &mut [Value], change: impl FnOnce(&mut Value)) {
    within(&mut find(objects, "dashboard")["attributes"]["controlGroupInput"]["panelsJSON"], change);
}

/// Changes the attributes, or the layer, of the first chart that has this column.
fn lens(objects: &mut [Value], column: &str, change: impl FnOnce(&mut Value, &mut Value)) {
    panels(objects, |panels| {
        let layer = "/embeddableConfig/attributes/state/datasourceStates/formBased/layers/layer1";
        let has = |panel: &&mut Value| panel.pointer(&format!("{layer}/columns/{column}")).is_some();
        let panel = panels.iter_mut().find(has).unwrap();
        let mut changed = panel.pointer(layer).unwrap().clone();
        let unchanged = changed.clone();
        change(&mut panel["embeddableConfig"]["attributes"], &mut changed);
        if changed != unchanged {
            *panel.pointer_mut(layer).unwrap() = changed;
        }
    });
}

fn remove_column(layer: &mut Value, id: &str) {
    object(&mut layer["columns"]).remove(id);
    layer["columnOrder"].as_array_mut().unwrap().retain(|known| known != id);
}
