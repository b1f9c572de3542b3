//! The local web page: the dashboards, and the rows of any metric.

mod access;
mod api;
mod pages;
mod server;

pub(crate) use access::Key;
pub(crate) use server::WebServer;
