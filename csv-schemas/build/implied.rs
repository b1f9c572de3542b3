//! Columns that follow from others: `csv-schemas/implied/<field>.json` has those that stand behind that document field in
//! every schema that has it.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::value::RawValue;

/// By the document field behind which they stand.
pub(crate) struct Implied(BTreeMap<String, (u32, Vec<String>)>);

/// As much of a schema as has to be known, each value with its place in the text.
#[derive(Deserialize)]
struct Text<'a> {
    #[serde(borrow)]
    version: &'a RawValue,
    #[serde(borrow)]
    fields: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Field {
    #[serde(default)]
    ecs: String,
}

impl Implied {
    pub(crate) fn read(folder: &Path) -> Result<Implied, Box<dyn Error>> {
        let mut implied = BTreeMap::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let Some(field) = path.file_stem().and_then(|stem| stem.to_str()) else { continue };
            let text = fs::read_to_string(&path)?;
            let read = || -> serde_json::Result<(u32, Vec<String>)> {
                let text: Text<'_> = serde_json::from_str(&text)?;
                let columns = text.fields.iter().map(|column| column.get().to_owned()).collect();
                Ok((serde_json::from_str(text.version.get())?, columns))
            };
            implied.insert(field.to_owned(), read().map_err(|e| format!("{}: {e}", path.display()))?);
        }
        Ok(Implied(implied))
    }

    /// The schema's text with the columns that follow from its own. Its version grows with theirs.
    pub(crate) fn expand(&self, schema: &str) -> serde_json::Result<String> {
        let text: Text<'_> = serde_json::from_str(schema)?;
        let place = |value: &RawValue| {
            let start = value.get().as_ptr() as usize - schema.as_ptr() as usize;
            start..start + value.get().len()
        };
        let mut version: u32 = serde_json::from_str(text.version.get())?;
        let mut insertions = Vec::new();
        for &column in &text.fields {
            let Field { ecs } = serde_json::from_str(column.get())?;
            let Some((of_columns, columns)) = self.0.get(&ecs) else { continue };
            version += of_columns;
            let columns: String = columns.iter().map(|column| format!(",\n    {column}")).collect();
            insertions.push((place(column).end, columns));
        }
        let mut expanded = schema.to_owned();
        for (place, columns) in insertions.iter().rev() {
            expanded.insert_str(*place, columns);
        }
        // It stands before the columns, see `read` of build.rs.
        expanded.replace_range(place(text.version), &version.to_string());
        Ok(expanded)
    }
}
