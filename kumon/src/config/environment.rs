//! Overrides from the environment: `KUMON_OUTPUT__ELASTICSEARCH__HOSTS='["https://es1:9200"]'`.

use serde_json::{Map, Value};

use super::{Config, ConfigError, file};

const PREFIX: &str = "KUMON_";
/// The log level, which is needed before there is a configuration.
const NOT_A_KEY: &str = "KUMON_LOG";

/// The `KUMON_…` variables, ordered by name.
pub(super) fn variables() -> Vec<(String, String)> {
    let mut variables: Vec<_> =
        std::env::vars().filter(|(name, _)| name.starts_with(PREFIX) && name != NOT_A_KEY).collect();
    variables.sort();
    variables
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
    use super::{Config, apply};

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
        assert_eq!(config.output.elasticsearch.unwrap().hosts, ["http://127.0.0.1:9200"]);
    }

    #[test]
    fn a_wrong_variable_is_named() {
        let error = with("{}", &[("KUMON_PATH__SPOL", "/c")]).unwrap_err();
        assert!(error.contains("KUMON_PATH__SPOL") && error.contains("spol"), "{error}");
    }
}
