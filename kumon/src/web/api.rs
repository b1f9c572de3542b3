//! What the page asks for, as JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use kumon_dashboards::{ChartKind, Content, Control, Dashboard, Filter, Panel, Place, TimeRange};
use kumon_query::{Search, SearchError, SearchRequest, SearchResponse};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::config::Config;
use crate::dashboards;

/// Rows of one answer, at most.
const MOST_ROWS: usize = 1000;
/// From here on panels ask for rows by 10 minutes, ns: two days, whose steps are longer than that.
const LONG_RANGE: i64 = 2 * 24 * 3600 * 1_000_000_000;
/// As far apart the oldest rows of both resolutions may be, ms.
const TWO_STEPS: f64 = 2.0 * 600_000.0;
/// Values of a drop-down.
const MOST_VALUES: usize = 200;

/// What the handlers share.
pub(super) struct Api {
    config: Config,
    dashboards: Vec<Dashboard>,
    search: Arc<dyn Search + Send + Sync>,
}

/// A time range as browsers count, ms since the Unix epoch.
#[derive(Clone, Copy, Deserialize)]
struct Milliseconds {
    since: i64,
    until: i64,
}

impl From<Milliseconds> for TimeRange {
    fn from(range: Milliseconds) -> TimeRange {
        let nanoseconds = |ms: i64| ms.saturating_mul(1_000_000);
        TimeRange { since: nanoseconds(range.since), until: nanoseconds(range.until) }
    }
}

#[derive(Deserialize)]
pub(super) struct PanelQuestion {
    dashboard: String,
    panel: String,
    #[serde(flatten)]
    range: Milliseconds,
    #[serde(default)]
    filters: Vec<Filter>,
}

#[derive(Deserialize)]
pub(super) struct ValuesQuestion {
    dashboard: String,
    field: String,
    #[serde(flatten)]
    range: Milliseconds,
}

#[derive(Deserialize)]
pub(super) struct RowsQuestion {
    metric: String,
    #[serde(default)]
    query: String,
    #[serde(flatten)]
    range: Milliseconds,
    limit: usize,
}

#[derive(Serialize)]
struct DashboardView<'a> {
    name: &'a str,
    title: &'a str,
    description: &'a str,
    controls: &'a [Control],
    panels: Vec<PanelView<'a>>,
}

#[derive(Serialize)]
struct PanelView<'a> {
    id: &'a str,
    title: &'a str,
    place: Place,
    /// Of each drop-down that leaves it alone, by its field: what it shows instead, such as `all processes`.
    without: BTreeMap<&'a str, String>,
    #[serde(flatten)]
    shows: Shows<'a>,
}

#[derive(Serialize)]
#[serde(tag = "shows", rename_all = "snake_case")]
enum Shows<'a> {
    Text { text: &'a str },
    Links { links: Vec<LinkView<'a>> },
    Chart { chart: ChartKind },
    Rows { metric: &'a str, query: &'a str },
}

#[derive(Serialize)]
struct LinkView<'a> {
    dashboard: &'a str,
    label: &'a str,
}

#[derive(Serialize)]
struct Rows {
    total: u64,
    rows: Vec<Box<RawValue>>,
}

impl Api {
    /// Without the dashboards that are wrong.
    pub(super) fn new(config: &Config, search: Arc<dyn Search + Send + Sync>) -> Api {
        let (dashboards, error) = dashboards::load_usable(config);
        if let Some(e) = error {
            log::error!("the web page leaves out what is wrong: {e}");
        }
        Api { dashboards, config: config.clone(), search }
    }

    fn dashboard(&self, name: &str) -> Result<&Dashboard, Refusal> {
        self.dashboards.iter().find(|dashboard| dashboard.name == name).ok_or(Refusal::NoDashboard)
    }

    /// The panel by 10 minutes, where the range is long and these rows are there for as much of it as the others: those are
    /// kept for a shorter time, but may be older than this version of KuMon.
    fn by_10_minutes(&self, panel: &Panel, range: TimeRange) -> Result<Option<Panel>, Refusal> {
        if range.until - range.since <= LONG_RANGE {
            return Ok(None);
        }
        let Some(coarse) = panel.by_10_minutes() else { return Ok(None) };
        let oldest = |panel: &Panel| -> Result<Option<f64>, Refusal> {
            let Some(metric) = panel.content.metrics().into_iter().next() else { return Ok(None) };
            let response = self.search(&aggregation(&metric.name, range, self::oldest()))?;
            Ok(response.aggregations.and_then(|aggregations| aggregations["oldest"]["value"].as_f64()))
        };
        let reaches_back = match (oldest(&coarse)?, oldest(panel)?) {
            (Some(coarse), Some(fine)) => coarse <= fine + TWO_STEPS,
            (coarse, _) => coarse.is_some(),
        };
        Ok(reaches_back.then_some(coarse))
    }

    fn search(&self, request: &SearchRequest) -> Result<SearchResponse, Refusal> {
        Ok(self.search.search(request)?)
    }
}

/// Every dashboard, with what the page must know before it asks for a panel's numbers.
pub(super) async fn all_dashboards(State(api): State<Arc<Api>>) -> Response {
    let dashboards: Vec<DashboardView> = api.dashboards.iter().map(DashboardView::of).collect();
    Json(json!({ "dashboards": dashboards })).into_response()
}

/// The names of what can be asked for, and the fields that tables of rows leave out.
pub(super) async fn metrics(State(api): State<Arc<Api>>) -> Response {
    let inputs = api.config.inputs.iter().map(|input| input.dataset.as_str());
    let names: BTreeSet<&str> =
        kumon_schema::all().iter().map(|schema| schema.name.as_str()).chain(inputs).collect();
    Json(json!({ "metrics": names, "leftOut": kumon_schema::left_out_of_tables() })).into_response()
}

/// What one panel shows.
pub(super) async fn panel(State(api): State<Arc<Api>>, Json(question): Json<PanelQuestion>) -> Response {
    blocking(move || {
        let dashboard = api.dashboard(&question.dashboard)?;
        let panel =
            dashboard.panels.iter().find(|panel| panel.id == question.panel).ok_or(Refusal::NoPanel)?;
        let range = question.range.into();
        let by_10_minutes = api.by_10_minutes(panel, range)?;
        let panel = by_10_minutes.as_ref().unwrap_or(panel);
        let requests = panel.requests(range, &question.filters);
        let responses = requests.iter().map(|request| api.search(request)).collect::<Result<Vec<_>, _>>()?;
        Ok(panel.answer(range, &responses))
    })
    .await
}

/// The values that a drop-down offers: those of the field in any metric that the dashboard shows.
pub(super) async fn values(State(api): State<Arc<Api>>, Json(question): Json<ValuesQuestion>) -> Response {
    blocking(move || {
        let dashboard = api.dashboard(&question.dashboard)?;
        let range = question.range.into();
        let mut values = BTreeSet::new();
        for metric in metrics_with(dashboard, &question.field) {
            let response = api.search(&aggregation(metric, range, values_of(&question.field)))?;
            values.extend(keys(response.aggregations.as_ref()));
        }
        Ok(values)
    })
    .await
}

/// The newest rows that match.
pub(super) async fn rows(State(api): State<Arc<Api>>, Json(question): Json<RowsQuestion>) -> Response {
    blocking(move || {
        let TimeRange { since, until } = question.range.into();
        let request = SearchRequest {
            metric: question.metric,
            query: question.query,
            since: Some(since),
            until: Some(until),
            limit: Some(question.limit.min(MOST_ROWS)),
            aggs: None,
        };
        let response = api.search(&request)?;
        Ok(Rows { total: response.total, rows: response.hits })
    })
    .await
}

fn metrics_with<'a>(dashboard: &'a Dashboard, field: &str) -> BTreeSet<&'a str> {
    let panels = dashboard.panels.iter().filter(|panel| panel.can_filter(field));
    panels.flat_map(|panel| panel.content.metrics()).map(|metric| metric.name.as_str()).collect()
}

/// A field's values, those with the most rows first.
fn values_of(field: &str) -> Value {
    json!({ "values": { "terms": { "field": field, "size": MOST_VALUES } } })
}

/// When the oldest row is from, ms since the Unix epoch.
fn oldest() -> Value {
    json!({ "oldest": { "min": { "field": "@timestamp" } } })
}

/// Asks for no rows, but for what is calculated from them.
fn aggregation(metric: &str, range: TimeRange, aggs: Value) -> SearchRequest {
    SearchRequest {
        metric: metric.to_owned(),
        query: String::new(),
        since: Some(range.since),
        until: Some(range.until),
        limit: Some(0),
        aggs: Some(aggs),
    }
}

/// The keys of a terms aggregation, as texts.
fn keys(aggregations: Option<&Value>) -> Vec<String> {
    let buckets = aggregations.and_then(|aggregations| aggregations["values"]["buckets"].as_array());
    let text = |bucket: &Value| match &bucket["key"] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    buckets.into_iter().flatten().map(text).collect()
}

/// Why there is no answer.
enum Refusal {
    NoDashboard,
    NoPanel,
    Search(SearchError),
}

impl From<SearchError> for Refusal {
    fn from(error: SearchError) -> Refusal {
        Refusal::Search(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let refusal = |status, kind: &str, text: &str, column: Option<usize>| {
            (status, Json(json!({ "error": kind, "text": text, "column": column }))).into_response()
        };
        match self {
            Refusal::NoDashboard => {
                refusal(StatusCode::NOT_FOUND, "not_found", "there is no such dashboard", None)
            }
            Refusal::NoPanel => refusal(StatusCode::NOT_FOUND, "not_found", "there is no such panel", None),
            Refusal::Search(error) => {
                let (status, kind, column) = match &error {
                    SearchError::Query { column, .. } => (StatusCode::BAD_REQUEST, "query", Some(*column)),
                    SearchError::UnknownMetric { .. } => (StatusCode::NOT_FOUND, "unknown_metric", None),
                    SearchError::Expired { .. } => (StatusCode::GONE, "expired", None),
                    SearchError::Aggregations { .. } => (StatusCode::BAD_REQUEST, "aggregations", None),
                    SearchError::Unavailable { .. } => (StatusCode::SERVICE_UNAVAILABLE, "unavailable", None),
                };
                refusal(status, kind, &error.to_string(), column)
            }
        }
    }
}

/// Searches wait for disks and networks: they have threads of their own.
async fn blocking<T: Serialize + Send + 'static>(
    question: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Response {
    match tokio::task::spawn_blocking(question).await {
        Ok(Ok(answer)) => Json(answer).into_response(),
        Ok(Err(refusal)) => refusal.into_response(),
        Err(e) => {
            log::error!("the web page: a question could not be answered: {e}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

impl<'a> DashboardView<'a> {
    fn of(dashboard: &'a Dashboard) -> DashboardView<'a> {
        DashboardView {
            name: &dashboard.name,
            title: &dashboard.title,
            description: &dashboard.description,
            controls: &dashboard.controls,
            panels: dashboard.panels.iter().map(|panel| PanelView::of(dashboard, panel)).collect(),
        }
    }
}

impl<'a> PanelView<'a> {
    fn of(dashboard: &'a Dashboard, panel: &'a Panel) -> PanelView<'a> {
        let shows = match &panel.content {
            Content::Text(text) => Shows::Text { text },
            Content::Links(links) => {
                let view = |link: &'a kumon_dashboards::Link| LinkView {
                    dashboard: &link.dashboard,
                    label: &link.label,
                };
                Shows::Links { links: links.iter().map(view).collect() }
            }
            Content::Chart(chart) => Shows::Chart { chart: chart.kind },
            Content::Joined(_) => Shows::Chart { chart: ChartKind::Table },
            Content::Rows(rows) => Shows::Rows { metric: &rows.metric.name, query: &rows.query },
        };
        let foreign = dashboard.foreign_controls(panel).into_iter();
        let without = foreign.map(|control| (control.field.as_str(), control.without())).collect();
        PanelView { id: &panel.id, title: &panel.title, place: panel.place, without, shows }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kumon_dashboards::TimeRange;
    use kumon_query::{OnRow, Search, SearchError, SearchRequest, SearchResponse};
    use serde_json::json;

    use super::{Api, LONG_RANGE};
    use crate::config::Config;

    /// Knows of each resolution when its oldest row is from, ms.
    struct Oldest {
        fine: Option<i64>,
        coarse: Option<i64>,
    }

    impl Search for Oldest {
        fn stream(&self, request: &SearchRequest, _: &mut OnRow<'_>) -> Result<SearchResponse, SearchError> {
            let is_coarse = kumon_schema::builtin(&request.metric).unwrap().coarse_of.is_some();
            let oldest = if is_coarse { self.coarse } else { self.fine };
            let aggregations = Some(json!({"oldest": {"value": oldest}}));
            Ok(SearchResponse { aggregations, ..SearchResponse::default() })
        }
    }

    #[test]
    fn long_ranges_take_the_coarse_rows_where_these_reach_back_as_far() {
        const MINUTE: i64 = 60_000;
        let dashboards = kumon_dashboards::builtin().to_vec();
        for (length, fine, coarse, expected) in [
            (LONG_RANGE, Some(0), Some(0), false),
            (LONG_RANGE + 1, Some(0), Some(9 * MINUTE), true),
            (LONG_RANGE + 1, Some(MINUTE), Some(0), true),
            (LONG_RANGE + 1, None, Some(0), true),
            // Rows from before there were coarse ones.
            (LONG_RANGE + 1, Some(0), Some(30 * MINUTE), false),
            (LONG_RANGE + 1, Some(0), None, false),
        ] {
            let search = Arc::new(Oldest { fine, coarse });
            let api = Api { config: Config::default(), dashboards: dashboards.clone(), search };
            let range = TimeRange { since: 0, until: length };
            let panels = dashboards.iter().flat_map(|dashboard| &dashboard.panels);
            let chosen = panels.filter_map(|panel| api.by_10_minutes(panel, range).ok().unwrap()).count();
            assert_eq!(chosen > 50, expected, "{length} {fine:?} {coarse:?}: {chosen}");
            assert!(expected || chosen == 0, "{chosen}");
        }
    }
}
