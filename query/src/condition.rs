//! What a query demands of a row, after its fields and values were understood. Both back ends render this.

use std::net::IpAddr;
use std::ops::Bound;

/// A condition on one row. Values have their field's type already.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// Every row.
    All,
    /// No row.
    None,
    And(Vec<Condition>),
    Or(Vec<Condition>),
    Not(Box<Condition>),
    /// The field has a value.
    Exists(String),
    /// The field has this value.
    Equals {
        field: String,
        value: Value,
    },
    /// The words follow each other in a `.text` field.
    Phrase {
        field: String,
        words: Vec<String>,
    },
    /// The whole keyword, or one word of a `.text` field, fits the pattern.
    Wildcard {
        field: String,
        pattern: Pattern,
    },
    /// The value lies between the bounds.
    Range {
        field: String,
        lower: Bound<Value>,
        upper: Bound<Value>,
    },
    /// A foreign field has this value, whatever type it has.
    Foreign {
        field: String,
        text: String,
    },
    /// Any text of a foreign row is this, or has these words.
    Anywhere(Term),
}

/// What a bare term of a foreign row's query looks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Term {
    Text(String),
    Wildcard(Pattern),
}

/// A typed value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Keyword(String),
    Long(i64),
    Double(f64),
    Boolean(bool),
    /// Milliseconds since the Unix epoch, as coarse as Elasticsearch's `date`.
    Date(i64),
    Ip(IpAddr),
}

/// A text with wildcards.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Pattern(pub Vec<Piece>);

/// A part of a [`Pattern`].
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    Text(String),
    /// `?`: any one character.
    One,
    /// `*`: any characters, also none.
    Many,
}

impl Pattern {
    /// Reads `*`, `?`, and `\` before a character that is to stand for itself.
    pub(crate) fn parse(text: &str) -> Pattern {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            let literal = match c {
                '*' => {
                    pieces.push(Piece::Many);
                    continue;
                }
                '?' => {
                    pieces.push(Piece::One);
                    continue;
                }
                '\\' => chars.next_if(|next| matches!(next, '*' | '?' | '/')).unwrap_or(c),
                c => c,
            };
            match pieces.last_mut() {
                Some(Piece::Text(text)) => text.push(literal),
                _ => pieces.push(Piece::Text(literal.into())),
            }
        }
        Pattern(pieces)
    }

    /// A text in which nothing is special.
    pub(crate) fn literal(text: &str) -> Pattern {
        Pattern(vec![Piece::Text(text.to_owned())])
    }

    /// The text, where there are no wildcards in it.
    pub(crate) fn plain(&self) -> Option<String> {
        match self.0.as_slice() {
            [] => Some(String::new()),
            [Piece::Text(text)] => Some(text.clone()),
            _ => None,
        }
    }

    /// As the words of `.text` fields are.
    pub fn lower_case(self) -> Pattern {
        let lower = |text: String| text.chars().flat_map(|c| c.to_lowercase().next()).collect();
        Pattern(
            self.0
                .into_iter()
                .map(|piece| match piece {
                    Piece::Text(text) => Piece::Text(lower(text)),
                    other => other,
                })
                .collect(),
        )
    }
}

impl std::fmt::Display for Pattern {
    /// As Elasticsearch's `wildcard` query reads it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for piece in &self.0 {
            match piece {
                Piece::One => f.write_str("?")?,
                Piece::Many => f.write_str("*")?,
                Piece::Text(text) => {
                    for c in text.chars() {
                        if matches!(c, '*' | '?' | '\\') {
                            f.write_str("\\")?;
                        }
                        std::fmt::Write::write_char(f, c)?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Pattern, Piece};

    #[test]
    fn wildcards_and_their_escapes_survive_the_way_to_elasticsearch() {
        let pattern = Pattern::parse(r"ba?h*\*\d");
        assert_eq!(pattern.to_string(), r"ba?h*\*\\d");
        assert_eq!(pattern.0[1], Piece::One);
        assert_eq!(Pattern::parse(r"\/usr").plain().as_deref(), Some("/usr"));
    }
}
