//! The analyzer of `.text` fields for tantivy: [`kumon_query::words`].

use tantivy::Index;
use tantivy::tokenizer::{TextAnalyzer, Token, TokenStream, Tokenizer};

/// The name under which indexes refer to it.
pub(crate) const NAME: &str = "words";

/// Makes the analyzer known to an index.
pub(crate) fn register(index: &Index) {
    index.tokenizers().register(NAME, TextAnalyzer::from(Words));
}

#[derive(Clone)]
struct Words;

struct Stream<I> {
    words: I,
    token: Token,
}

impl Tokenizer for Words {
    type TokenStream<'a> = Stream<Box<dyn Iterator<Item = (std::ops::Range<usize>, String)> + 'a>>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> Self::TokenStream<'a> {
        Stream { words: Box::new(kumon_query::words(text)), token: Token::default() }
    }
}

impl<I: Iterator<Item = (std::ops::Range<usize>, String)>> TokenStream for Stream<I> {
    fn advance(&mut self) -> bool {
        let Some((range, text)) = self.words.next() else { return false };
        // The first token's position is 0: `Token::default` counts from just below it.
        let position = self.token.position.wrapping_add(1);
        self.token =
            Token { offset_from: range.start, offset_to: range.end, position, text, position_length: 1 };
        true
    }

    fn token(&self) -> &Token {
        &self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        &mut self.token
    }
}
