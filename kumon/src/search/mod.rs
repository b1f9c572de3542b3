//! Who can be asked for rows, besides the embedded store.

mod elasticsearch;

pub(crate) use elasticsearch::ElasticsearchSearch;
