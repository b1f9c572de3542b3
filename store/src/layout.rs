//! How rows are laid out in an index: one field per document field of all the metrics, by its full ECS name.
//!
//! Rows of foreign inputs, whose fields are not known beforehand, go into two JSON fields as they are: one for whole
//! values, one for words. An index keeps the layout it was made with; reading goes by its names, not by today's.

use std::collections::{BTreeMap, HashMap};

use kumon_query::{FieldKind, Fields};
use tantivy::schema::{
    DateOptions, DateTimePrecision, FAST, Field, INDEXED, IndexRecordOption, IpAddrOptions,
    JsonObjectOptions, STORED, Schema, TextFieldIndexing, TextOptions,
};

use crate::tokenizer;

/// The dataset a row belongs to (`kumon.exec`).
pub(crate) const DATASET: &str = "_dataset";
/// The row itself, as it was sent.
pub(crate) const SOURCE: &str = "_source";
/// A foreign row's fields, by whole values.
pub(crate) const FOREIGN: &str = "_foreign";
/// A foreign row's fields, by words.
pub(crate) const FOREIGN_WORDS: &str = "_foreign_words";
/// All texts of a foreign row: whole values.
pub(crate) const TEXTS: &str = "_texts";
/// All texts of a foreign row: words.
pub(crate) const WORDS: &str = "_words";
pub(crate) const TIMESTAMP: &str = "@timestamp";

/// Elasticsearch's default for keywords without an `ignore_above` here: what Lucene can hold.
const LONGEST_KEYWORD: usize = 8191;

/// The fields that rows of today's metrics are written to.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) schema: Schema,
    pub(crate) columns: HashMap<String, Column>,
    pub(crate) dataset: Field,
    pub(crate) source: Field,
    pub(crate) foreign: Field,
    pub(crate) foreign_words: Field,
    pub(crate) texts: Field,
    pub(crate) words: Field,
    pub(crate) timestamp: Field,
}

/// Where one document field goes.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) field: Field,
    pub(crate) kind: FieldKind,
    /// Its `.text` multi-field.
    pub(crate) words: Option<Field>,
    /// Keywords longer than so many UTF-16 units are not searchable as a whole.
    pub(crate) ignore_above: usize,
}

impl Layout {
    /// The layout that the schemas of this program's metrics make.
    pub(crate) fn current() -> Layout {
        let mut builder = Schema::builder();
        let dataset = builder.add_text_field(DATASET, keyword());
        let source = builder.add_text_field(SOURCE, STORED);
        let json = |tokenizer, record| {
            let indexing = TextFieldIndexing::default()
                .set_tokenizer(tokenizer)
                .set_index_option(record)
                .set_fieldnorms(false);
            JsonObjectOptions::default().set_indexing_options(indexing).set_expand_dots_enabled()
        };
        let whole = json("raw", IndexRecordOption::Basic).set_fast("raw");
        let foreign = builder.add_json_field(FOREIGN, whole);
        let positions = IndexRecordOption::WithFreqsAndPositions;
        let foreign_words = builder.add_json_field(FOREIGN_WORDS, json(tokenizer::NAME, positions));
        let texts = builder.add_text_field(TEXTS, whole_values());
        let words = builder.add_text_field(WORDS, words_of_text());

        // In the order of their names, so that the same schemas always make the same layout.
        let mut known: BTreeMap<String, FieldKind> =
            BTreeMap::from([(TIMESTAMP.to_owned(), FieldKind::Date)]);
        let mut longest = HashMap::new();
        for schema in kumon_schema::all() {
            known.extend(Fields::of(schema).known().map(|(name, kind)| (name.to_owned(), kind)));
            let above = |field: &kumon_schema::Field| field.elasticsearch["ignore_above"].as_u64();
            longest.extend(schema.fields.iter().filter_map(|f| Some((f.ecs.clone(), above(f)?))));
        }
        let fields: HashMap<_, _> =
            known.iter().map(|(name, kind)| (name.clone(), add(&mut builder, name, *kind))).collect();
        let column = |(name, kind): (&String, &FieldKind)| {
            let column = Column {
                field: fields[name],
                kind: *kind,
                words: fields.get(&format!("{name}.text")).copied(),
                ignore_above: longest.get(name).map_or(LONGEST_KEYWORD, |longest| *longest as usize),
            };
            (name.clone(), column)
        };
        let columns = known.iter().filter(|(_, kind)| **kind != FieldKind::Words).map(column).collect();
        let (timestamp, schema) = (fields[TIMESTAMP], builder.build());
        Layout { schema, columns, dataset, source, foreign, foreign_words, texts, words, timestamp }
    }
}

fn add(builder: &mut tantivy::schema::SchemaBuilder, name: &str, kind: FieldKind) -> Field {
    match kind {
        FieldKind::Keyword | FieldKind::Foreign => builder.add_text_field(name, keyword()),
        FieldKind::Words => builder.add_text_field(name, words_of_text()),
        // Their columns answer all that is asked of them. Terms beside those would be a second index, and cost more than
        // the columns do: numbers are nearly always new, and each field with terms takes a megabyte in each commit.
        FieldKind::Long => builder.add_i64_field(name, FAST),
        FieldKind::Double => builder.add_f64_field(name, FAST),
        // tantivy looks for no truth values in columns.
        FieldKind::Boolean => builder.add_bool_field(name, INDEXED | FAST),
        // As precise as the rows are.
        FieldKind::Date => builder.add_date_field(
            name,
            DateOptions::default().set_fast().set_precision(DateTimePrecision::Microseconds),
        ),
        FieldKind::Ip => builder.add_ip_addr_field(name, IpAddrOptions::default().set_fast()),
    }
}

/// Whole values, also for aggregations and ranges.
fn keyword() -> TextOptions {
    whole_values().set_fast("raw")
}

fn whole_values() -> TextOptions {
    indexed("raw", IndexRecordOption::Basic)
}

fn words_of_text() -> TextOptions {
    indexed(tokenizer::NAME, IndexRecordOption::WithFreqsAndPositions)
}

fn indexed(tokenizer: &str, record: IndexRecordOption) -> TextOptions {
    let indexing = TextFieldIndexing::default();
    // Norms serve ranking, and nothing here is ranked.
    let indexing = indexing.set_tokenizer(tokenizer).set_index_option(record).set_fieldnorms(false);
    TextOptions::default().set_indexing_options(indexing)
}

#[cfg(test)]
mod tests {
    use super::Layout;

    #[test]
    fn the_same_schemas_make_the_same_layout() {
        assert_eq!(Layout::current().schema, Layout::current().schema);
    }

    #[test]
    fn every_field_of_every_metric_has_a_place() {
        let layout = Layout::current();
        for schema in kumon_schema::all() {
            for field in &schema.fields {
                let column = &layout.columns[&field.ecs];
                assert_eq!(column.words.is_some(), !field.elasticsearch["fields"]["text"].is_null());
            }
        }
    }
}
