//! The Filebeat configuration under `elk/filebeat/`, made from the schemas.

use std::fmt::Write;

use crate::all;

const HEAD: &str = "\
# Filebeat in place of KuMon's shipper: the same documents under the same ids, made by the ingest pipelines that
# `kumon setup` puts there. docs/elasticsearch.md says what is different.
# Generated from csv-schemas/: UPDATE_DOCS=1 cargo test -p kumon-schema
# Environment: KUMON_SPOOL, KUMON_NAMESPACE, ES_HOSTS, ES_API_KEY (id:api_key), ES_CA.
filebeat.inputs:
";
const TAIL: &str = "
output.elasticsearch:
  hosts: ${ES_HOSTS:[\"https://localhost:9200\"]}
  api_key: ${ES_API_KEY:\"\"}
  ssl.certificate_authorities: ${ES_CA:[]}
  compression_level: 1

# Templates and retention are KuMon's.
setup.template.enabled: false
setup.ilm.enabled: false
";

/// The file.
pub(crate) fn configuration() -> String {
    let mut text = HEAD.to_owned();
    for schema in all() {
        let (name, version, stream) =
            (&schema.name, schema.version, schema.data_stream("${KUMON_NAMESPACE:default}"));
        let pipeline = format!("{}-{}@v{version}", schema.kind.stream_type(), schema.dataset());
        // A row of CSV with a line break in it goes on until the next row's time.
        let _ = write!(
            text,
            "  - type: filestream
    id: kumon-{name}-v{version}
    paths: [\"${{KUMON_SPOOL:/var/lib/kumon/spool}}/{name}/{name}-*.v{version}.csv\"]
    index: {stream}
    pipeline: {pipeline}
    parsers:
      - multiline:
          type: pattern
          pattern: '^(timestamp,|[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}T[0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}\\.[0-9]{{6}}Z,)'
          negate: true
          match: after
  - type: filestream
    id: kumon-{name}-v{version}-ndjson
    paths: [\"${{KUMON_SPOOL:/var/lib/kumon/spool}}/{name}/{name}-*.v{version}.ndjson\"]
    index: {stream}
    pipeline: {pipeline}
"
        );
    }
    text + TAIL
}
