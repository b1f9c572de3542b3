//! The alerts of a configuration.

use kumon_alerts::{Alert, AlertError, Alerts, Wrong, alerts};
use kumon_query::did_you_mean;

use crate::config::Config;

/// Mistakes in alerts, where all have to be right.
#[derive(Debug, thiserror::Error)]
#[error("{}", lines(.0))]
pub(crate) struct WrongAlerts(Vec<Wrong>);

fn lines(wrong: &[Wrong]) -> String {
    wrong.iter().map(|wrong| wrong.error.to_string()).collect::<Vec<_>>().join("\n")
}

/// All alerts, those that are off included, without those that are wrong or name a channel that there isn't.
pub(crate) fn load(config: &Config) -> Alerts {
    let datasets: Vec<&str> = config.inputs.iter().map(|input| input.dataset.as_str()).collect();
    let mut all = alerts(&config.alerts.selection(), &datasets);
    let mut usable = Vec::new();
    for alert in all.usable {
        match missing_channel(&alert, config) {
            None => usable.push(alert),
            Some(error) => all.wrong.push(Wrong { alert: Some(alert.name), error }),
        }
    }
    Alerts { usable, wrong: all.wrong }
}

/// The same, where all have to be right.
///
/// # Errors
/// When one is wrong: all mistakes.
pub(crate) fn load_all(config: &Config) -> Result<Vec<Alert>, WrongAlerts> {
    let Alerts { usable, wrong } = load(config);
    if wrong.is_empty() { Ok(usable) } else { Err(WrongAlerts(wrong)) }
}

fn missing_channel(alert: &Alert, config: &Config) -> Option<AlertError> {
    let mut named = alert.channels.iter().flatten();
    let channel = named.find(|channel| !config.channels.contains_key(*channel))?;
    let hint = did_you_mean(channel, config.channels.keys().map(String::as_str));
    let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
    Some(AlertError {
        place: format!("the alert {}, channels", alert.name),
        message: format!("the configuration has no channel '{channel}'{hint}"),
    })
}
