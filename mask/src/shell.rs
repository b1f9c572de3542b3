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

/// A simple command of a script.
#[derive(Debug, Default)]
pub(super) struct Command {
    pub(super) words: Vec<Word>,
    /// What `<<<` gives it to read.
    pub(super) here_strings: Vec<Word>,
    /// The bodies of its here-documents.
    pub(super) bodies: Vec<Range<usize>>,
    /// The files it writes to.
    pub(super) targets: Vec<Vec<u8>>,
    /// The command that its output is piped into.
    pub(super) feeds: Option<usize>,
    /// It stands in `<(…)` behind an option or a word that names a secret.
    pub(super) is_secret_file: bool,
}

/// The simple commands of a script, each with its words. Operators, parentheses and line ends stand between
/// commands, so that some have no words.
pub(super) fn commands(script: &[u8]) -> Vec<Command> {
    let mut reader = Reader {
        script,
        at: 0,
        ends: Vec::new(),
        commands: Vec::new(),
        command: Command::default(),
        groups: Vec::new(),
        closed: None,
    };
    while let Some(&byte) = script.get(reader.at) {
        match byte {
            b' ' | b'\t' | b'\r' => reader.at += 1,
            b'\\' if script.get(reader.at + 1) == Some(&b'\n') => reader.at += 2,
            b'#' if reader.begins_word() => reader.skip_line(),
            b'\n' => {
                reader.at += 1;
                reader.end_command();
                reader.read_here_documents();
            }
            b'&' if script.get(reader.at + 1) == Some(&b'>') => reader.at += 1,
            b';' | b'&' | b'|' | b'(' | b')' | b'`' => reader.operator(byte),
            b'<' | b'>' => reader.redirection(byte),
            _ => reader.argument(),
        }
    }
    reader.end_command();
    reader.commands
}

struct Reader<'a> {
    script: &'a [u8],
    at: usize,
    /// The lines that end the here-documents which begin behind this line, and the commands that read them.
    ends: Vec<(usize, Vec<u8>)>,
    commands: Vec<Command>,
    /// The one that is being read.
    command: Command,
    /// Where the open brackets' commands begin, and whether they write what is secret.
    groups: Vec<(usize, bool)>,
    /// The commands between the brackets that were just closed.
    closed: Option<Range<usize>>,
}

impl Reader<'_> {
    fn end_command(&mut self) {
        self.commands.push(std::mem::take(&mut self.command));
    }

    fn operator(&mut self, byte: u8) {
        let before = self.at.checked_sub(1).map(|at| self.script[at]);
        let next = self.script.get(self.at + 1).copied();
        self.at += 1;
        match byte {
            b'(' => {
                let hints: [&[u8]; 8] =
                    [b"pass", b"key", b"token", b"secret", b"cred", b"psk", b"pw", b"auth"];
                let is_named =
                    |word: &Word| hints.iter().any(|hint| super::text::find(&word.text, hint).is_some());
                let is_secret = before == Some(b'<') && self.command.words.last().is_some_and(is_named);
                self.end_command();
                self.groups.push((self.commands.len(), is_secret));
            }
            b')' => {
                self.end_command();
                self.close_group();
            }
            b'|' if next == Some(b'|') || before == Some(b'|') => self.end_command(),
            b'|' => {
                let reader = self.commands.len() + 1;
                self.command.feeds = Some(reader);
                if let Some(group) = self.closed.take().filter(|_| self.command.words.is_empty()) {
                    for command in &mut self.commands[group] {
                        command.feeds.get_or_insert(reader);
                    }
                }
                self.end_command();
            }
            _ => self.end_command(),
        }
    }

    fn close_group(&mut self) {
        let Some((start, is_secret_file)) = self.groups.pop() else { return };
        let end = self.commands.len();
        for command in &mut self.commands[start.min(end)..end] {
            command.is_secret_file |= is_secret_file;
        }
        self.closed = Some(start.min(end)..end);
    }

    /// `> file`, `2>&1`, `<<< word`, `<< end`, `< file`; the bracket of `<(…)` is read as any other.
    fn redirection(&mut self, byte: u8) {
        let is_number =
            |word: &Word, at: usize| word.raw.end == at && word.text.iter().all(u8::is_ascii_digit);
        if self.command.words.last().is_some_and(|word| is_number(word, self.at)) {
            self.command.words.pop();
        }
        let count = self.script[self.at..].iter().take_while(|&&here| here == byte).count();
        self.at += count.min(3);
        if byte == b'<' && count == 2 {
            return self.here_document();
        }
        match self.script.get(self.at) {
            Some(b'(') => return,
            Some(b'&') => {
                self.at += 1;
                while matches!(self.script.get(self.at), Some(b'0'..=b'9' | b'-')) {
                    self.at += 1;
                }
                return;
            }
            Some(b'|') if byte == b'>' => self.at += 1,
            _ => {}
        }
        while matches!(self.script.get(self.at), Some(b' ' | b'\t')) {
            self.at += 1;
        }
        if self
            .script
            .get(self.at)
            .is_some_and(|byte| !byte.is_ascii_whitespace() && !matches!(byte, b'(' | b'<' | b'>'))
        {
            let word = self.word();
            match byte {
                b'>' => self.command.targets.push(word.text),
                _ if count == 3 => self.command.here_strings.push(word),
                _ => {}
            }
        }
    }

    fn argument(&mut self) {
        let word = self.word();
        let is_first = self.command.words.is_empty();
        match word.text.as_slice() {
            b"{" | b"do" if is_first => self.groups.push((self.commands.len(), false)),
            b"}" | b"done" if is_first => self.close_group(),
            _ => {
                self.closed = None;
                self.command.words.push(word);
            }
        }
    }

    fn begins_word(&self) -> bool {
        self.at == 0 || self.script[self.at - 1].is_ascii_whitespace()
    }

    fn skip_line(&mut self) {
        let rest = &self.script[self.at..];
        self.at += rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
    }

    fn here_document(&mut self) {
        while matches!(self.script.get(self.at), Some(b'-' | b' ' | b'\t')) {
            self.at += 1;
        }
        if self.script.get(self.at).is_some_and(|byte| !byte.is_ascii_whitespace()) {
            let end = self.word().text;
            self.ends.push((self.commands.len(), end));
        }
    }

    fn read_here_documents(&mut self) {
        for (command, end) in std::mem::take(&mut self.ends) {
            let start = self.at;
            let mut body_end = self.at;
            while self.at < self.script.len() {
                let line = self.at;
                self.skip_line();
                let text = self.script[line..self.at].trim_ascii();
                body_end = if text == end { line } else { self.at };
                self.at = (self.at + 1).min(self.script.len());
                if text == end {
                    break;
                }
            }
            // The line end before the last line stays.
            let ends_line = body_end > start && self.script[body_end - 1] == b'\n';
            if let Some(command) = self.commands.get_mut(command) {
                command.bodies.push(start..if ends_line { body_end - 1 } else { body_end });
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
