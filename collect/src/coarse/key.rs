//! Keys: all columns that tell rows apart.

/// What tells a key from others: made of each row, so no texts.
pub(super) type Raw = Box<[u8]>;

/// The texts of its columns one after the other, as rows have them.
pub(super) type Texts = Box<[u8]>;

/// Ends each text. No UTF-8 has it.
const END: u8 = 0xff;

/// Ends the text that was appended.
pub(super) fn end_text(texts: &mut Vec<u8>) {
    texts.push(END);
}

/// Each text, in the order of the columns.
pub(super) fn each(texts: &[u8]) -> impl Iterator<Item = &str> {
    // Columns' texts are UTF-8.
    texts.split(|byte| *byte == END).map(|text| std::str::from_utf8(text).unwrap_or_default())
}
