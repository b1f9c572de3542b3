//! The messages, a JSON object a line. A client sends one request; the agent answers with a line for each row and one that
//! ends the answer.

use std::collections::BTreeMap;

use kumon_query::{SearchError, SearchRequest, SearchResponse};
use kumon_shipper::{LetterFilter, Replayed};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Goes up when a message that there is already changes its meaning; new requests and new fields of answers leave it.
const VERSION: u32 = 1;

/// What can be asked for. The shipping side answers the first two, the collecting side the others.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    Search(SearchRequest),
    ReplayDeadLetters(LetterFilter),
    Collectors,
    SwitchCollectors(Switch),
}

/// All of these metrics are to be on, or off.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Switch {
    pub(crate) metrics: Vec<String>,
    pub(crate) enable: bool,
    /// Also after a restart of the agent.
    pub(crate) save: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// A row of an answer that [`Answer::Found`] or [`Answer::Failed`] ends.
    Row(Box<RawValue>),
    Found(SearchResponse),
    Failed(SearchError),
    Replayed(Result<Replayed, String>),
    Collectors(CollectorsReport),
    Switched(Vec<Switched>),
    /// Of any request. All versions keep the shape of this one.
    Refused(Refusal),
}

/// Why a request is not done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Refusal {
    pub(crate) reason: String,
    /// Whoever asked made a mistake, such as a name that there isn't.
    #[serde(default)]
    pub(crate) wrong_usage: bool,
}

impl Refusal {
    pub(crate) fn because(reason: impl Into<String>) -> Refusal {
        Refusal { reason: reason.into(), wrong_usage: false }
    }

    pub(crate) fn wrong_usage(reason: impl Into<String>) -> Refusal {
        Refusal { reason: reason.into(), wrong_usage: true }
    }
}

/// How the collecting side is.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CollectorsReport {
    pub(crate) pid: u32,
    /// Of the process, as in its status.
    pub(crate) memory: u64,
    pub(crate) cpu_time: u64,
    pub(crate) metrics: Vec<MetricReport>,
    /// What is worth knowing about the switches.
    pub(crate) notes: Vec<String>,
}

/// How a metric is collected.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct MetricReport {
    pub(crate) metric: String,
    /// What collects it; it may collect others too, and is started anew for all of them.
    pub(crate) collector: String,
    pub(crate) state: MetricState,
    pub(crate) decided_by: DecidedBy,
    /// Why it is not running.
    pub(crate) reason: Option<String>,
    /// When its collector is started again, RFC 3339.
    pub(crate) next_try: Option<String>,
    /// How its programs are attached.
    pub(crate) backends: Vec<String>,
    /// Written since the start.
    pub(crate) rows: u64,
    /// Since the start, by reason.
    pub(crate) lost: BTreeMap<String, u64>,
    /// CPU time that its collector took of the agent's process, ns, since the start, for all of its metrics; 0 where it is
    /// not at work.
    pub(crate) collector_cpu_time: u64,
    /// Runs and run time (ns) of the programs that serve it, since the start; 0 unless `kernel.bpf_stats_enabled` is 1. A
    /// program that serves several metrics counts with each.
    pub(crate) runs: u64,
    pub(crate) run_time: u64,
}

/// What is with a metric, or with its collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MetricState {
    Starting,
    Running,
    /// At work, and something of it fails.
    Failing,
    Hanging,
    /// Not at work; it is started again.
    Failed,
    /// Nobody asks for it by name, and this kernel could have it only at a price.
    Off,
    Disabled,
}

impl MetricState {
    /// As it is written.
    pub(crate) fn name(self) -> &'static str {
        match self {
            MetricState::Starting => "starting",
            MetricState::Running => "running",
            MetricState::Failing => "failing",
            MetricState::Hanging => "hanging",
            MetricState::Failed => "failed",
            MetricState::Off => "off",
            MetricState::Disabled => "disabled",
        }
    }
}

/// Who says whether a metric is collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DecidedBy {
    Configuration,
    /// A switch that holds until the agent restarts.
    Switch,
    SavedSwitch,
}

impl DecidedBy {
    /// As people read it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            DecidedBy::Configuration => "configuration",
            DecidedBy::Switch => "switch",
            DecidedBy::SavedSwitch => "saved switch",
        }
    }
}

/// What became of a metric that was to be switched.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Switched {
    /// It was already so before.
    pub(crate) already: bool,
    pub(crate) now: MetricReport,
}

/// The line of a request, without its end.
pub(super) fn line(request: &Request) -> serde_json::Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Line<'a> {
        version: u32,
        request: &'a Request,
    }
    serde_json::to_vec(&Line { version: VERSION, request })
}

/// Reads a request's line.
///
/// # Errors
/// What to answer instead.
pub(super) fn read(line: &[u8]) -> Result<Request, Answer> {
    #[derive(Deserialize)]
    struct Line<'a> {
        version: Option<u32>,
        #[serde(borrow)]
        request: Option<&'a RawValue>,
    }
    let agent = format!("this agent is KuMon {}", env!("CARGO_PKG_VERSION"));
    let refused = |reason| Err(Answer::Refused(Refusal::wrong_usage(reason)));
    let line: Line<'_> = match serde_json::from_slice(line) {
        Ok(line) => line,
        Err(e) => return refused(format!("the request is no JSON object of at most 1 MiB: {e}")),
    };
    let advice = "use the command of the KuMon that runs, and restart it after an upgrade";
    match (line.version, line.request) {
        (Some(VERSION), Some(request)) => serde_json::from_str(request.get()).or_else(|e| {
            refused(format!("{agent}, which doesn't know the request or what is in it: {e}; {advice}"))
        }),
        (Some(VERSION), None) => refused("the line has no 'request'".into()),
        (Some(other), _) => refused(format!(
            "the request has version {other} of the control protocol; {agent} and speaks version {VERSION}; {advice}"
        )),
        // Whoever asks without a version is older than this protocol, and knows no refusal but that of a search.
        (None, _) => Err(Answer::Failed(SearchError::Unavailable {
            message: format!(
                "the request has no version of the control protocol; {agent} and speaks version {VERSION}; {advice}"
            ),
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, Request, Switch, line, read};

    fn refusal(text: &str) -> String {
        match read(text.as_bytes()) {
            Err(Answer::Refused(refusal)) => refusal.reason,
            Err(Answer::Failed(error)) => error.to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_request_is_read_as_it_was_sent() {
        let switch = Switch { metrics: vec!["exec".into()], enable: false, save: true };
        let sent = line(&Request::SwitchCollectors(switch)).unwrap();
        assert_eq!(
            String::from_utf8(sent.clone()).unwrap(),
            r#"{"version":1,"request":{"switch_collectors":{"metrics":["exec"],"enable":false,"save":true}}}"#
        );
        let Ok(Request::SwitchCollectors(read)) = read(&sent) else { panic!("something else was read") };
        assert!(read.metrics == ["exec"] && !read.enable && read.save);
    }

    #[test]
    fn who_speaks_another_version_is_told_both() {
        let newer = refusal(r#"{"version":2,"request":{"rewind":{}}}"#);
        assert!(newer.contains("has version 2 ") && newer.contains("speaks version 1"), "{newer}");
        let older = refusal(r#"{"search":{"metric":"exec"}}"#);
        assert!(older.contains("has no version") && older.contains("speaks version 1"), "{older}");
        let unknown = refusal(r#"{"version":1,"request":{"rewind":{}}}"#);
        assert!(unknown.contains("rewind") && unknown.contains("switch_collectors"), "{unknown}");
        assert!(refusal("\u{1}").contains("no JSON object"));
        assert!(refusal(r#"{"version":1}"#).contains("'request'"));
    }
}
