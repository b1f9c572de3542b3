//! Rendering of conditions to tantivy's queries.

use std::ops::Bound;

use kumon_query::{Condition, Pattern, Piece, Term as Sought, Value};
use tantivy::query::{
    AllQuery, BooleanQuery, EmptyQuery, ExistsQuery, Occur, PhraseQuery, Query, RangeQuery, RegexQuery,
    TermQuery,
};
use tantivy::schema::{Field, IndexRecordOption, Schema, Type};
use tantivy::{DateTime, Term};

use crate::layout::{DATASET, FOREIGN, FOREIGN_WORDS, TEXTS, WORDS};
use crate::values::to_v6;

/// What is asked of an index with this layout. A field that the index does not have, or has with another type,
/// has no values in it.
pub(crate) struct Rendering<'a> {
    pub(crate) schema: &'a Schema,
    /// Whether the rows are a foreign input's.
    pub(crate) foreign: bool,
}

type Rendered = tantivy::Result<Box<dyn Query>>;

impl Rendering<'_> {
    /// The rows of `dataset` that fulfil the condition.
    pub(crate) fn rows(&self, dataset: &str, condition: &Condition) -> Rendered {
        let dataset = term(Term::from_field_text(self.schema.get_field(DATASET)?, dataset));
        Ok(Box::new(BooleanQuery::intersection(vec![dataset, self.render(condition)?])))
    }

    /// The rows, of whatever dataset, that fulfil the condition.
    pub(crate) fn render(&self, condition: &Condition) -> Rendered {
        Ok(match condition {
            Condition::All => Box::new(AllQuery),
            Condition::None => Box::new(EmptyQuery),
            Condition::And(all) => Box::new(BooleanQuery::intersection(self.each(all)?)),
            Condition::Or(any) => Box::new(BooleanQuery::union(self.each(any)?)),
            Condition::Not(not) => Box::new(BooleanQuery::new(vec![
                (Occur::Must, Box::new(AllQuery)),
                (Occur::MustNot, self.render(not)?),
            ])),
            Condition::Exists(name) => self.exists(name),
            Condition::Equals { field, value } => match self.typed(field, value) {
                Some(value) => equal(value),
                None => Box::new(EmptyQuery),
            },
            Condition::Phrase { field, words } => self.phrase(field, words),
            Condition::Wildcard { field, pattern } => self.wildcard(field, pattern)?,
            Condition::Range { field, lower, upper } => self.range(field, lower, upper),
            Condition::Foreign { field, text } => self.foreign_value(field, text),
            Condition::Anywhere(sought) => self.anywhere(sought)?,
        })
    }

    fn each(&self, conditions: &[Condition]) -> tantivy::Result<Vec<Box<dyn Query>>> {
        conditions.iter().map(|condition| self.render(condition)).collect()
    }

    fn exists(&self, name: &str) -> Box<dyn Query> {
        match self.place(name) {
            Some(Place::Column(_)) => Box::new(ExistsQuery::new(name.to_owned(), false)),
            Some(Place::Foreign) => Box::new(ExistsQuery::new(format!("{FOREIGN}.{name}"), true)),
            None => Box::new(EmptyQuery),
        }
    }

    fn phrase(&self, name: &str, words: &[String]) -> Box<dyn Query> {
        match self.place(name) {
            Some(Place::Column(field)) => {
                phrase(words.iter().map(|word| Term::from_field_text(field, word)).collect())
            }
            Some(Place::Foreign) => {
                let value = |word: &String| Value::Keyword(word.clone());
                let term = |path, word| self.foreign_term(FOREIGN_WORDS, path, &value(word));
                let at = |path| phrase(words.iter().filter_map(|word| term(path, word)).collect());
                Box::new(BooleanQuery::union(word_paths(name).map(at).collect()))
            }
            None => Box::new(EmptyQuery),
        }
    }

    fn wildcard(&self, name: &str, pattern: &Pattern) -> Rendered {
        match self.place(name) {
            Some(Place::Column(field)) => regex(&expression(pattern), field),
            Some(Place::Foreign) if name.ends_with(".text") => {
                let any: tantivy::Result<_> = word_paths(name)
                    .map(|path| self.foreign_wildcard(FOREIGN_WORDS, path, pattern))
                    .collect();
                Ok(Box::new(BooleanQuery::union(any?)))
            }
            Some(Place::Foreign) => self.foreign_wildcard(FOREIGN, name, pattern),
            None => Ok(Box::new(EmptyQuery)),
        }
    }

    /// On a JSON field's terms, which tantivy writes as path, end of path, type, text.
    fn foreign_wildcard(&self, place: &str, path: &str, pattern: &Pattern) -> Rendered {
        let (path, text) = (escape(&path.replace('.', "\u{1}")), char::from(Type::Str.to_code()));
        regex(&format!("{path}\\x00{text}{}", expression(pattern)), self.schema.get_field(place)?)
    }

    fn range(&self, name: &str, lower: &Bound<Value>, upper: &Bound<Value>) -> Box<dyn Query> {
        let bound = |bound: &Bound<Value>| match bound {
            Bound::Included(value) => self.typed(name, value).map(Bound::Included),
            Bound::Excluded(value) => self.typed(name, value).map(Bound::Excluded),
            Bound::Unbounded => Some(Bound::Unbounded),
        };
        match (bound(lower), bound(upper)) {
            (Some(lower), Some(upper)) => Box::new(RangeQuery::new(lower, upper)),
            _ => Box::new(EmptyQuery),
        }
    }

    /// A foreign value may be a text, a number or a truth value: whatever the text can mean.
    fn foreign_value(&self, name: &str, text: &str) -> Box<dyn Query> {
        let mut values = vec![Value::Keyword(text.to_owned())];
        values.extend(text.parse().map(Value::Long));
        values.extend(text.parse().ok().filter(|number: &f64| number.is_finite()).map(Value::Double));
        values.extend(text.parse().map(Value::Boolean));
        let terms = values.iter().filter_map(|value| self.typed(name, value)).map(term);
        Box::new(BooleanQuery::union(terms.collect()))
    }

    fn anywhere(&self, sought: &Sought) -> Rendered {
        let (texts, words) = (self.schema.get_field(TEXTS)?, self.schema.get_field(WORDS)?);
        let either = match sought {
            Sought::Text(text) => {
                let words = kumon_query::words(text).map(|(_, word)| Term::from_field_text(words, &word));
                vec![term(Term::from_field_text(texts, text)), phrase(words.collect())]
            }
            Sought::Wildcard(pattern) => vec![
                regex(&expression(pattern), texts)?,
                regex(&expression(&pattern.clone().lower_case()), words)?,
            ],
        };
        Ok(Box::new(BooleanQuery::union(either)))
    }

    /// The value as a term of the field, if the index has such a field of that type.
    fn typed(&self, name: &str, value: &Value) -> Option<Term> {
        let field = match self.place(name)? {
            Place::Column(field) => field,
            Place::Foreign => return self.foreign_term(FOREIGN, name, value),
        };
        let r#type = self.schema.get_field_entry(field).field_type().value_type();
        Some(match (value, r#type) {
            (Value::Keyword(text), Type::Str) => Term::from_field_text(field, text),
            (Value::Long(whole), Type::I64) => Term::from_field_i64(field, *whole),
            (Value::Double(number), Type::F64) => Term::from_field_f64(field, *number),
            (Value::Boolean(truth), Type::Bool) => Term::from_field_bool(field, *truth),
            (Value::Date(milliseconds), Type::Date) => Term::from_field_date(field, date(*milliseconds)),
            (Value::Ip(address), Type::IpAddr) => Term::from_field_ip_addr(field, to_v6(*address)),
            _ => return None,
        })
    }

    fn foreign_term(&self, place: &str, name: &str, value: &Value) -> Option<Term> {
        let mut term = Term::from_field_json_path(self.schema.get_field(place).ok()?, name, true);
        match value {
            Value::Keyword(text) => term.append_type_and_str(text),
            Value::Long(whole) => term.append_type_and_fast_value(*whole),
            Value::Double(number) => term.append_type_and_fast_value(*number),
            Value::Boolean(truth) => term.append_type_and_fast_value(*truth),
            Value::Date(_) | Value::Ip(_) => return None,
        }
        Some(term)
    }

    fn place(&self, name: &str) -> Option<Place> {
        if self.foreign && name != crate::layout::TIMESTAMP {
            return Some(Place::Foreign);
        }
        self.schema.get_field(name).ok().map(Place::Column)
    }
}

/// Where a document field's values are.
enum Place {
    Column(Field),
    Foreign,
}

/// The fields whose words `name`, ending in `.text`, can mean: it may also be a field's own name.
fn word_paths(name: &str) -> impl Iterator<Item = &str> {
    name.strip_suffix(".text").into_iter().chain([name])
}

fn term(term: Term) -> Box<dyn Query> {
    Box::new(TermQuery::new(term, IndexRecordOption::Basic))
}

/// Texts, truth values, and whatever foreign rows hold, have terms. Everything else has columns alone, but in days of
/// older layouts.
fn equal(value: Term) -> Box<dyn Query> {
    match value.typ() {
        Type::Str | Type::Bool | Type::Json => term(value),
        _ => Box::new(RangeQuery::new(Bound::Included(value.clone()), Bound::Included(value))),
    }
}

fn phrase(mut terms: Vec<Term>) -> Box<dyn Query> {
    match terms.len() {
        0 => Box::new(EmptyQuery),
        1 => term(terms.remove(0)),
        _ => Box::new(PhraseQuery::new(terms)),
    }
}

fn regex(expression: &str, field: Field) -> Rendered {
    Ok(Box::new(RegexQuery::from_pattern(expression, field)?))
}

fn expression(pattern: &Pattern) -> String {
    let piece = |piece: &Piece| match piece {
        Piece::Text(text) => escape(text),
        Piece::One => "(?s:.)".to_owned(),
        Piece::Many => "(?s:.)*".to_owned(),
    };
    pattern.0.iter().map(piece).collect()
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if c.is_ascii_punctuation() {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

fn date(milliseconds: i64) -> DateTime {
    // What lies beyond the range of nanoseconds lies beyond all rows.
    DateTime::from_timestamp_nanos(milliseconds.saturating_mul(1_000_000))
}
