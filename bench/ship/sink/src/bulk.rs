//! Reading `_bulk` bodies and answering as Elasticsearch does.

use std::io::Write;

use memchr::{memchr, memmem};

use crate::ledger::{Ledger, now};

/// What is read of each document, and where.
pub(crate) struct Bulk {
    id: memmem::Finder<'static>,
    number: memmem::Finder<'static>,
    sent: memmem::Finder<'static>,
}

impl Default for Bulk {
    fn default() -> Bulk {
        let finder = |key: &'static str| memmem::Finder::new(key.as_bytes());
        Bulk { id: finder("\"_id\":"), number: finder("\"seq\":"), sent: finder("\"sent\":") }
    }
}

impl Bulk {
    /// Takes the documents of a request and returns the answer's body; `short` where the client asked with
    /// `filter_path` for the outcomes only.
    ///
    /// # Errors
    /// At a line that is no action, and where an action has no document.
    pub(crate) fn take(&self, body: &[u8], short: bool, ledger: &mut Ledger) -> Result<Vec<u8>, String> {
        let (now, mut errors, mut items) = (now(), false, Vec::with_capacity(body.len() / 4));
        let mut lines = Lines(body);
        while let Some(action) = lines.next() {
            let verb =
                verb(action).ok_or_else(|| format!("no action: {}", String::from_utf8_lossy(action)))?;
            let document = lines.next().ok_or("the last action has no document")?;
            let new = ledger.is_new(self.id.find(action).and_then(|at| quoted(&action[at + 6..])));
            if new {
                let row = self.number.find(document).and_then(|at| number(&document[at + 6..]));
                let sent = self.sent.find(document).and_then(|at| number(&document[at + 7..]));
                ledger.accept(row, sent, now);
            }
            errors |= !new;
            if !items.is_empty() {
                items.push(b',');
            }
            write_item(&mut items, verb, new, short);
        }
        let took = if short { "" } else { "\"took\":1," };
        let mut answer = format!("{{{took}\"errors\":{errors},\"items\":[").into_bytes();
        answer.append(&mut items);
        answer.extend_from_slice(b"]}");
        Ok(answer)
    }
}

/// One outcome, as long as Elasticsearch's, since reading it is part of what a shipper costs. A Vec takes all that is
/// written.
fn write_item(items: &mut Vec<u8>, verb: &str, new: bool, short: bool) {
    let _ = match (new, short) {
        (true, true) => write!(items, "{{\"{verb}\":{{\"status\":201}}}}"),
        (true, false) => write!(
            items,
            "{{\"{verb}\":{{\"_index\":\".ds-logs-bench-default-2026.11.21-000001\",\"_id\":\"AZqk8vPxT0m9bWc1dE7h\",\
             \"_version\":1,\"result\":\"created\",\"_shards\":{{\"total\":2,\"successful\":1,\"failed\":0}},\
             \"_seq_no\":1,\"_primary_term\":1,\"status\":201}}}}"
        ),
        (false, _) => write!(
            items,
            "{{\"{verb}\":{{\"status\":409,\"error\":{{\"type\":\"version_conflict_engine_exception\",\
             \"reason\":\"version conflict, document already exists\"}}}}}}"
        ),
    };
}

fn verb(action: &[u8]) -> Option<&'static str> {
    let start = action.iter().position(|byte| !matches!(byte, b'{' | b'"' | b' '))?;
    ["create", "index"].into_iter().find(|verb| action[start..].starts_with(verb.as_bytes()))
}

/// The lines that aren't empty.
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.0.is_empty() {
            let end = memchr(b'\n', self.0).unwrap_or(self.0.len());
            let line = &self.0[..end];
            self.0 = &self.0[(end + 1).min(self.0.len())..];
            if !line.is_empty() {
                return Some(line);
            }
        }
        None
    }
}

/// The string that comes next.
fn quoted(text: &[u8]) -> Option<&[u8]> {
    let text = &text[memchr(b'"', text)? + 1..];
    Some(&text[..memchr(b'"', text)?])
}

/// The number that comes next, also where it stands in quotes, as a CSV parser without types writes it.
fn number(text: &[u8]) -> Option<u64> {
    let start = text.iter().position(|byte| !matches!(byte, b' ' | b'"'))?;
    let digits = text[start..].iter().take_while(|byte| byte.is_ascii_digit());
    std::str::from_utf8(&text[start..start + digits.count()]).ok()?.parse().ok()
}
