//! Who can be asked for rows.

mod elasticsearch;

use anyhow::{Context, Result};
use kumon_query::Search;
use kumon_store::Store;

use crate::config::{Config, ElasticsearchOutput};
use crate::control::Client;
pub(crate) use elasticsearch::ElasticsearchSearch;

/// Who is to be asked: Elasticsearch where rows go there, else the agent that has the store open, else the store.
///
/// # Errors
/// When a file that the output names can't be used, or there is no store.
pub(crate) fn open(config: &Config) -> Result<Box<dyn Search + Send + Sync>> {
    if let Some(output) = &config.output.elasticsearch {
        return Ok(Box::new(in_elasticsearch(output, config)?));
    }
    if let Some(agent) = Client::connect(&config.path.ship_socket())? {
        return Ok(Box::new(agent));
    }
    let root = config.path.store();
    let store = Store::open_read_only(&root).with_context(|| {
        format!(
            "there is nothing to ask: no agent runs, and no store can be read; start one with 'kumon run' ({})",
            root.display()
        )
    })?;
    Ok(Box::new(store))
}

/// The rows of the configuration's namespace in that cluster.
///
/// # Errors
/// When a file that the output names can't be used.
pub(crate) fn in_elasticsearch(output: &ElasticsearchOutput, config: &Config) -> Result<ElasticsearchSearch> {
    Ok(ElasticsearchSearch::new(output.client_options()?, &config.namespace.0)?)
}
