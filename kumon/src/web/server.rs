//! The HTTP server, in a thread of its own.

use std::net::TcpListener;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::{Form, Query, Request, State};
use axum::http::header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY, SET_COOKIE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use kumon_query::Search;
use serde::Deserialize;
use tokio::runtime::Builder;
use tokio::sync::oneshot;

use super::access::Key;
use super::api::{self, Api};
use super::pages;
use crate::config::Config;

/// Questions answered at a time; each holds its answer in memory.
const WORKERS: usize = 2;

/// The page's script and style come from its own server, and nothing else does: a hostile value in a row that ever got
/// into the page as markup could load and run nothing.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The running page.
pub(crate) struct WebServer {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
    address: String,
}

#[derive(Deserialize)]
struct Given {
    #[serde(default)]
    key: String,
}

impl WebServer {
    /// Listens, and answers from then on, with what `search` finds.
    ///
    /// # Errors
    /// When the address is taken or the key can't be read or made.
    pub(crate) fn start(config: &Config, search: Arc<dyn Search + Send + Sync>) -> Result<WebServer> {
        let listen = config.web.listen;
        let listener = TcpListener::bind(listen).with_context(|| {
            format!("web.listen: {listen} can't be used; name another address, or set web.enabled to false")
        })?;
        listener.set_nonblocking(true)?;
        let key = Key::of(&config.path.web_key())?;
        let address = key.address(listener.local_addr()?);
        let router = router(key, Api::new(config, search));
        let runtime =
            Builder::new_current_thread().enable_io().enable_time().max_blocking_threads(WORKERS).build()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let serve = move || {
            runtime.spawn(async move {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                axum::serve(listener, router).await.inspect_err(|e| log::error!("the web page: {e}"))
            });
            // Stopped, or nobody is left who could stop it.
            let _ = runtime.block_on(stopped);
            // What a browser still waits for is of no use to it any more.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("web".into()).spawn(serve)?;
        Ok(WebServer { stop, thread, address })
    }

    /// The address that opens the page, with its key.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn stop(self) {
        // A thread that has ended doesn't listen any more.
        let _ = self.stop.send(());
        let _ = self.thread.join();
    }
}

fn router(key: Key, api: Api) -> Router {
    let answers = Router::new()
        .route("/api/dashboards", get(api::all_dashboards))
        .route("/api/metrics", get(api::metrics))
        .route("/api/panel", post(api::panel))
        .route("/api/values", post(api::values))
        .route("/api/rows", post(api::rows))
        .with_state(Arc::new(api))
        .layer(middleware::from_fn_with_state(key.clone(), with_the_key));
    Router::new()
        .route("/", get(enter).post(unlock))
        .route("/assets/{name}", get(pages::asset))
        .with_state(key)
        .merge(answers)
        .layer(middleware::from_fn(guarded))
}

/// The page, for who has the key: in the cookie, or in the address that `kumon web` shows.
async fn enter(State(key): State<Key>, Query(given): Query<Given>, headers: HeaderMap) -> Response {
    if key.is_in(&headers) {
        return pages::index();
    }
    unlocked(&key, &given)
}

/// The form of the page for who hasn't the key.
async fn unlock(State(key): State<Key>, Form(given): Form<Given>) -> Response {
    unlocked(&key, &given)
}

fn unlocked(key: &Key, given: &Given) -> Response {
    if key.is(&given.key) {
        // Away from the address that holds the key, so that it doesn't stay in sight.
        return ([(SET_COOKIE, key.cookie())], Redirect::to("/")).into_response();
    }
    pages::locked()
}

async fn with_the_key(State(key): State<Key>, request: Request, next: Next) -> Response {
    if key.is_in(request.headers()) {
        next.run(request).await
    } else {
        StatusCode::UNAUTHORIZED.into_response()
    }
}

async fn guarded(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
