//! The data streams that setup prepares: one per metric, and one per dataset of the configured inputs.

use anyhow::Result;
use kumon_schema::{Kind, Schema};
use kumon_shipper::{Format, Input};

use crate::config::Config;

/// A data stream up to its namespace.
#[derive(Debug, Clone)]
pub(super) struct Stream {
    /// `logs-kumon.exec`.
    pub(super) name: String,
    /// `kumon.exec`.
    pub(super) dataset: String,
    pub(super) kind: Kind,
    /// Of a metric or an input's file; none where every key may come.
    pub(super) schema: Option<Schema>,
    /// Whether somebody else's files feed it.
    pub(super) foreign: Option<Format>,
}

/// All of them, each once, though several inputs may feed one.
pub(super) fn streams(config: &Config) -> Result<Vec<Stream>> {
    let metrics = kumon_schema::all().iter().map(Stream::of_metric);
    let inputs = config.shipper_inputs()?;
    let mut streams: Vec<Stream> = metrics.chain(inputs.iter().map(Stream::of_input)).collect();
    let mut seen = std::collections::HashSet::new();
    streams.retain(|stream| seen.insert(stream.name.clone()));
    Ok(streams)
}

impl Stream {
    /// As the configuration names it: `exec`, or an input's dataset.
    pub(super) fn metric_or_dataset(&self) -> &str {
        match (&self.schema, self.foreign) {
            (Some(schema), None) => &schema.name,
            _ => &self.dataset,
        }
    }

    fn of_metric(schema: &Schema) -> Stream {
        let dataset = schema.dataset();
        Stream {
            name: format!("{}-{dataset}", schema.kind.stream_type()),
            dataset,
            kind: schema.kind,
            schema: Some(schema.clone()),
            foreign: None,
        }
    }

    fn of_input(input: &Input) -> Stream {
        Stream {
            name: format!("{}-{}", Kind::Event.stream_type(), input.dataset),
            dataset: input.dataset.clone(),
            kind: Kind::Event,
            schema: input.schema.clone(),
            foreign: Some(input.format),
        }
    }
}
