//! The commands that look and ask; running is in `agent`.

mod alerts;
mod check;
mod collectors;
mod dead_letters;
mod query;
mod snapshot;
mod status;
mod table;
mod web;

pub(crate) use alerts::{AlertsCommand, alerts};
pub(crate) use check::check;
pub(crate) use collectors::{CollectorsArgs, collectors};
pub(crate) use dead_letters::{DeadLettersCommand, dead_letters};
pub(crate) use query::{QueryArgs, query};
pub(crate) use snapshot::{SnapshotArgs, snapshot};
pub(crate) use status::status;
pub(crate) use table::Table;
pub(crate) use web::web;
