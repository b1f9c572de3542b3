//! Delivering rows to Elasticsearch, and the client that `kumon setup` and `kumon query` use too.

mod between;
mod bulk;
mod client;
mod concurrency_limit;
mod encoder;
mod error_cause;
mod errors;
mod failure;
mod lookup;
mod options;
mod progress;
mod sink;

pub use client::{Answer, Client};
pub use encoder::BulkEncoder;
pub use failure::Failure;
pub use options::{Authentication, ClientCertificate, Options, OptionsError};
pub use reqwest::Method;
pub use sink::ElasticsearchSink;
