//! The header of a CSV file: which record is one.

use std::collections::HashSet;

use kumon_schema::Schema;

/// What the first record of other content under a known file turns out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum First {
    Header,
    /// The writer went on as if nothing had happened to its file: its header is that of the content before.
    Row,
}

/// Tells by the header that the file's content had before, or by the schema. A row must never become a header: its
/// values would be names of fields for ever.
pub(super) fn first_of_new(record: &[&str], former: &[String], schema: Option<&Schema>) -> First {
    let is_header = match schema {
        Some(schema) => {
            let known: HashSet<&str> = schema.fields.iter().map(|field| field.name.as_str()).collect();
            record.iter().all(|name| known.contains(name))
        }
        None => is_version_of(record, former),
    };
    if is_header { First::Header } else { First::Row }
}

/// Whether both are the same columns but for some that came, went or got another name.
fn is_version_of(record: &[&str], former: &[String]) -> bool {
    let shorter = record.len().min(former.len());
    let same = |pair: &(&&str, &String)| pair.0 == pair.1;
    let first = record.iter().zip(former).take_while(same).count();
    let last = record.iter().rev().zip(former.iter().rev()).take_while(same).count();
    let known: HashSet<&str> = former.iter().map(String::as_str).collect();
    (first + last) * 2 >= shorter.max(1) || record.iter().all(|name| known.contains(name))
}

/// A header as it stands in its file, to know it when it comes once more.
#[derive(Debug, Default)]
pub(super) struct Repeated {
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl Repeated {
    pub(super) fn new(names: &[String]) -> Repeated {
        let ends = names.iter().scan(0, |end, name| {
            *end += name.len();
            Some(*end)
        });
        Repeated { ends: ends.collect(), text: names.concat().into_bytes() }
    }

    /// Whether a record of this text, whose fields end there, is the header once more: a restarted writer begins with
    /// it.
    pub(super) fn is(&self, text: &[u8], ends: &[usize]) -> bool {
        ends == self.ends && text == self.text
    }
}

#[cfg(test)]
mod tests {
    use super::{First, first_of_new};

    #[test]
    fn a_data_row_never_becomes_a_header_and_a_changed_header_is_one() {
        for (former, record, expected) in [
            ("seq,text", "seq,text", First::Header),
            ("seq,text", "3,c", First::Row),
            ("seq,text", "text,seq", First::Header),
            ("seq,text", "seq,text,host", First::Header),
            ("seq,text", "time,seq,text", First::Header),
            ("seq,text,host", "seq,host", First::Header),
            ("seq,text", "seq,message", First::Header),
            ("name,age,town", "name,years,town", First::Header),
            ("name,age,town", "ann,31,bonn", First::Row),
            ("name,age,town", "ann,town,age", First::Row),
            // Cut.
            ("name,age,town", "nn,31,bonn", First::Row),
            ("name,age,town", "31,bonn", First::Row),
            ("name,age,town", "", First::Row),
            ("name,age,town", "ann,31,bonn,x", First::Row),
            ("text", "a", First::Row),
            ("text", "text", First::Header),
        ] {
            let former: Vec<String> = former.split(',').map(str::to_owned).collect();
            let record: Vec<&str> = record.split(',').collect();
            assert_eq!(first_of_new(&record, &former, None), expected, "{former:?} {record:?}");
        }
    }
}
