//! Where rows go: the one `output`, or each of the list `outputs`.

use kumon_shipper::elasticsearch::Options as ClientOptions;

use super::output::{ElasticsearchOutput, OutputEntry};
use super::{Config, ConfigError};

/// The embedded store's name, where it is given none.
const STORE: &str = "store";
const ELASTICSEARCH: &str = "elasticsearch";
const MAX_NAME: usize = 64;

/// All outputs, in the order of the configuration; there is at least one.
#[derive(Debug, Clone)]
pub(crate) struct Outputs {
    pub(crate) all: Vec<NamedOutput>,
    /// Whether they are a list, in which each has its own name.
    pub(crate) are_listed: bool,
}

/// One of them.
#[derive(Debug, Clone)]
pub(crate) struct NamedOutput {
    pub(crate) name: String,
    pub(crate) target: Target,
    /// Where it stands in the configuration.
    key: String,
}

#[derive(Debug, Clone)]
pub(crate) enum Target {
    Store,
    Elasticsearch(Box<ElasticsearchOutput>),
}

/// The command line names no output that there is, or none where there are several.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct OutputChoiceError(String);

impl Outputs {
    /// The outputs of a configuration.
    ///
    /// # Errors
    /// When the keys contradict each other, or names can't be used.
    pub(super) fn of(config: &Config) -> Result<Outputs, ConfigError> {
        let Some(list) = &config.outputs else {
            let target = match config.output.clone().unwrap_or_default().elasticsearch {
                Some(output) => Target::Elasticsearch(output.into()),
                None => Target::Store,
            };
            let name = target.kind().to_owned();
            let single = NamedOutput { name, target, key: "output".into() };
            single.validate()?;
            return Ok(Outputs { all: vec![single], are_listed: false });
        };
        if config.output.is_some() {
            return wrong("outputs", "there is 'output' beside it; move that into the list");
        }
        if list.is_empty() {
            return wrong("outputs", "is empty: name at least one output, or leave the key out");
        }
        let entries = list.iter().enumerate();
        let all = entries.map(|(number, entry)| entry.resolve(format!("outputs[{number}]")));
        let all = all.collect::<Result<Vec<NamedOutput>, ConfigError>>()?;
        for (number, output) in all.iter().enumerate() {
            let (before, key) = (&all[..number], &output.key);
            if output.is_store() && before.iter().any(NamedOutput::is_store) {
                return wrong(key, "there is one embedded store already; a node has at most one");
            }
            if let Some(other) = before.iter().find(|other| other.name == output.name) {
                let what =
                    format!("{} is named '{}', too; give each a 'name' of its own", other.key, other.name);
                return wrong(&format!("{key}.name"), &what);
            }
        }
        Ok(Outputs { all, are_listed: true })
    }

    /// Who answers questions unless somebody else is named: the store, which is on this machine, else the first
    /// Elasticsearch.
    pub(crate) fn answering(&self) -> &NamedOutput {
        self.store().unwrap_or(&self.all[0])
    }

    /// The embedded store, if rows go there.
    pub(crate) fn store(&self) -> Option<&NamedOutput> {
        self.all.iter().find(|output| output.is_store())
    }

    /// All Elasticsearch outputs. The first one is who Watcher and Kibana belong to.
    pub(crate) fn elasticsearch(&self) -> impl Iterator<Item = &NamedOutput> {
        self.all.iter().filter(|output| !output.is_store())
    }

    /// The output of that name.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn named(&self, name: &str) -> Result<&NamedOutput, OutputChoiceError> {
        self.all.iter().find(|output| output.name == name).ok_or_else(|| {
            OutputChoiceError(format!(
                "there is no output '{name}'; the configuration has {}",
                names(&self.all)
            ))
        })
    }

    /// The output of that name; without one the only one there is.
    ///
    /// # Errors
    /// When there is none, or a choice.
    pub(crate) fn chosen(&self, name: Option<&str>) -> Result<&NamedOutput, OutputChoiceError> {
        match (name, &self.all[..]) {
            (Some(name), _) => self.named(name),
            (None, [only]) => Ok(only),
            (None, all) => Err(choose(all)),
        }
    }
}

/// Several are there, and none was named.
pub(crate) fn choose<'a>(among: impl IntoIterator<Item = &'a NamedOutput>) -> OutputChoiceError {
    OutputChoiceError(format!("there are several outputs; say which with --output: {}", names(among)))
}

fn names<'a>(outputs: impl IntoIterator<Item = &'a NamedOutput>) -> String {
    outputs.into_iter().map(|output| output.name.as_str()).collect::<Vec<_>>().join(", ")
}

impl OutputEntry {
    fn resolve(&self, key: String) -> Result<NamedOutput, ConfigError> {
        let target = match (&self.elasticsearch, &self.store) {
            (Some(output), None) => Target::Elasticsearch(output.clone().into()),
            (None, Some(_)) => Target::Store,
            _ => return wrong(&key, "give it either elasticsearch: {…} or store: {}"),
        };
        let name = self.name.clone().unwrap_or_else(|| target.kind().to_owned());
        let output = NamedOutput { name, target, key };
        output.validate()?;
        Ok(output)
    }
}

impl NamedOutput {
    pub(crate) fn is_store(&self) -> bool {
        matches!(self.target, Target::Store)
    }

    /// How to reach the cluster, and as whom; none for the embedded store.
    ///
    /// # Errors
    /// When keys contradict each other.
    pub(crate) fn client_options(&self) -> Result<Option<ClientOptions>, ConfigError> {
        match &self.target {
            Target::Store => Ok(None),
            Target::Elasticsearch(output) => {
                output.client_options(&format!("{}.elasticsearch", self.key)).map(Some)
            }
        }
    }

    fn validate(&self) -> Result<(), ConfigError> {
        let key = format!("{}.name", self.key);
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let name = &self.name;
        if name.is_empty()
            || name.len() > MAX_NAME
            || !name.chars().all(allowed)
            || !name.starts_with(|c: char| c.is_ascii_alphanumeric())
        {
            let what = format!(
                "'{name}' names a folder: letters, digits, '.', '_' and '-' are allowed, at most {MAX_NAME}, a letter or \
                 digit first"
            );
            return wrong(&key, &what);
        }
        if name == STORE && !self.is_store() {
            return wrong(&key, "'store' is the name of the embedded store");
        }
        self.client_options().map(|_| ())
    }
}

impl Target {
    fn kind(&self) -> &'static str {
        match self {
            Target::Store => STORE,
            Target::Elasticsearch(_) => ELASTICSEARCH,
        }
    }
}

fn wrong<T>(key: &str, what: &str) -> Result<T, ConfigError> {
    Err(ConfigError::Value { key: key.into(), what: what.into() })
}

#[cfg(test)]
mod tests {
    use super::{Config, Outputs};

    fn outputs(text: &str) -> Result<Outputs, String> {
        Outputs::of(&serde_saphyr::from_str::<Config>(text).unwrap()).map_err(|e| e.to_string())
    }

    fn names(outputs: &Outputs) -> Vec<&str> {
        outputs.all.iter().map(|output| output.name.as_str()).collect()
    }

    #[test]
    fn a_single_output_is_named_by_its_kind() {
        for (text, name) in [
            ("{}", "store"),
            ("output: {}", "store"),
            ("output: { elasticsearch: { hosts: ['http://a:9200'] } }", "elasticsearch"),
        ] {
            let outputs = outputs(text).unwrap();
            assert!(names(&outputs) == [name] && !outputs.are_listed, "{text}");
        }
    }

    #[test]
    fn a_list_keeps_its_order_and_the_store_answers() {
        let text = "outputs: [{ elasticsearch: { hosts: ['http://a:9200'] } }, { store: {} }, \
                    { name: far, elasticsearch: { hosts: ['http://b:9200'] } }]";
        let outputs = outputs(text).unwrap();
        assert_eq!(names(&outputs), ["elasticsearch", "store", "far"]);
        assert_eq!(outputs.answering().name, "store");
        assert_eq!(outputs.elasticsearch().next().unwrap().name, "elasticsearch");
        assert_eq!(outputs.chosen(Some("far")).unwrap().name, "far");
        let unknown = outputs.chosen(Some("near")).unwrap_err().to_string();
        assert!(unknown.contains("'near'") && unknown.contains("elasticsearch, store, far"), "{unknown}");
        let several = outputs.chosen(None).unwrap_err().to_string();
        assert!(several.contains("--output: elasticsearch, store, far"), "{several}");
    }

    #[test]
    fn mistakes_are_named_with_their_key() {
        const ES: &str = "elasticsearch: { hosts: ['http://a:9200'] }";
        for (text, parts) in [
            ("output: {}\noutputs: [{ store: {} }]", ["outputs: ", "'output' beside it"]),
            ("outputs: []", ["outputs: ", "is empty"]),
            ("outputs: [{}]", ["outputs[0]: ", "either elasticsearch"]),
            (&format!("outputs: [{{ store: {{}}, {ES} }}]"), ["outputs[0]: ", "either elasticsearch"]),
            ("outputs: [{ store: {} }, { name: b, store: {} }]", ["outputs[1]: ", "at most one"]),
            (
                &format!("outputs: [{{ {ES} }}, {{ {ES} }}]"),
                ["outputs[1].name: ", "outputs[0] is named 'elasticsearch'"],
            ),
            (&format!("outputs: [{{ name: ../a, {ES} }}]"), ["outputs[0].name: ", "'../a'"]),
            (&format!("outputs: [{{ name: '', {ES} }}]"), ["outputs[0].name: ", "a letter or digit first"]),
            (&format!("outputs: [{{ name: store, {ES} }}]"), ["outputs[0].name: ", "the embedded store"]),
            ("outputs: [{ elasticsearch: { hosts: [] } }]", ["outputs[0].elasticsearch: ", "hosts is empty"]),
        ] {
            let error = outputs(text).unwrap_err();
            assert!(parts.iter().all(|part| error.contains(part)), "{text}: {error}");
        }
    }
}
