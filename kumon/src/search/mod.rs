//! Who can be asked for rows.

mod elasticsearch;

use anyhow::{Context, Result};
use kumon_query::Search;
use kumon_store::Store;

use crate::config::{Config, NamedOutput, Outputs, Scope};
use crate::control::Client;
pub(crate) use elasticsearch::ElasticsearchSearch;

/// Who is to be asked: the output of that name, or without one the embedded store where rows go there, else the first
/// Elasticsearch. The store is asked through the agent that has it open, if there is one.
///
/// # Errors
/// When there is no such output, a file that it names can't be used, or there is no store.
pub(crate) fn open(config: &Config, output: Option<&str>) -> Result<Box<dyn Search + Send + Sync>> {
    let outputs = config.outputs()?;
    let output = output.map_or(Ok(outputs.answering()), |name| outputs.named(name))?;
    open_output(config, output)
}

/// The same for one of the configuration's outputs.
///
/// # Errors
/// As [`open`].
pub(crate) fn open_output(config: &Config, output: &NamedOutput) -> Result<Box<dyn Search + Send + Sync>> {
    if let Some(elasticsearch) = in_elasticsearch(output, config)? {
        return Ok(Box::new(elasticsearch));
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

/// Whom alerts are evaluated on, so that each is told once: who answers, or with `scope: all` the first Elasticsearch,
/// as the store has this node's rows only.
pub(crate) fn for_alerts<'a>(config: &Config, outputs: &'a Outputs) -> &'a NamedOutput {
    let of_all = outputs.elasticsearch().next().filter(|_| config.alerts.scope == Scope::All);
    of_all.unwrap_or_else(|| outputs.answering())
}

/// The rows of the configuration's namespace in that cluster; none for the embedded store.
///
/// # Errors
/// When a file that the output names can't be used.
pub(crate) fn in_elasticsearch(output: &NamedOutput, config: &Config) -> Result<Option<ElasticsearchSearch>> {
    let options = output.client_options()?;
    Ok(options.map(|options| ElasticsearchSearch::new(options, &config.namespace.0)).transpose()?)
}

#[cfg(test)]
mod tests {
    use super::for_alerts;
    use crate::config::Config;

    #[test]
    fn alerts_are_evaluated_in_one_output() {
        const ES: &str = "{ name: a, elasticsearch: { hosts: ['http://a:9200'] } }, { name: b, elasticsearch: { hosts: ['http://b:9200'] } }";
        for (outputs, scope, expected) in [
            ("{ store: {} }".to_owned(), "all", "store"),
            (format!("{ES}, {{ store: {{}} }}"), "node", "store"),
            (format!("{ES}, {{ store: {{}} }}"), "all", "a"),
            (ES.to_owned(), "node", "a"),
        ] {
            let text = format!("outputs: [{outputs}]\nalerts: {{ scope: {scope} }}");
            let config: Config = serde_saphyr::from_str(&text).unwrap();
            assert_eq!(for_alerts(&config, &config.outputs().unwrap()).name, expected, "{text}");
        }
    }
}
