//! The alerts of a configuration.

use kumon_alerts::{Alert, AlertError, alerts, nearest};

use crate::config::Config;

/// All alerts, by name, those that are off included.
///
/// # Errors
/// When a file or the configuration holds something that is no alert, or an alert names a channel that there isn't.
pub(crate) fn load(config: &Config) -> Result<Vec<Alert>, AlertError> {
    let datasets: Vec<&str> = config.inputs.iter().map(|input| input.dataset.as_str()).collect();
    let alerts = alerts(&config.alerts.selection(), &datasets)?;
    for alert in &alerts {
        for channel in alert.channels.iter().flatten() {
            if !config.channels.contains_key(channel) {
                let near = nearest(channel, config.channels.keys().map(String::as_str));
                let hint = near.map_or(String::new(), |near| format!("; did you mean '{near}'?"));
                return Err(AlertError {
                    place: format!("the alert {}, channels", alert.name),
                    message: format!("the configuration has no channel '{channel}'{hint}"),
                });
            }
        }
    }
    Ok(alerts)
}
