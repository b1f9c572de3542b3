//! What an error that Elasticsearch reports for a document concerns: the one table of it. docs/elasticsearch.md has it
//! in words.

use super::error_cause::ErrorCause;

/// What an error concerns, and so what becomes of the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Concern {
    /// The document is there already.
    Nothing,
    /// This row, for good.
    Row,
    /// This row, for good if it is the same after a few tries: what runs for each row, such as a pipeline, failed.
    RowAfterTries,
    /// Its shard or its node, for now: after a few tries the stream waits.
    Moment,
    /// Its stream, which waits at once.
    Stream(Trouble),
}

/// What keeps a stream from taking rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    NoTemplate,
    Template,
    Name,
    Shard,
    ShardLimit,
    Blocked,
    Closed,
    Forbidden,
    Pipeline,
}

/// An error of this type.
struct Known {
    r#type: &'static str,
    /// Stands in the reason, where the type alone doesn't tell. It is all that Elasticsearch gives.
    reason: &'static str,
    concern: Concern,
}

/// The first that matches counts. What isn't in it goes by its status, see [`by_status`].
const TABLE: &[Known] = {
    use Concern::{Moment, Nothing, Row, RowAfterTries, Stream};
    use Trouble::{Blocked, Closed, Forbidden, Name, NoTemplate, Pipeline, Shard, ShardLimit, Template};
    &[
        of("version_conflict_engine_exception", Nothing),
        // The row's value, name or size.
        of("document_parsing_exception", Row),
        of("mapper_parsing_exception", Row),
        with("mapper_exception", "timed out while waiting for a dynamic mapping update", Moment),
        of("mapper_exception", Row),
        of("strict_dynamic_mapping_exception", Row),
        of("timestamp_error", Row),
        of("timestamp_parsing_exception", Row),
        of("action_request_validation_exception", Row),
        of("max_bytes_length_exceeded_exception", Row),
        of("number_format_exception", Row),
        of("parse_exception", Row),
        of("parsing_exception", Row),
        of("x_content_parse_exception", Row),
        of("x_content_e_o_f_exception", Row),
        of("not_x_content_exception", Row),
        of("json_parse_exception", Row),
        of("json_e_o_f_exception", Row),
        of("stream_constraints_exception", Row),
        of("input_coercion_exception", Row),
        of("script_exception", Row),
        // The same type for the cluster's state and for the row's.
        with("illegal_argument_exception", "pipeline with id [", Stream(Pipeline)),
        with("illegal_argument_exception", "non-existent pipeline [", Stream(Pipeline)),
        with("illegal_argument_exception", "no write index is defined for alias [", Stream(Name)),
        with("illegal_argument_exception", "this action would add [", Stream(ShardLimit)),
        with("illegal_argument_exception", "template after composition", Stream(Template)),
        of("illegal_argument_exception", Row),
        with("illegal_state_exception", "non-existent pipeline [", Stream(Pipeline)),
        of("illegal_state_exception", RowAfterTries),
        with("cluster_block_exception", "[SERVICE_UNAVAILABLE/", Moment),
        of("cluster_block_exception", Stream(Blocked)),
        // A pipeline that failed on the row.
        of("fail_processor_exception", RowAfterTries),
        of("ingest_processor_exception", RowAfterTries),
        of("ingest_pipeline_exception", RowAfterTries),
        of("general_script_exception", RowAfterTries),
        of("uncategorized_execution_exception", RowAfterTries),
        of("null_pointer_exception", RowAfterTries),
        of("class_cast_exception", RowAfterTries),
        of("unsupported_operation_exception", RowAfterTries),
        // Too much to do, or somebody who just went away.
        of("es_rejected_execution_exception", Moment),
        of("circuit_breaking_exception", Moment),
        of("process_cluster_event_timeout_exception", Moment),
        of("timeout_exception", Moment),
        of("task_cancelled_exception", Moment),
        of("master_not_discovered_exception", Moment),
        of("not_master_exception", Moment),
        of("failed_to_commit_cluster_state_exception", Moment),
        of("node_closed_exception", Moment),
        of("node_disconnected_exception", Moment),
        of("node_not_connected_exception", Moment),
        of("no_node_available_exception", Moment),
        of("connect_transport_exception", Moment),
        of("send_request_transport_exception", Moment),
        of("receive_timeout_transport_exception", Moment),
        of("remote_transport_exception", Moment),
        of("transport_exception", Moment),
        of("no_shard_available_action_exception", Moment),
        of("primary_missing_action_exception", Moment),
        of("shard_not_found_exception", Moment),
        of("shard_not_in_primary_mode_exception", Moment),
        of("no_longer_primary_shard_exception", Moment),
        of("retry_on_primary_exception", Moment),
        of("retry_on_replica_exception", Moment),
        of("shard_lock_obtain_failed_exception", Moment),
        of("illegal_index_shard_state_exception", Moment),
        of("index_shard_closed_exception", Moment),
        of("index_shard_not_started_exception", Moment),
        of("index_shard_recovering_exception", Moment),
        of("index_shard_relocated_exception", Moment),
        // Two made the same index at once.
        of("resource_already_exists_exception", Moment),
        // The shard's disk.
        of("already_closed_exception", Moment),
        of("engine_exception", Moment),
        of("engine_creation_failure_exception", Moment),
        of("translog_exception", Moment),
        of("i_o_exception", Moment),
        of("file_system_exception", Moment),
        // What a person has to mend. Elasticsearch has waited for the shard already.
        of("unavailable_shards_exception", Stream(Shard)),
        of("index_primary_shard_not_allocated_exception", Stream(Shard)),
        of("security_exception", Stream(Forbidden)),
        of("role_restriction_exception", Stream(Forbidden)),
        of("index_not_found_exception", Stream(NoTemplate)),
        of("index_template_missing_exception", Stream(NoTemplate)),
        of("index_closed_exception", Stream(Closed)),
        of("validation_exception", Stream(ShardLimit)),
        of("index_limit_exceeded_exception", Stream(ShardLimit)),
        of("graph_structure_exception", Stream(Pipeline)),
        of("resource_not_found_exception", Stream(Pipeline)),
        of("invalid_index_template_exception", Stream(Template)),
        of("index_creation_exception", Stream(Template)),
        of("settings_exception", Stream(Template)),
        of("routing_missing_exception", Stream(Template)),
        of("invalid_index_name_exception", Stream(Name)),
        of("invalid_alias_name_exception", Stream(Name)),
    ]
};

const fn of(r#type: &'static str, concern: Concern) -> Known {
    Known { r#type, reason: "", concern }
}

const fn with(r#type: &'static str, reason: &'static str, concern: Concern) -> Known {
    Known { r#type, reason, concern }
}

/// What an error concerns that was answered for a document with this status.
pub(super) fn concern(status: u16, error: Option<&ErrorCause>) -> Concern {
    let Some(error) = error else { return if status == 409 { Concern::Nothing } else { by_status(status) } };
    let known = TABLE.iter().find(|known| error.is(known.r#type) && error.reason().contains(known.reason));
    known.map_or_else(|| by_status(status), |known| known.concern)
}

/// What an error of a type that nobody has told us of concerns. Where it may be either, the row: in the dead letters it
/// keeps nobody waiting, and can be sent again.
fn by_status(status: u16) -> Concern {
    match status {
        401 | 403 => Concern::Stream(Trouble::Forbidden),
        404 => Concern::Stream(Trouble::NoTemplate),
        408 | 425 | 429 | 502..=504 => Concern::Moment,
        500.. => Concern::RowAfterTries,
        _ => Concern::Row,
    }
}

impl Trouble {
    /// Whether only a person can help.
    pub(super) fn needs_person(self) -> bool {
        self != Trouble::Shard
    }

    /// What is wrong with the stream, in Elasticsearch's words too, and what to do.
    pub(super) fn message(self, at: &str, reason: &str) -> String {
        match self {
            Trouble::NoTemplate => format!(
                "{at} has no data stream for this and no index template to make one ({reason}): run 'kumon setup'"
            ),
            Trouble::Template => format!(
                "{at} can't make an index by the template for this ({reason}): mend the template, or run 'kumon \
                 setup --force'"
            ),
            Trouble::Name => format!(
                "{at} can't have a data stream of this name ({reason}): remove the alias or index that has it, or \
                 give the input another dataset"
            ),
            Trouble::Shard => {
                format!("{at} lacks the shard to write to ({reason}); see its _cluster/allocation/explain")
            }
            Trouble::ShardLimit => format!(
                "{at} may have no more shards ({reason}): delete old indices, add a node, or raise \
                 cluster.max_shards_per_node"
            ),
            Trouble::Blocked => format!(
                "{at} has closed the index for writing, or all of them ({reason}): a full disk, or a block set by hand"
            ),
            Trouble::Closed => {
                format!(
                    "{at} has the index to write to closed ({reason}): open it, or roll the data stream over"
                )
            }
            Trouble::Forbidden => format!(
                "{at} does not allow this ({reason}); there are roles for shipping (kumon_shipper), asking \
                 (kumon_reader) and setup (kumon_admin), see docs/elasticsearch.md, \"Who may do what\""
            ),
            Trouble::Pipeline => format!(
                "{at} has no pipeline that its settings want for this, or not what the pipeline needs ({reason}): put \
                 it there, or take it out of index.default_pipeline and index.final_pipeline"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::Concern::{Moment, Nothing, Row, RowAfterTries, Stream};
    use super::Trouble::{
        Blocked, Closed, Forbidden, Name, NoTemplate, Pipeline, Shard, ShardLimit, Template,
    };
    use super::{TABLE, concern};
    use crate::elasticsearch::error_cause::ErrorCause;

    fn cause(error: Value) -> ErrorCause {
        serde_json::from_value(error).unwrap()
    }

    #[test]
    fn every_line_of_the_table_is_reached_and_documented() {
        let docs = include_str!("../../../docs/elasticsearch.md");
        for known in TABLE {
            let error = json!({"type": known.r#type, "reason": format!("some {} words", known.reason)});
            // Whatever the status is.
            for status in [400, 500] {
                assert_eq!(concern(status, Some(&cause(error.clone()))), known.concern, "{}", known.r#type);
            }
            assert!(docs.contains(&format!("`{}`", known.r#type)), "{} is not documented", known.r#type);
        }
    }

    /// As 8.19.13 and 9.4.3 word them.
    #[test]
    fn an_error_of_the_cluster_is_not_taken_for_one_of_the_row() {
        let cases = [
            (
                409,
                "version_conflict_engine_exception",
                "[x]: version conflict, document already exists",
                Nothing,
            ),
            (409, "status_exception", "something else that conflicts", Row),
            (400, "document_parsing_exception", "[1:9] failed to parse field [n] of type [long]", Row),
            (500, "mapper_exception", "timed out while waiting for a dynamic mapping update", Moment),
            (400, "illegal_argument_exception", "Limit of total fields [1000] has been exceeded", Row),
            (
                400,
                "illegal_argument_exception",
                "mapper [n] cannot be changed from type [long] to [text]",
                Row,
            ),
            (400, "illegal_argument_exception", "Document contains at least one immense term", Row),
            (400, "illegal_argument_exception", "field [a] not present as part of path [a.b]", Row),
            (
                400,
                "timestamp_error",
                "the document timestamp is outside of ranges of currently writable",
                Row,
            ),
            (400, "script_exception", "runtime error", Row),
            (400, "illegal_argument_exception", "pipeline with id [p] does not exist", Stream(Pipeline)),
            (
                500,
                "illegal_state_exception",
                "Pipeline processor configured for non-existent pipeline [p]",
                Stream(Pipeline),
            ),
            (404, "resource_not_found_exception", "Inference endpoint not found [e]", Stream(Pipeline)),
            (500, "graph_structure_exception", "Cycle detected for pipeline: p", Stream(Pipeline)),
            (
                400,
                "validation_exception",
                "Validation Failed: 1: this action would add [2] shards, but this cluster currently has \
                 [1000]/[1000] maximum normal shards open;",
                Stream(ShardLimit),
            ),
            (
                400,
                "illegal_argument_exception",
                "no write index is defined for alias [logs-a-default]. The write index may be explicitly disabled",
                Stream(Name),
            ),
            (400, "invalid_index_name_exception", "Invalid index name [A], must be lowercase", Stream(Name)),
            (
                400,
                "illegal_argument_exception",
                "composable template [t] template after composition is invalid",
                Stream(Template),
            ),
            (400, "routing_missing_exception", "routing is required for [x]/[1]", Stream(Template)),
            (400, "index_closed_exception", "closed", Stream(Closed)),
            (
                404,
                "index_not_found_exception",
                "no such index [x] and it is not a data stream",
                Stream(NoTemplate),
            ),
            (403, "cluster_block_exception", "blocked by: [FORBIDDEN/8/index write (api)];", Stream(Blocked)),
            (
                429,
                "cluster_block_exception",
                "blocked by: [TOO_MANY_REQUESTS/12/disk usage exceeded flood-stage watermark];",
                Stream(Blocked),
            ),
            (503, "cluster_block_exception", "blocked by: [SERVICE_UNAVAILABLE/2/no master];", Moment),
            (
                403,
                "security_exception",
                "action [indices:data/write/bulk[s]] is unauthorized",
                Stream(Forbidden),
            ),
            (503, "unavailable_shards_exception", "[x][0] primary shard is not active", Stream(Shard)),
            (429, "es_rejected_execution_exception", "rejected execution of primary operation", Moment),
            (429, "circuit_breaking_exception", "[parent] Data too large", Moment),
            (503, "process_cluster_event_timeout_exception", "failed to process cluster event", Moment),
            (500, "node_closed_exception", "node closed", Moment),
            (500, "i_o_exception", "No space left on device", Moment),
            (500, "fail_processor_exception", "no even numbers", RowAfterTries),
            (500, "null_pointer_exception", "Cannot invoke", RowAfterTries),
        ];
        for (status, kind, reason, expected) in cases {
            let error = cause(json!({"type": kind, "reason": reason}));
            assert_eq!(concern(status, Some(&error)), expected, "{kind}: {reason}");
        }
    }

    #[test]
    fn an_error_that_nobody_knows_goes_by_its_status() {
        let cases = [
            (400, Row),
            (401, Stream(Forbidden)),
            (403, Stream(Forbidden)),
            (404, Stream(NoTemplate)),
            (408, Moment),
            (409, Row),
            (413, Row),
            (422, Row),
            (429, Moment),
            (500, RowAfterTries),
            (501, RowAfterTries),
            (502, Moment),
            (503, Moment),
            (504, Moment),
            (507, RowAfterTries),
        ];
        for (status, expected) in cases {
            for error in [json!({"type": "some_new_exception", "reason": "r"}), json!("only text"), json!({})]
            {
                assert_eq!(concern(status, Some(&cause(error.clone()))), expected, "{status}: {error}");
            }
        }
        assert_eq!((concern(409, None), concern(400, None)), (Nothing, Row));
    }
}
