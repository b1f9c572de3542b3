//! `kumon setup` against a real Elasticsearch.
//!
//! Runs beside other tests.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
#[path = "../common/mod.rs"]
mod common;
mod compose;
mod elasticsearch_8;
mod install;
mod mapping;
mod nodes;
mod pipelines;
mod retention;
mod support;
