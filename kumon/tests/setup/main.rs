//! `kumon setup` against a real Elasticsearch.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod install;
mod retention;
mod support;
