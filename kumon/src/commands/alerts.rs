//! `kumon alerts`.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use chrono::Utc;
use clap::{Subcommand, ValueEnum};
use kumon_alerts::render::{Form, RuleSettings, own_connectors, rule, rule_id, watch};
use kumon_alerts::{Alert, AlertState, Alerts, Book, Time, acknowledge, evaluate, test, time_text};
use kumon_query::did_you_mean;
use kumon_shipper::elasticsearch::{Client, Method};

use super::table::Table;
use crate::config::{Config, EvaluatedBy, NamedOutput, Scope};
use crate::{WRONG_USAGE, alerts as all, host, search};

#[derive(Debug, Subcommand)]
pub(crate) enum AlertsCommand {
    /// Show all alerts, and whether they are on
    List,
    /// Send a test message through an alert's channels, and say whether it arrived
    Test { name: String },
    /// Show what fires, and what waits to be delivered
    Status,
    /// Acknowledge: the alert is silent until it has recovered
    Ack { name: String },
    /// Print an alert in the form of Elasticsearch's Watcher or Kibana
    Render {
        name: String,
        #[arg(long = "as", value_enum)]
        form: RenderAs,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RenderAs {
    /// The body of PUT _watcher/watch/kumon-NAME (Elasticsearch 8 and 9)
    Watcher,
    /// The body of POST /api/alerting/rule/ID, and the connectors it needs
    Kibana,
}

/// Looks at alerts, or tries them.
///
/// # Errors
/// When the state or the cluster can't be asked.
pub(crate) fn alerts(config: &Config, command: &AlertsCommand) -> Result<ExitCode> {
    let alerts = all::load(config);
    let mut out = io::stdout().lock();
    let name = match command {
        AlertsCommand::List => return list(config, &alerts, &mut out),
        AlertsCommand::Status => return status(config, &alerts, &mut out),
        AlertsCommand::Test { name } | AlertsCommand::Ack { name } | AlertsCommand::Render { name, .. } => {
            name
        }
    };
    let Some(alert) = alerts.usable.iter().find(|alert| alert.name == *name) else {
        eprintln!("kumon: {}", why_not(name, &alerts));
        return Ok(ExitCode::from(WRONG_USAGE));
    };
    match command {
        AlertsCommand::Test { .. } => try_channels(config, alert, &mut out),
        AlertsCommand::Render { form, .. } => render(config, alert, *form, &mut out),
        _ => ack(config, alert, &mut out),
    }
}

/// Why an alert can't be used.
fn why_not(name: &str, alerts: &Alerts) -> String {
    if let Some(wrong) = alerts.wrong.iter().find(|wrong| wrong.alert.as_deref() == Some(name)) {
        return wrong.error.to_string();
    }
    let hint = did_you_mean(name, alerts.usable.iter().map(|alert| alert.name.as_str()));
    let hint = hint.unwrap_or_else(|| "'kumon alerts list' shows them".into());
    format!("there is no alert '{name}'; {hint}")
}

fn list(config: &Config, alerts: &Alerts, out: &mut impl Write) -> Result<ExitCode> {
    let mut table = Table::new(&["alert", "state", "severity", "rows of", "channels", "fires at"]);
    for alert in &alerts.usable {
        let taking = config.channels.iter().filter(|(name, channel)| channel.takes(name, alert));
        let channels: Vec<&str> = taking.map(|(name, _)| name.as_str()).collect();
        let channels = if channels.is_empty() { "(log only)".to_owned() } else { channels.join(", ") };
        let state = if alert.enabled { "on" } else { "off" };
        table.row([
            alert.name.clone(),
            state.into(),
            alert.severity.name().into(),
            alert.metric.clone(),
            channels,
            alert.condition(),
        ]);
    }
    write!(out, "{table}")?;
    writeln!(out, "{}", who_evaluates(config))?;
    for wrong in &alerts.wrong {
        eprintln!("kumon: {wrong}");
    }
    Ok(if alerts.wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(WRONG_USAGE) })
}

fn who_evaluates(config: &Config) -> &'static str {
    let alerts = &config.alerts;
    match (alerts.evaluated_by, alerts.enabled, alerts.scope) {
        (EvaluatedBy::Watcher, ..) => {
            "evaluated by Watcher (alerts.evaluated_by); 'kumon setup' installs the watches"
        }
        (EvaluatedBy::Kibana, ..) => {
            "evaluated by Kibana (alerts.evaluated_by); 'kumon setup' installs the rules. Agents evaluate what no rule \
             can express"
        }
        (_, false, _) => "not evaluated on this node (alerts.enabled)",
        (.., Scope::Node) => "evaluated by this node's agent, of its own rows",
        (.., Scope::All) => "evaluated by this node's agent, of all nodes' rows",
    }
}

fn status(config: &Config, alerts: &Alerts, out: &mut impl Write) -> Result<ExitCode> {
    if config.alerts.evaluated_by == EvaluatedBy::Watcher {
        writeln!(out, "{}; Kibana shows them under Stack Management, Watcher", who_evaluates(config))?;
        return Ok(ExitCode::SUCCESS);
    }
    if config.alerts.evaluated_by == EvaluatedBy::Kibana {
        writeln!(out, "{}; Kibana shows them under Stack Management, Rules", who_evaluates(config))?;
    }
    let folder = config.path.alerts();
    let book = Book::read(&folder).with_context(|| format!("{}: can't be read", folder.display()))?;
    match book.evaluated {
        Some(at) => writeln!(out, "last evaluated {}", time_text(at))?,
        None => writeln!(out, "nothing was evaluated yet; does an agent run? ('kumon status')")?,
    }
    let mut quiet = alerts.wrong.is_empty();
    for wrong in &alerts.wrong {
        writeln!(out, "{wrong}")?;
    }
    for alert in &alerts.usable {
        let Some(state) = book.alerts.get(&alert.name) else { continue };
        quiet &= !state.is_firing() && state.error.is_none();
        print_state(alert, state, out)?;
    }
    for (endpoint, mailbox) in book.mailboxes.iter().filter(|(_, mailbox)| !mailbox.waiting.is_empty()) {
        quiet = false;
        let reason = mailbox.error.as_deref().unwrap_or("the limit of messages an hour is reached");
        writeln!(out, "channel {endpoint}: {} news wait: {reason}", mailbox.waiting.len())?;
    }
    if quiet {
        writeln!(out, "nothing fires")?;
    }
    Ok(if quiet { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print_state(alert: &Alert, state: &AlertState, out: &mut impl Write) -> Result<()> {
    if let Some(error) = &state.error {
        writeln!(out, "{}: can't be evaluated: {error}", alert.name)?;
    }
    let acknowledged = if state.acknowledged { ", acknowledged" } else { "" };
    for (group, firing) in &state.groups {
        let Some(since) = firing.since else { continue };
        let group = if group.is_empty() { String::new() } else { format!(" [{}]", group.escape_debug()) };
        let value = alert.value_text(firing.value);
        writeln!(
            out,
            "{} {}{group}: {value}, fires since {}{acknowledged} ({})",
            alert.severity.name(),
            alert.name,
            time_text(since),
            alert.condition()
        )?;
    }
    Ok(())
}

fn now() -> Time {
    Utc::now().timestamp_millis()
}

fn try_channels(config: &Config, alert: &Alert, out: &mut impl Write) -> Result<ExitCode> {
    let node = host::common()?.host_name;
    let outputs = config.outputs()?;
    let output = search::for_alerts(config, &outputs);
    let own = (config.alerts.scope == Scope::Node && !output.is_store()).then_some(node.as_str());
    let asked = search::open_output(config, output)
        .and_then(|search| Ok(evaluate(alert, &*search, now().saturating_mul(1_000_000), own)?));
    match asked {
        Ok(found) => {
            let firing = found.firing(alert).count();
            writeln!(out, "now: {firing} of {} groups fire at {}", found.groups.len(), alert.condition())?;
        }
        Err(e) => writeln!(out, "now: it can't be evaluated: {}", crate::explain(&e))?,
    }
    let results = test(alert, &config.channels, &node, now())?;
    if results.is_empty() {
        writeln!(out, "no channel takes this alert: it is only logged; see 'channels' in kumon.yml")?;
        return Ok(ExitCode::FAILURE);
    }
    let mut all_delivered = true;
    for (endpoint, result) in results {
        match result {
            Ok(()) => writeln!(out, "{endpoint}: delivered")?,
            Err(e) => {
                all_delivered = false;
                writeln!(out, "{endpoint}: not delivered: {e}")?;
            }
        }
    }
    Ok(if all_delivered { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn ack(config: &Config, alert: &Alert, out: &mut impl Write) -> Result<ExitCode> {
    match config.alerts.evaluator(alert) {
        EvaluatedBy::Kumon => {}
        EvaluatedBy::Watcher => return ack_watch(config, alert, out),
        EvaluatedBy::Kibana => {
            eprintln!("kumon: Kibana evaluates {}: mute its rule there", alert.name);
            return Ok(ExitCode::from(WRONG_USAGE));
        }
    }
    let folder = config.path.alerts();
    let book = Book::read(&folder).with_context(|| format!("{}: can't be read", folder.display()))?;
    if !book.alerts.get(&alert.name).is_some_and(AlertState::is_firing) {
        writeln!(out, "{} does not fire; there is nothing to acknowledge", alert.name)?;
        return Ok(ExitCode::FAILURE);
    }
    acknowledge(&folder, &alert.name).with_context(|| format!("{}: can't be written", folder.display()))?;
    let interval = humantime::format_duration(config.alerts.interval);
    writeln!(
        out,
        "{} is silent until it has recovered; the agent takes that up within {interval}",
        alert.name
    )?;
    Ok(ExitCode::SUCCESS)
}

fn ack_watch(config: &Config, alert: &Alert, out: &mut impl Write) -> Result<ExitCode> {
    let outputs = config.outputs()?;
    let options = outputs.elasticsearch().next().map(NamedOutput::client_options).transpose()?.flatten();
    let client =
        Client::new(options.context("Watcher is in Elasticsearch, and there is no output.elasticsearch")?)?;
    // Not the action that keeps the state: it has to go on.
    let path = format!("_watcher/watch/kumon-{}/_ack/log_firing,email_firing,slack_firing", alert.name);
    client.ok(client.request(Method::PUT, &path, None)?)?;
    writeln!(out, "{} is silent until it has recovered", alert.name)?;
    Ok(ExitCode::SUCCESS)
}

fn render(config: &Config, alert: &Alert, form: RenderAs, out: &mut impl Write) -> Result<ExitCode> {
    let interval: Duration = config.alerts.interval;
    let body = match form {
        RenderAs::Watcher => watch(alert, interval, &config.alerts.watcher, Form::Current),
        RenderAs::Kibana => {
            let own = own_connectors(None);
            let connectors = own.iter().map(|(connector, _)| connector.clone()).collect();
            match rule(alert, interval, &RuleSettings { connectors, to: Vec::new() }) {
                Ok(rule) => {
                    let connectors = own.map(|(c, body)| serde_json::json!({"id": c.id, "body": body}));
                    let id = rule_id(&alert.name, None);
                    serde_json::json!({"connectors": connectors, "rule": {"id": id, "body": rule}})
                }
                Err(e) => {
                    eprintln!("kumon: {}: {e}", alert.name);
                    return Ok(ExitCode::FAILURE);
                }
            }
        }
    };
    writeln!(out, "{}", serde_json::to_string_pretty(&body)?)?;
    Ok(ExitCode::SUCCESS)
}
