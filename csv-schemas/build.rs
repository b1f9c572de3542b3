//! Generates one row type per schema file, so that adding a column is a change in the schema file plus the code
//! that fills it: the compiler names every place that doesn't. Columns that follow from others are put in.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use serde::Deserialize;

#[path = "build/coarse.rs"]
mod coarse;
#[path = "build/implied.rs"]
mod implied;
#[allow(dead_code, unreachable_pub, reason = "the crate's own, of which the check needs a part")]
#[path = "src/meaning.rs"]
mod meaning;
#[allow(dead_code, unreachable_pub, reason = "the crate's own, of which the check needs a part")]
#[path = "src/schema.rs"]
mod schema;

#[derive(Deserialize)]
struct Schema {
    name: String,
    title: String,
    fields: Vec<Field>,
}

#[derive(Deserialize)]
struct Field {
    name: String,
    r#type: String,
    #[serde(default)]
    unit: String,
    #[serde(default)]
    ecs: String,
    description: String,
    #[serde(default)]
    elasticsearch: Mapping,
    #[serde(default)]
    constraints: Constraints,
    /// Of a list.
    #[serde(default, rename = "itemType")]
    item_type: String,
    #[serde(default)]
    delimiter: Option<char>,
}

#[derive(Deserialize, Default)]
struct Mapping {
    r#type: String,
}

#[derive(Deserialize, Default)]
struct Constraints {
    #[serde(default)]
    required: bool,
    minimum: Option<i64>,
    /// With one value only it is in every row, and the row types leave it out.
    #[serde(default, rename = "enum")]
    values: Vec<String>,
}

/// The columns every metric starts with, and the documents' fields; the row types leave them out but for the time. See
/// `write_row`.
const COMMON: [(&str, &str); 4] = [
    ("timestamp", "@timestamp"),
    ("host_name", "host.name"),
    ("host_id", "host.id"),
    ("boot_id", "host.boot.id"),
];

/// What a row says of its subject, by the document's field name; with the member of `SubjectFields` that has it. The row
/// types leave these columns out: they are filled in at one place for all metrics.
const SUBJECT: [(&str, &str); 16] = [
    ("process.entity_id", "entity_id"),
    ("process.pid", "pid"),
    ("process.name", "name"),
    ("user.id", "uid"),
    ("user.name", "user_name"),
    ("group.id", "gid"),
    ("kumon.cgroup.id", "cgroup_id"),
    ("container.id", "container_id"),
    ("container.name", "container_name"),
    ("container.image.name", "container_image"),
    ("container.runtime", "container_runtime"),
    ("systemd.unit", "unit"),
    ("kubernetes.namespace", "kubernetes_namespace"),
    ("kubernetes.pod.name", "pod_name"),
    ("kubernetes.pod.uid", "pod_uid"),
    ("kubernetes.container.name", "kubernetes_container"),
];

fn main() -> Result<(), Box<dyn Error>> {
    let here = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    println!("cargo::rerun-if-changed={}", here.display());
    let mut files: Vec<PathBuf> = fs::read_dir(&here)?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .filter(|path| path.extension().is_some_and(|ext| ext == "json"))
        .collect();
    files.sort();

    let implied = implied::Implied::read(&here.join("implied"))?;
    let mut code = String::new();
    let mut texts = Vec::new();
    for path in &files {
        let (text, schema) = read(path, &implied)?;
        row(&mut code, &schema)?;
        let coarse = coarse::of(&text)?.map(|coarse| (format!("{}_10m", schema.name), coarse));
        texts.extend(coarse);
        texts.push((schema.name, text));
    }
    texts.sort();
    let texts: Vec<String> = texts.into_iter().map(|(_, text)| text).collect();
    meaning::read(&texts)?;
    writeln!(code, "/// The text of every schema, in the order of the metrics' names.")?;
    writeln!(code, "pub(crate) const TEXTS: &[&str] = &{texts:#?};")?;
    fs::write(Path::new(&env::var("OUT_DIR")?).join("rows.rs"), code)?;
    Ok(())
}

/// The schema of a file, and its text with the columns that follow from its own.
fn read(path: &Path, implied: &implied::Implied) -> Result<(String, Schema), Box<dyn Error>> {
    let bad = |why: String| format!("{}: {why}", path.display());
    let text = implied.expand(&fs::read_to_string(path)?).map_err(|e| bad(e.to_string()))?;
    let schema: Schema = serde_json::from_str(&text).map_err(|e| bad(e.to_string()))?;
    if path.file_stem().is_none_or(|stem| *stem != *schema.name) {
        return Err(bad(format!("the schema is named '{}', its file must be too", schema.name)).into());
    }
    let head = schema.fields.iter().take(COMMON.len()).map(|f| (f.name.as_str(), f.ecs.as_str()));
    let head: Vec<(&str, &str)> = head.collect();
    if head != COMMON {
        return Err(bad(format!("the columns must begin with {COMMON:?}, they begin with {head:?}")).into());
    }
    Ok((text, schema))
}

/// Writes the struct of one metric's rows and its `Row` implementation.
fn row(code: &mut String, schema: &Schema) -> Result<(), Box<dyn Error>> {
    let fields = &schema.fields[COMMON.len()..];
    let is_own = |field: &&Field| field.of_subject().is_none() && field.constant().is_none();
    let own: Vec<&Field> = fields.iter().filter(is_own).collect();
    let name = camel(&schema.name);
    let lifetime = if own.iter().any(|f| ["string", "list"].contains(&&*f.r#type)) { "<'a>" } else { "" };
    let elided = if lifetime.is_empty() { "" } else { "<'_>" };

    writeln!(code, "/// A row of the metric `{}`: {}.", schema.name, schema.title)?;
    writeln!(code, "#[derive(Debug, Clone, Default, PartialEq)]\npub struct {name}{lifetime} {{")?;
    writeln!(code, "    /// Nanoseconds since the Unix epoch.\n    pub timestamp: i64,")?;
    for field in own {
        let unit = if field.unit.is_empty() { String::new() } else { format!(" ({})", field.unit) };
        writeln!(
            code,
            "    /// {}{unit}.\n    pub {}: {},",
            field.description,
            field.name,
            rust_type(field)?
        )?;
    }
    writeln!(
        code,
        "}}\n\nimpl Row for {name}{elided} {{\n    const METRIC: &'static str = {:?};\n",
        schema.name
    )?;
    writeln!(code, "    fn timestamp(&self) -> i64 {{\n        self.timestamp\n    }}\n")?;
    let subject = if fields.iter().any(|field| field.of_subject().is_some()) { "subject" } else { "_" };
    writeln!(
        code,
        "    fn write_fields(&self, {subject}: &SubjectFields<'_>, record: &mut impl Columns) {{"
    )?;
    for field in fields {
        let value = match (field.of_subject(), field.constant()) {
            (Some(member), _) => format!("&subject.{member}"),
            (None, Some(value)) => format!("{value:?}.as_bytes()"),
            (None, None) if field.r#type == "list" => {
                format!("&crate::List::new(self.{}, {:?})", field.name, field.delimiter.unwrap_or(',') as u8)
            }
            (None, None) => format!("&self.{}", field.name),
        };
        writeln!(code, "        record.field({}, {value});", column(field)?)?;
    }
    writeln!(code, "    }}\n}}\n")?;
    Ok(())
}

impl Field {
    /// The member of `SubjectFields` that fills the column.
    fn of_subject(&self) -> Option<&'static str> {
        SUBJECT.iter().find_map(|(ecs, member)| (self.ecs == *ecs).then_some(*member))
    }

    /// The text that every row has in the column.
    fn constant(&self) -> Option<&str> {
        match self.constraints.values.as_slice() {
            [value] if self.r#type == "string" => Some(value),
            _ => None,
        }
    }
}

/// The column as an expression.
fn column(field: &Field) -> Result<String, Box<dyn Error>> {
    let name = if field.ecs.is_empty() { &field.name } else { &field.ecs };
    let key = serde_json::to_string(name)? + ":";
    let is_text = field.r#type == "integer" && field.elasticsearch.r#type == "keyword";
    Ok(format!("Column::{}({key:?})", if is_text { "text" } else { "new" }))
}

fn rust_type(field: &Field) -> Result<String, String> {
    if field.r#type == "list" {
        let item = if field.item_type.is_empty() { "string" } else { &field.item_type };
        return Ok(format!("&'a [{}]", plain_type(field, item)?));
    }
    let plain = plain_type(field, &field.r#type)?;
    // An empty string is an absent value (missingValues), so strings need no Option.
    Ok(if field.constraints.required || plain == "&'a [u8]" {
        plain.into()
    } else {
        format!("Option<{plain}>")
    })
}

fn plain_type(field: &Field, r#type: &str) -> Result<&'static str, String> {
    Ok(match r#type {
        "string" => "&'a [u8]",
        "integer" if field.constraints.minimum.is_some_and(|m| m >= 0) => "u64",
        "integer" => "i64",
        "number" => "f64",
        "boolean" => "bool",
        "datetime" => "crate::Time",
        other => return Err(format!("column {}: type '{other}' has no row type", field.name)),
    })
}

fn camel(name: &str) -> String {
    name.split('_')
        .map(|word| {
            let mut chars = word.chars();
            chars.next().map(|c| c.to_ascii_uppercase()).into_iter().chain(chars).collect::<String>()
        })
        .collect()
}
