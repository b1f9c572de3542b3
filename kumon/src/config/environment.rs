//! Overrides from the environment: `KUMON_OUTPUT__ELASTICSEARCH__HOSTS='["https://es1:9200"]'`.
//!
//! Kubernetes puts variables of the same beginning there for each Service whose name begins with `kumon`
//! (`KUMON_SERVICE_HOST`, `KUMON_PORT_80_TCP_ADDR`): those are not meant for KuMon.

use serde_json::{Map, Value};

use super::{Config, ConfigError, file};

const PREFIX: &str = "KUMON_";
/// The log level, which is needed before there is a configuration.
const NOT_A_KEY: &str = "KUMON_LOG";

/// The `KUMON_…` variables that are meant for the configuration, ordered by name.
///
/// # Errors
/// When one of them is not UTF-8.
pub(super) fn variables() -> Result<Vec<(String, String)>, ConfigError> {
    let mut variables = Vec::new();
    for (name, value) in std::env::vars_os() {
        let variable = name.to_string_lossy().into_owned();
        if !variable.starts_with(PREFIX) || variable == NOT_A_KEY || is_of_kubernetes(&variable) {
            continue;
        }
        let (Ok(name), Ok(value)) = (name.into_string(), value.into_string()) else {
            return Err(ConfigError::Environment { variable, message: "is not UTF-8".to_owned() });
        };
        variables.push((name, value));
    }
    variables.sort();
    Ok(variables)
}

/// Whether Kubernetes names a variable of a Service so. A configuration's key of one part ends in none of these.
fn is_of_kubernetes(name: &str) -> bool {
    const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];
    let of_port = name.split("_PORT_").skip(1).any(|rest| {
        let mut parts = rest.split('_');
        let is_number = parts.next().is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
        is_number && parts.next().is_some_and(|protocol| PROTOCOLS.contains(&protocol))
    });
    let is_of_service = name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || name.ends_with("_PORT");
    of_port || (is_of_service && !name.contains("__"))
}

/// The configuration of `text` with the variables on top. Two underscores part the keys; values are YAML.
pub(super) fn apply(
    config: Config,
    text: &str,
    variables: Vec<(String, String)>,
) -> Result<Config, ConfigError> {
    if variables.is_empty() {
        return Ok(config);
    }
    // The text was parsed to a Config already, so it is valid YAML.
    let mut tree = serde_saphyr::from_str::<Option<Value>>(text).ok().flatten().unwrap_or_default();
    let mut config = config;
    for (variable, value) in variables {
        let wrong = |message: String| ConfigError::Environment { variable: variable.clone(), message };
        let value: Value = serde_saphyr::from_str(&value).map_err(|e| wrong(file::message(&e)))?;
        let keys = variable[PREFIX.len()..].to_lowercase();
        set(&mut tree, &keys.split("__").collect::<Vec<_>>(), value);
        config = serde_json::from_value(tree.clone()).map_err(|e| wrong(e.to_string()))?;
    }
    Ok(config)
}

fn set(tree: &mut Value, keys: &[&str], value: Value) {
    let Some((first, rest)) = keys.split_first() else {
        *tree = value;
        return;
    };
    if !tree.is_object() {
        *tree = Value::Object(Map::new());
    }
    if let Value::Object(map) = tree {
        set(map.entry(*first).or_insert(Value::Null), rest, value);
    }
}

#[cfg(test)]
mod tests {
    use super::{Config, apply, is_of_kubernetes};

    fn with(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
        let variables = variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let config = serde_saphyr::from_str(text).unwrap();
        apply(config, text, variables).map_err(|e| e.to_string())
    }

    #[test]
    fn variables_override_single_keys() {
        let config = with(
            "path: {spool: /a, state: /b}",
            &[
                ("KUMON_PATH__SPOOL", "/c"),
                ("KUMON_OUTPUT__ELASTICSEARCH__HOSTS", "[\"http://127.0.0.1:9200\"]"),
            ],
        );
        let config = config.unwrap();
        assert_eq!((config.path.spool, config.path.state), ("/c".into(), "/b".into()));
        assert_eq!(config.output.unwrap().elasticsearch.unwrap().hosts, ["http://127.0.0.1:9200"]);
    }

    #[test]
    fn variables_of_kubernetes_services_are_not_for_the_configuration() {
        let injected = [
            "KUMON_SERVICE_HOST",
            "KUMON_SERVICE_PORT",
            "KUMON_SERVICE_PORT_HTTP",
            "KUMON_PORT",
            "KUMON_PORT_5680_TCP",
            "KUMON_PORT_5680_TCP_PROTO",
            "KUMON_PORT_5680_TCP_PORT",
            "KUMON_PORT_5680_TCP_ADDR",
            "KUMON_WEB_SERVICE_HOST",
            "KUMON_WEB_PORT",
            "KUMON_WEB_PORT_53_UDP_ADDR",
            "KUMON_STORE_PORT_9999_SCTP",
            "KUMON__A_PORT_80_TCP",
        ];
        for name in injected {
            assert!(is_of_kubernetes(name), "{name}");
        }
        for name in ["KUMON_WEB__LISTEN", "KUMON_NAMESPACE", "KUMON_CHANNELS__MAIL__PORT", "KUMON_SPOL__X"] {
            assert!(!is_of_kubernetes(name), "{name}");
        }
    }

    #[test]
    fn a_wrong_variable_is_named() {
        let error = with("{}", &[("KUMON_PATH__SPOL", "/c")]).unwrap_err();
        assert!(error.contains("KUMON_PATH__SPOL") && error.contains("spol"), "{error}");
    }
}
