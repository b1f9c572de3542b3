//! Asking for rows, the same way whatever keeps them.

mod search;

pub use search::{Search, SearchError, SearchRequest, SearchResponse};
