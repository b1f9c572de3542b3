//! From the grammar's tree to a [`Condition`]: fields are looked up, values get their types.

use std::ops::Bound;

use tantivy_query_grammar::{
    Delimiter, Occur, UserInputAst, UserInputBound, UserInputLeaf, UserInputLiteral,
};

use crate::condition::{Condition, Pattern, Term, Value};
use crate::fields::{FieldKind, Fields};
use crate::syntax::{at, field_position, parse, value_position};
use crate::{SearchError, SearchRequest, values};

/// Reads a query over the rows with these fields. An empty query is every row.
///
/// # Errors
/// [`SearchError::Query`], with the column where it can't be understood.
pub fn parse_query(query: &str, fields: &Fields) -> Result<Condition, SearchError> {
    Reading { query, fields }.tree(&parse(query)?)
}

/// The whole condition of a request, its time range included.
///
/// # Errors
/// As [`parse_query`].
pub fn full_condition(request: &SearchRequest, fields: &Fields) -> Result<Condition, SearchError> {
    let query = parse_query(&request.query, fields)?;
    Ok(match time_range(request) {
        Some(range) => Condition::And(vec![range, query]),
        None => query,
    })
}

/// Rows are told apart by milliseconds, as Elasticsearch does: the milliseconds that the request touches.
fn time_range(request: &SearchRequest) -> Option<Condition> {
    const MILLISECOND: i64 = 1_000_000;
    let lower = request.since.map(|since| since.div_euclid(MILLISECOND));
    let upper = request
        .until
        .map(|until| until.div_euclid(MILLISECOND) + i64::from(until.rem_euclid(MILLISECOND) > 0));
    (lower.is_some() || upper.is_some()).then(|| Condition::Range {
        field: "@timestamp".to_owned(),
        lower: lower.map_or(Bound::Unbounded, |lower| Bound::Included(Value::Date(lower))),
        upper: upper.map_or(Bound::Unbounded, |upper| Bound::Excluded(Value::Date(upper))),
    })
}

struct Reading<'a> {
    query: &'a str,
    fields: &'a Fields,
}

impl Reading<'_> {
    fn tree(&self, tree: &UserInputAst) -> Result<Condition, SearchError> {
        match tree {
            UserInputAst::Clause(clauses) => self.clauses(clauses),
            UserInputAst::Leaf(leaf) => self.leaf(leaf),
            UserInputAst::Boost(..) => {
                let position = self.query.find('^').unwrap_or_default();
                Err(at(self.query, position, "rows are not ranked: '^' must be quoted".into()))
            }
        }
    }

    /// Terms that stand side by side must all be there, unless OR joins them.
    fn clauses(&self, clauses: &[(Option<Occur>, UserInputAst)]) -> Result<Condition, SearchError> {
        let (mut all, mut any) = (Vec::new(), Vec::new());
        for (occur, clause) in clauses {
            let condition = self.tree(clause)?;
            match occur {
                Some(Occur::Should) => any.push(condition),
                Some(Occur::MustNot) => all.push(Condition::Not(Box::new(condition))),
                Some(Occur::Must) | None => all.push(condition),
            }
        }
        if !any.is_empty() {
            all.push(one_or(any, Condition::Or));
        }
        Ok(if all.is_empty() { Condition::All } else { one_or(all, Condition::And) })
    }

    fn leaf(&self, leaf: &UserInputLeaf) -> Result<Condition, SearchError> {
        match leaf {
            UserInputLeaf::All => Ok(Condition::All),
            UserInputLeaf::Literal(literal) => self.literal(literal),
            UserInputLeaf::Exists { field } => self.exists(field),
            UserInputLeaf::Range { field: Some(field), lower, upper } => self.range(field, lower, upper),
            UserInputLeaf::Range { field: None, lower, .. } => {
                let message = "a range needs a field, as in process.pid:[1 TO 5]";
                Err(self.error(None, lower.term_str(), message.into()))
            }
            UserInputLeaf::Set { field, elements } => {
                let literal = |element: &String| UserInputLiteral {
                    field_name: field.clone(),
                    phrase: element.clone(),
                    delimiter: Delimiter::DoubleQuotes,
                    slop: 0,
                    prefix: false,
                };
                let any: Result<_, _> =
                    elements.iter().map(|element| self.literal(&literal(element))).collect();
                Ok(Condition::Or(any?))
            }
            UserInputLeaf::Regex { pattern, .. } => {
                let message = "there are no regular expressions; use * and ?";
                Err(self.error(None, pattern, message.into()))
            }
        }
    }

    fn literal(&self, literal: &UserInputLiteral) -> Result<Condition, SearchError> {
        let field = literal.field_name.as_deref();
        if literal.slop > 0 || literal.prefix {
            let message = "'~' or '*' after a phrase is not known here; leave it out, or quote it";
            return Err(self.error(field, &literal.phrase, message.into()));
        }
        let pattern = match literal.delimiter {
            Delimiter::None => Pattern::parse(&literal.phrase),
            Delimiter::SingleQuotes | Delimiter::DoubleQuotes => Pattern::literal(&literal.phrase),
        };
        match field {
            Some(field) => {
                let kind = self.kind(field)?;
                self.value(field, kind, pattern).map_err(|m| self.error(Some(field), &literal.phrase, m))
            }
            None => Ok(self.anywhere(pattern)),
        }
    }

    fn value(&self, field: &str, kind: FieldKind, pattern: Pattern) -> Result<Condition, String> {
        if let Some(text) = pattern.plain() {
            return values::equals(field, kind, &text);
        }
        let pattern = match kind {
            FieldKind::Keyword | FieldKind::Foreign => pattern,
            FieldKind::Words => pattern.lower_case(),
            _ => return Err(format!("a {} field has no wildcards; use a range", kind.name())),
        };
        Ok(Condition::Wildcard { field: field.to_owned(), pattern })
    }

    /// A bare term is looked for in every keyword (as the whole value), `.text` (as words) and IP field.
    fn anywhere(&self, pattern: Pattern) -> Condition {
        if self.fields.is_open() {
            return Condition::Anywhere(pattern.plain().map_or(Term::Wildcard(pattern), Term::Text));
        }
        let texts = [FieldKind::Keyword, FieldKind::Words, FieldKind::Ip];
        let searched = self.fields.known().filter(|(_, kind)| texts.contains(kind));
        // What can't be a value of the field (an address, most often) is not in it.
        let any = searched.filter_map(|(field, kind)| self.value(field, kind, pattern.clone()).ok());
        let possible = any.filter(|condition| *condition != Condition::None).collect();
        Condition::Or(possible)
    }

    /// A `.text` field exists where its field does.
    fn exists(&self, field: &str) -> Result<Condition, SearchError> {
        let kind = self.kind(field)?;
        let whole = field.strip_suffix(".text").filter(|_| kind == FieldKind::Words);
        let field = whole.unwrap_or(field);
        Ok(Condition::Exists(field.to_owned()))
    }

    fn range(
        &self,
        field: &str,
        lower: &UserInputBound,
        upper: &UserInputBound,
    ) -> Result<Condition, SearchError> {
        let kind = self.kind(field)?;
        let (lower, upper) = (bound(lower), bound(upper));
        let text = |bound: &Bound<String>| bound.as_ref().map(String::as_str).map(str::to_owned);
        values::range(field, kind, lower.as_ref().map(String::as_str), upper.as_ref().map(String::as_str))
            .map_err(|message| {
                // The message quotes the bound that is wrong; else it is the field.
                let bounds = [text(&lower), text(&upper)];
                let wrong = bounds.into_iter().filter_map(|bound| match bound {
                    Bound::Included(text) | Bound::Excluded(text) => Some(text),
                    Bound::Unbounded => None,
                });
                let quoted = wrong.clone().find(|text| message.contains(text.as_str()));
                self.error(Some(field), quoted.as_deref().unwrap_or(field), message)
            })
    }

    fn kind(&self, field: &str) -> Result<FieldKind, SearchError> {
        self.fields.kind(field).ok_or_else(|| {
            let hint = self.fields.did_you_mean(field);
            let hint = hint.unwrap_or_else(|| "docs/metrics.md lists the fields".to_owned());
            let position = field_position(self.query, field).unwrap_or_default();
            at(self.query, position, format!("there is no field '{field}'; {hint}"))
        })
    }

    fn error(&self, field: Option<&str>, value: &str, message: String) -> SearchError {
        let value = value_position(self.query, field, value);
        let position = value.or_else(|| field_position(self.query, field?));
        at(self.query, position.unwrap_or_default(), message)
    }
}

fn one_or(mut conditions: Vec<Condition>, join: fn(Vec<Condition>) -> Condition) -> Condition {
    if conditions.len() == 1 {
        return conditions.remove(0);
    }
    join(conditions)
}

fn bound(bound: &UserInputBound) -> Bound<String> {
    // A path was escaped before the grammar saw it.
    let clean = |text: &String| match text.strip_prefix("\\/") {
        Some(rest) => format!("/{rest}"),
        None => text.clone(),
    };
    match bound {
        UserInputBound::Inclusive(text) => Bound::Included(clean(text)),
        UserInputBound::Exclusive(text) => Bound::Excluded(clean(text)),
        UserInputBound::Unbounded => Bound::Unbounded,
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Bound;

    use super::{parse_query, time_range};
    use crate::{Condition, Fields, SearchError, SearchRequest, Value};

    fn error(query: &str) -> (usize, String) {
        match parse_query(query, &Fields::of_metric("exec")) {
            Err(SearchError::Query { column, message }) => (column, message),
            other => panic!("{query}: {other:?}"),
        }
    }

    fn name(value: &str) -> Condition {
        Condition::Equals { field: "process.name".into(), value: Value::Keyword(value.into()) }
    }

    #[test]
    fn and_binds_closer_than_or_and_is_what_stands_between_terms_without_one() {
        let read = |query: &str| parse_query(query, &Fields::of_metric("exec")).unwrap();
        let [a, b, c] = ["a", "b", "c"].map(name);
        let not = |condition| Condition::Not(Box::new(condition));
        assert_eq!(
            read("process.name:a OR process.name:b AND process.name:c"),
            Condition::Or(vec![a.clone(), Condition::And(vec![b.clone(), c.clone()])])
        );
        assert_eq!(read("process.name:a process.name:b"), Condition::And(vec![a.clone(), b.clone()]));
        assert_eq!(read("process.name:a -process.name:b"), Condition::And(vec![a.clone(), not(b.clone())]));
        assert_eq!(read("process.name:(a OR NOT b)"), Condition::Or(vec![a, not(b)]));
        assert_eq!(read("  "), Condition::All);
    }

    #[test]
    fn whatever_the_time_range_its_bounds_stay_in_order() {
        let range = |since, until| {
            let request = SearchRequest { since, until, ..SearchRequest::default() };
            time_range(&request)
        };
        let bounds = |lower: Bound<i64>, upper: Bound<i64>| {
            let (lower, upper) = (lower.map(Value::Date), upper.map(Value::Date));
            Some(Condition::Range { field: "@timestamp".into(), lower, upper })
        };
        assert_eq!(range(None, None), None);
        assert_eq!(range(Some(1_999_999), Some(1_999_999)), bounds(Bound::Included(1), Bound::Excluded(2)));
        assert_eq!(range(Some(-1), Some(-1)), bounds(Bound::Included(-1), Bound::Excluded(0)));
        // Before all times: nothing is found, as nothing was.
        let earliest = i64::MIN.div_euclid(1_000_000);
        assert_eq!(range(None, Some(i64::MIN)), bounds(Bound::Unbounded, Bound::Excluded(earliest + 1)));
        assert_eq!(
            range(None, Some(i64::MAX)),
            bounds(Bound::Unbounded, Bound::Excluded(i64::MAX / 1_000_000 + 1))
        );
    }

    #[test]
    fn an_error_points_at_what_is_wrong() {
        assert_eq!(error("a AND nonsens:1").0, 7);
        assert_eq!(error("\"nonsens:1\" nonsens:1").0, 13);
        assert_eq!(error("process.pid:1 OR process.pid:x1"), (30, "'x1' is not a number".into()));
        assert_eq!(error("process.pid:[1 TO z]"), (19, "'z' is not a number".into()));
        assert_eq!(error("process.pid:(1 OR two)"), (19, "'two' is not a number".into()));
        assert_eq!(error("kumon.exec.truncated:yes").0, 22);
        assert_eq!(error("@timestamp:soon").0, 12);
    }

    #[test]
    fn what_there_is_not_is_said() {
        assert_eq!(error("process.pid:1*"), (13, "a long field has no wildcards; use a range".into()));
        assert_eq!(error("a process.command_line.text:>b"), (3, "a text field has no ranges".into()));
        assert!(error("bash^2").1.contains("not ranked"));
        assert!(error("\"a b\"~2").1.contains("'~'"));
        assert!(error(">5").1.contains("needs a field"));
    }
}
