//! Asking for rows, the same way whatever keeps them.
//!
//! A query's text is parsed ([`parse_query`]) to a [`Condition`], in which fields are known and values typed. The
//! embedded store renders that to its own queries, [`to_elasticsearch`] to Elasticsearch's: what a query means is
//! decided here, once.

mod condition;
mod dates;
mod elasticsearch;
mod fields;
mod parse_query;
mod row;
mod search;
mod suggestion;
mod syntax;
mod values;
mod words;

pub use condition::{Condition, Pattern, Piece, Term, Value};
pub use dates::date;
pub use elasticsearch::to_elasticsearch;
pub use fields::{FieldKind, Fields, dataset};
pub use parse_query::{full_condition, parse_query};
pub use row::row;
pub use search::{OnRow, Search, SearchError, SearchRequest, SearchResponse, hand_over};
pub use suggestion::did_you_mean;
pub use words::words;
