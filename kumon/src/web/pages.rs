//! The files of the page (`web/`), which are part of the binary.

use axum::extract::Path;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

/// What index.html asks for: name, type, content. None of it is secret.
const ASSETS: &[(&str, &str, &str)] = &[
    ("app.js", SCRIPT, include_str!("../../../web/app.js")),
    ("api.js", SCRIPT, include_str!("../../../web/api.js")),
    ("charts.js", SCRIPT, include_str!("../../../web/charts.js")),
    ("dashboard.js", SCRIPT, include_str!("../../../web/dashboard.js")),
    ("elements.js", SCRIPT, include_str!("../../../web/elements.js")),
    ("format.js", SCRIPT, include_str!("../../../web/format.js")),
    ("markdown.js", SCRIPT, include_str!("../../../web/markdown.js")),
    ("panels.js", SCRIPT, include_str!("../../../web/panels.js")),
    ("rows.js", SCRIPT, include_str!("../../../web/rows.js")),
    ("style.css", STYLE, include_str!("../../../web/style.css")),
    ("uplot.js", SCRIPT, include_str!("../../../web/vendor/uplot/uPlot.iife.min.js")),
    ("uplot.css", STYLE, include_str!("../../../web/vendor/uplot/uPlot.min.css")),
];

/// The page itself.
pub(super) fn index() -> Response {
    answer(StatusCode::OK, HTML, include_str!("../../../web/index.html"))
}

/// What is shown to whoever hasn't the key.
pub(super) fn locked() -> Response {
    answer(StatusCode::UNAUTHORIZED, HTML, include_str!("../../../web/locked.html"))
}

/// A script or a style sheet.
pub(super) async fn asset(Path(name): Path<String>) -> Response {
    match ASSETS.iter().find(|asset| asset.0 == name) {
        Some((_, content_type, content)) => answer(StatusCode::OK, content_type, content),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn answer(status: StatusCode, content_type: &'static str, content: &'static str) -> Response {
    // Always asked for again: after an upgrade the parts must fit together.
    (status, [(CONTENT_TYPE, content_type), (CACHE_CONTROL, "no-cache")], content).into_response()
}
