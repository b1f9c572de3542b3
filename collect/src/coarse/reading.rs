//! One row, taken apart.

use std::ops::Range;

use kumon_schema::{Column, Columns, Number, Row, SubjectFields, Value};

use super::key::{self, Texts};
use super::plan::{Role, Table};

/// A row's values, by what becomes of them.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// By column.
    pub(super) values: Vec<Read>,
    pub(super) key: Vec<u8>,
    /// What tells a histogram's buckets apart.
    pub(super) bucket: Vec<u8>,
    texts: Vec<u8>,
}

/// A value that is summed up.
#[derive(Debug, Clone)]
pub(super) enum Read {
    /// None, or a part of a key.
    Nothing,
    Number(Number),
    /// Where it stands among the texts.
    Text(Range<usize>),
}

impl Reading {
    pub(super) fn read<R: Row>(&mut self, table: &Table, row: &R, subject: &SubjectFields<'_>) {
        self.values.clear();
        self.key.clear();
        self.bucket.clear();
        self.texts.clear();
        row.write_fields(subject, &mut Reader { table, reading: self });
    }

    pub(super) fn text(&self, range: &Range<usize>) -> &[u8] {
        &self.texts[range.clone()]
    }
}

struct Reader<'a> {
    table: &'a Table,
    reading: &'a mut Reading,
}

impl Columns for Reader<'_> {
    fn field<V: Value + ?Sized>(&mut self, _: Column, value: &V) {
        let Reader { table, reading } = self;
        let role = table.columns[reading.values.len()].role;
        let read = match role {
            Role::LeftOut | Role::Percentile(_) => Read::Nothing,
            Role::Key => {
                value.write_key(&mut reading.key);
                Read::Nothing
            }
            Role::Bucket => {
                value.write_key(&mut reading.bucket);
                Read::Nothing
            }
            _ => match value.number() {
                Some(number) => Read::Number(number),
                None if role == Role::Last && !value.is_absent() => {
                    let start = reading.texts.len();
                    value.write_text(&mut reading.texts);
                    Read::Text(start..reading.texts.len())
                }
                None => Read::Nothing,
            },
        };
        reading.values.push(read);
    }
}

/// What a row's key is called.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// As records name them, by column.
    pub(super) columns: Vec<Column>,
    pub(super) key: Texts,
    pub(super) bucket: Texts,
}

impl Names {
    pub(super) fn read<R: Row>(table: &Table, row: &R, subject: &SubjectFields<'_>) -> Names {
        let mut namer = Namer { table, columns: Vec::new(), key: Vec::new(), bucket: Vec::new() };
        row.write_fields(subject, &mut namer);
        Names { columns: namer.columns, key: namer.key.into(), bucket: namer.bucket.into() }
    }
}

struct Namer<'a> {
    table: &'a Table,
    columns: Vec<Column>,
    key: Vec<u8>,
    bucket: Vec<u8>,
}

impl Columns for Namer<'_> {
    fn field<V: Value + ?Sized>(&mut self, column: Column, value: &V) {
        let texts = match self.table.columns[self.columns.len()].role {
            Role::Key => Some(&mut self.key),
            Role::Bucket => Some(&mut self.bucket),
            _ => None,
        };
        if let Some(texts) = texts {
            value.write_text(texts);
            key::end_text(texts);
        }
        self.columns.push(column);
    }
}
