//! Reads a shell's script as far as the masking needs: its words, and where they stand.

use std::ops::Range;

/// A word of a script.
#[derive(Debug)]
pub(super) struct Word {
    /// Without its quotes and backslashes.
    pub(super) text: Vec<u8>,
    /// Where it stands in the script, quotes included.
    pub(super) raw: Range<usize>,
    /// Where each byte of `text` stands in the script.
    places: Vec<usize>,
}

impl Word {
    /// Where the byte `at` of the text stands in the script.
    pub(super) fn place(&self, at: usize) -> usize {
        match at {
            0 => self.raw.start,
            at => self.places.get(at).copied().unwrap_or(self.raw.end),
        }
    }
}

/// The simple commands of a script, each with its words. Operators, parentheses and line ends stand between
/// commands. The bodies of here-documents are left out: they are text.
pub(super) fn commands(script: &[u8]) -> Vec<Vec<Word>> {
    let mut reader = Reader { script, at: 0, ends: Vec::new() };
    let (mut commands, mut command) = (Vec::new(), Vec::new());
    while let Some(&byte) = script.get(reader.at) {
        match byte {
            b' ' | b'\t' | b'\r' => reader.at += 1,
            b'\\' if script.get(reader.at + 1) == Some(&b'\n') => reader.at += 2,
            b'#' if reader.begins_word() => reader.skip_line(),
            b'\n' => {
                reader.at += 1;
                reader.skip_here_documents();
                commands.push(std::mem::take(&mut command));
            }
            b';' | b'&' | b'|' | b'(' | b')' | b'`' => {
                reader.at += 1;
                commands.push(std::mem::take(&mut command));
            }
            b'<' if script[reader.at..].starts_with(b"<<") && !script[reader.at..].starts_with(b"<<<") => {
                reader.here_document();
            }
            b'<' | b'>' => reader.at += 1,
            _ => command.push(reader.word()),
        }
    }
    commands.push(command);
    commands.retain(|command| !command.is_empty());
    commands
}

struct Reader<'a> {
    script: &'a [u8],
    at: usize,
    /// The lines that end the here-documents which begin behind this line.
    ends: Vec<Vec<u8>>,
}

impl Reader<'_> {
    fn begins_word(&self) -> bool {
        self.at == 0 || self.script[self.at - 1].is_ascii_whitespace()
    }

    fn skip_line(&mut self) {
        let rest = &self.script[self.at..];
        self.at += rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
    }

    fn here_document(&mut self) {
        self.at += 2;
        while matches!(self.script.get(self.at), Some(b'-' | b' ' | b'\t')) {
            self.at += 1;
        }
        if self.script.get(self.at).is_some_and(|byte| !byte.is_ascii_whitespace()) {
            let end = self.word().text;
            self.ends.push(end);
        }
    }

    fn skip_here_documents(&mut self) {
        for end in std::mem::take(&mut self.ends) {
            while self.at < self.script.len() {
                let line = self.at;
                self.skip_line();
                let text = self.script[line..self.at].trim_ascii();
                self.at = (self.at + 1).min(self.script.len());
                if text == end {
                    break;
                }
            }
        }
    }

    fn word(&mut self) -> Word {
        let start = self.at;
        let mut word = Word { text: Vec::new(), raw: start..start, places: Vec::new() };
        while let Some(&byte) = self.script.get(self.at) {
            match byte {
                b'\'' => self.quoted(&mut word, byte, false),
                b'"' => self.quoted(&mut word, byte, true),
                b'\\' => {
                    self.at += 1;
                    self.take(&mut word);
                }
                _ if byte.is_ascii_whitespace() => break,
                b';' | b'&' | b'|' | b'(' | b')' | b'<' | b'>' | b'`' => break,
                _ => self.take(&mut word),
            }
        }
        // An operator that no command line may begin with is no word; it must not stop the reading either.
        if self.at == start {
            self.at += 1;
        }
        word.raw.end = self.at;
        word
    }

    fn quoted(&mut self, word: &mut Word, quote: u8, escapes: bool) {
        self.at += 1;
        while let Some(&byte) = self.script.get(self.at) {
            match byte {
                _ if byte == quote => {
                    self.at += 1;
                    return;
                }
                b'\\'
                    if escapes
                        && matches!(
                            self.script.get(self.at + 1),
                            Some(b'"' | b'\\' | b'$' | b'`' | b'\n')
                        ) =>
                {
                    self.at += 1;
                    self.take(word);
                }
                _ => self.take(word),
            }
        }
    }

    fn take(&mut self, word: &mut Word) {
        if let Some(&byte) = self.script.get(self.at) {
            word.text.push(byte);
            word.places.push(self.at);
            self.at += 1;
        }
    }
}
