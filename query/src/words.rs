//! The analyzer of the `.text` fields, the same on both sides: Elasticsearch's `standard` analyzer, which is
//! Unicode's word boundaries (UAX #29) and lower case.

use unicode_properties::{GeneralCategory, UnicodeEmoji, UnicodeGeneralCategory};
use unicode_segmentation::UnicodeSegmentation;

/// Elasticsearch cuts longer words into pieces of so many UTF-16 units (`max_token_length`).
const LONGEST: usize = 255;

/// The lower-cased words of `text`, each with the byte range it comes from.
pub fn words(text: &str) -> impl Iterator<Item = (std::ops::Range<usize>, String)> {
    let segments = text.split_word_bound_indices().filter(|(_, segment)| is_word(segment));
    segments.flat_map(|(start, word)| pieces(start, word)).map(|(start, word)| {
        // Character by character: a word-wise lower case would treat a final sigma specially, Lucene's does not.
        let lower = word.chars().flat_map(|c| c.to_lowercase().next()).collect();
        (start..start + word.len(), lower)
    })
}

/// Lucene's choice among the segments between word boundaries: with a letter or a decimal digit in them (½ and ² are
/// none), or an emoji.
fn is_word(segment: &str) -> bool {
    let letter_or_digit = |c: char| {
        c.is_alphabetic()
            || c.is_ascii_digit()
            || c.is_numeric() && c.general_category() == GeneralCategory::DecimalNumber
    };
    let emoji = |c: char| !c.is_ascii() && c.is_emoji_char();
    segment.chars().any(letter_or_digit) || segment.chars().next().is_some_and(emoji)
}

fn pieces(start: usize, word: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut rest = (start, word);
    std::iter::from_fn(move || {
        let (at, text) = rest;
        let mut units = 0;
        let cut = text.char_indices().find(|(_, c)| {
            units += c.len_utf16();
            units > LONGEST
        });
        let (piece, tail) = text.split_at(cut.map_or(text.len(), |(index, _)| index));
        rest = (at + piece.len(), tail);
        (!piece.is_empty()).then_some((at, piece))
    })
}

#[cfg(test)]
mod tests {
    use super::words;

    fn list(text: &str) -> Vec<String> {
        words(text).map(|(_, word)| word).collect()
    }

    #[test]
    fn words_are_cut_as_the_standard_analyzer_cuts_them() {
        assert_eq!(list("/usr/bin/Python3 -m http.server"), ["usr", "bin", "python3", "m", "http.server"]);
        assert_eq!(
            list("foo_bar 1.5 can't a-b --x=Ünïx"),
            ["foo_bar", "1.5", "can't", "a", "b", "x", "ünïx"]
        );
        assert_eq!(list("--- __ ... "), Vec::<String>::new());
        assert_eq!(list("m² ½ 🎉 ٣"), ["m", "🎉", "٣"]);
    }

    #[test]
    fn overlong_words_come_in_pieces() {
        let lengths: Vec<usize> = list(&"x".repeat(600)).iter().map(String::len).collect();
        assert_eq!(lengths, [255, 255, 90]);
    }

    #[test]
    fn ranges_point_into_the_text() {
        let text = "ls /Tmp";
        let cut: Vec<&str> = words(text).map(|(range, _)| &text[range]).collect();
        assert_eq!(cut, ["ls", "Tmp"]);
    }
}
