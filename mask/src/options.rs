//! Looks up what an argument is to the program that it is given to, in the tables of `programs.rs`.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::names::Secrecy;
use super::programs::{PROGRAMS, Program, READERS};

/// What an argument is to the program it is given to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Argument {
    /// A value from this byte on, and how secret that is.
    Value(usize, Secrecy),
    /// An option whose value is the next argument, and how secret that is.
    Option(Secrecy),
    /// Named like a secret, and none.
    Harmless,
    /// Nothing that the tables know.
    Other,
}

/// A command's arguments with the programs among them.
pub(super) struct Command<'a> {
    args: &'a [&'a [u8]],
    /// Where a program stands, in the order of the arguments, and what the tables say of it.
    found: Vec<(usize, &'static Program)>,
    /// Arguments that are secret by their place, from a byte on.
    places: Vec<(usize, usize)>,
}

impl<'a> Command<'a> {
    pub(super) fn new(args: &'a [&'a [u8]]) -> Self {
        let has = |wanted: &str| args.contains(&wanted.as_bytes());
        let mut found = Vec::new();
        for (at, arg) in args.iter().enumerate() {
            // Not only the first may be the program: `sudo`, `env`, `ssh` and the like have it among their arguments.
            let is_name_of_container = at > 0 && args[at - 1] == b"--name";
            if !is_name_of_container {
                let known = programs(command_in(arg, at))
                    .filter(|program| !program.is_first || is_started(args, at))
                    .filter(|program| program.when.is_empty() || list(program.when).any(has));
                found.extend(known.map(|program| (at, program)));
            }
        }
        let mut command = Self { args, found, places: Vec::new() };
        for &(at, program) in &command.found {
            for pattern in program.places {
                mark(args, at, pattern, &mut command.places);
            }
        }
        command
    }

    pub(super) fn argument(&self, at: usize) -> Argument {
        let word = self.args[at];
        if let Some(&(_, start)) = self.places.iter().find(|(place, _)| *place == at) {
            return Argument::Value(start, Secrecy::Secret);
        }
        let known = || self.found.iter().filter(|found| self.applies(found, at)).map(|(_, program)| *program);
        if known().any(|program| option(program.shown, word).is_some()) {
            return Argument::Harmless;
        }
        for program in known() {
            if let Some((start, secrecy)) = secret_option(program, word) {
                return if start < word.len() && self.is_port(&word[start..], at) {
                    Argument::Other
                } else if start < word.len() {
                    Argument::Value(start, secrecy)
                } else {
                    Argument::Option(secrecy)
                };
            }
        }
        Argument::Other
    }

    /// Whether one of the programs has a `-p` without a value, to ask for a password (`mysql -u root -p base`).
    pub(super) fn asks_for_password(&self) -> bool {
        self.found.iter().any(|(_, program)| program.attached.contains('p'))
    }

    /// Whether the argument `at` may be one of the program's.
    fn applies(&self, &(place, program): &(usize, &'static Program), at: usize) -> bool {
        let starts_other = || {
            let others = ["ssh", "scp", "sftp", "rsync", "ssh-copy-id"];
            self.args[place + 1..at].iter().any(|word| others.iter().any(|name| is_program(word, name)))
        };
        place < at && !(program.is_leading && starts_other())
    }

    /// `docker run --name mysql -p3306:3306`: ports, although `mysql` stands before.
    fn is_port(&self, value: &[u8], at: usize) -> bool {
        let is_container = ["docker", "podman", "nerdctl"]
            .iter()
            .any(|name| self.args[..at].iter().any(|word| is_program(word, name)));
        is_container && value.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b':' | b'.' | b'-'))
    }
}

/// Whether the word is where a program stands that is started: it is the first, or the first is one that starts others.
pub(super) fn is_started(words: &[&[u8]], at: usize) -> bool {
    const STARTERS: [&str; 20] = [
        "sudo", "doas", "env", "timeout", "nice", "ionice", "nohup", "setsid", "stdbuf", "time", "chroot",
        "nsenter", "ssh", "docker", "podman", "kubectl", "xargs", "strace", "exec", "runuser",
    ];
    at == 0 || words[0].contains(&b'=') || STARTERS.iter().any(|name| is_program(words[0], name))
}

/// What is started by a first word as `ProxyCommand=ssh`.
fn command_in(arg: &[u8], at: usize) -> &[u8] {
    match arg.iter().position(|&byte| byte == b'=') {
        Some(sign) if at == 0 => &arg[sign + 1..],
        _ => arg,
    }
}

/// The words of a list in the tables.
pub(super) fn list(words: &'static str) -> impl Iterator<Item = &'static str> {
    words.split(' ').filter(|word| !word.is_empty())
}

/// The option of the list that the word is, or begins with: where its value begins, which may be behind its end.
fn option(options: &'static str, word: &[u8]) -> Option<usize> {
    if !matches!(word.first(), Some(b'-' | b'/')) && !options.contains('=') && !options.contains('.') {
        return None;
    }
    list(options).find_map(|option| {
        let option = option.as_bytes();
        let begins = word.get(..option.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(option));
        match option.last()? {
            b':' | b'=' => (begins && word.len() > option.len()).then_some(option.len()),
            _ if !word.starts_with(option) => None,
            _ if word.len() == option.len() => Some(word.len() + 1),
            _ => (word[option.len()] == b'=').then_some(option.len() + 1),
        }
    })
}

/// Where the value of a secret option begins, which may be behind the word's end, and how secret it is.
fn secret_option(program: &'static Program, word: &[u8]) -> Option<(usize, Secrecy)> {
    let lists = [
        (program.secret, if program.is_number_shown { Secrecy::UnlessNumber } else { Secrecy::Secret }),
        (program.pairs, Secrecy::Login),
        (program.cookies, Secrecy::Cookie),
    ];
    if let Some((start, secrecy)) =
        lists.iter().find_map(|(options, secrecy)| Some((option(options, word)?, *secrecy)))
    {
        // `--from-literal=name=value`: the value alone is secret.
        let is_literal = word.starts_with(b"--from-literal=");
        let inner = word
            .get(start..)
            .unwrap_or_default()
            .iter()
            .position(|&byte| byte == b'=')
            .filter(|_| is_literal);
        return Some((start + inner.map_or(0, |at| at + 1), secrecy));
    }
    if program.is_whole {
        return None;
    }
    let letters =
        word.strip_prefix(b"-").filter(|rest| rest.first().is_some_and(u8::is_ascii_alphanumeric))?;
    let is_letter =
        |options: &str, letter: u8| options.split(' ').any(|option| option.as_bytes() == [b'-', letter]);
    for (at, &letter) in letters.iter().enumerate() {
        if let Some((_, secrecy)) = lists.iter().find(|(options, _)| is_letter(options, letter)) {
            return Some((at + 2, *secrecy));
        }
        if program.attached.as_bytes().contains(&letter) && at + 1 < letters.len() {
            return Some((at + 2, Secrecy::Secret));
        }
        let ends = program.valued.is_empty() && program.attached.is_empty();
        if ends || !letter.is_ascii_alphabetic() || program.valued.as_bytes().contains(&letter) {
            return None;
        }
    }
    None
}

/// Marks what a pattern of places says is secret: the argument, and from which byte on.
///
/// Its words are looked for one behind the other; `x*` is the beginning of one, `-b` a group of letters with it. `1` is
/// the program itself. Then `_` is any argument that is no option, `S` a secret one, `s` one that no option stands before, `C` one that is secret behind a
/// colon, `$` the last of all. `S…` are all that follow, `L…` those as Oracle's `user/secret@database`, `=…` what stands
/// behind their `=`, `>…` those that begin so.
fn mark(args: &[&[u8]], program: usize, pattern: &'static str, marks: &mut Vec<(usize, usize)>) {
    let mut at = program + 1;
    for part in list(pattern) {
        let next = |from: usize| (from..args.len()).find(|&index| !args[index].starts_with(b"-"));
        match part {
            "1" => {}
            "_" | "S" | "C" | "s" => {
                let Some(found) = next(at).filter(|&found| part != "s" || found == at) else { return };
                match part {
                    "S" | "s" => marks.push((found, named_value(args[found]))),
                    "C" => {
                        let start = behind(args[found], b':')
                            .filter(|&start| !args[found][start..].starts_with(b"//"));
                        marks.extend(start.map(|start| (found, start)));
                    }
                    _ => {}
                }
                at = found + 1;
            }
            "$" => {
                let last = args.len() - 1;
                if next(at).is_some_and(|first| first < last) && !args[last].starts_with(b"-") {
                    marks.push((last, 0));
                }
            }
            "S…" | "L…" | "=…" | ">…" => {
                let rest = (at..args.len()).filter(|&index| !args[index].starts_with(b"-"));
                marks.extend(rest.filter_map(|index| Some((index, start_of(part, args[index])?))));
            }
            word => match (at..args.len()).find(|&index| is_word(args[index], word)) {
                Some(found) => at = found + 1,
                None => return,
            },
        }
    }
}

/// Where the secret begins in one of the arguments that a pattern ends with.
fn start_of(part: &str, arg: &[u8]) -> Option<usize> {
    match part {
        "S…" => Some(named_value(arg)),
        "=…" => behind(arg, b'=').filter(|&start| arg[start] != b'@'),
        ">…" => arg.starts_with(b">").then_some(1),
        _ => behind(arg, b'/').filter(|_| !arg.starts_with(b"/") && !arg.starts_with(b"@")),
    }
}

/// Behind the first such byte, if anything is there.
fn behind(arg: &[u8], byte: u8) -> Option<usize> {
    arg.iter().position(|&here| here == byte).map(|at| at + 1).filter(|&start| start < arg.len())
}

/// Behind `token=`: a name in small letters, as padding in base64 has none before it.
fn named_value(arg: &[u8]) -> usize {
    let is_name = |name: &[u8]| name.iter().all(|byte| byte.is_ascii_lowercase() || *byte == b'_');
    behind(arg, b'=').filter(|&start| start > 1 && is_name(&arg[..start - 1])).unwrap_or(0)
}

/// Whether the argument is the word of a table.
pub(super) fn is_word(arg: &[u8], word: &str) -> bool {
    let word = word.as_bytes();
    match word {
        [b'-', letter] => arg == word || is_group_with(arg, *letter),
        [b'*', end @ ..] => arg.len() >= end.len() && arg.ends_with(end),
        [begin @ .., b'*'] => arg.starts_with(begin),
        _ => arg.eq_ignore_ascii_case(word),
    }
}

/// Whether the word is a group of short options, one of which is the letter.
fn is_group_with(word: &[u8], letter: u8) -> bool {
    word.len() > 1 && word[0] == b'-' && word[1] != b'-' && word[1..].contains(&letter)
}

/// The programs that the tables have of this name, also with a path before and an interpreter's ending behind it.
fn programs(word: &[u8]) -> impl Iterator<Item = &'static Program> {
    static EXACT: LazyLock<HashMap<&[u8], Vec<&'static Program>>> = LazyLock::new(|| {
        let mut index = HashMap::<&[u8], Vec<&'static Program>>::new();
        for program in PROGRAMS {
            for name in list(program.names).filter(|name| !name.ends_with('*')) {
                index.entry(name.as_bytes()).or_default().push(program);
            }
        }
        index
    });
    static BEGINNINGS: LazyLock<Vec<(&[u8], &'static Program)>> = LazyLock::new(|| {
        let names = PROGRAMS.iter().flat_map(|program| list(program.names).map(move |name| (name, program)));
        names.filter_map(|(name, program)| Some((name.strip_suffix('*')?.as_bytes(), program))).collect()
    });
    let name = program_name(word);
    let exact = name.and_then(|name| EXACT.get(name)).map_or(&[][..], Vec::as_slice);
    let begun = BEGINNINGS
        .iter()
        .filter(move |(begin, _)| name.is_some_and(|name| name.starts_with(begin)))
        .map(|&(_, program)| program);
    exact.iter().copied().chain(begun)
}

/// What has to be among the arguments of this program for it to read a secret from its standard input; `None` if it
/// never does.
pub(super) fn reader(word: &[u8]) -> Option<&'static str> {
    static INDEX: LazyLock<HashMap<&[u8], &'static str>> = LazyLock::new(|| {
        READERS
            .iter()
            .flat_map(|&(names, when)| list(names).map(move |name| (name.as_bytes(), when)))
            .collect()
    });
    INDEX.get(program_name(word)?).copied()
}

/// The name that a program has in the tables; `None` for what is none.
pub(super) fn program_name(word: &[u8]) -> Option<&[u8]> {
    let name = word.rsplit(|&byte| byte == b'/').next()?;
    let is_name = name.first().is_some_and(u8::is_ascii_alphanumeric)
        && name.len() < 40
        && name.iter().all(|&byte| super::text::is_name(byte));
    let endings: [&[u8]; 6] = [b".py", b".sh", b".pl", b".exe", b".com", b".jar"];
    let name = endings.iter().find_map(|end| name.strip_suffix(*end)).unwrap_or(name);
    is_name.then_some(name)
}

/// Whether the word is the program, by its name or by a path.
pub(super) fn is_program(word: &[u8], name: &str) -> bool {
    let Some(word) = program_name(word) else { return false };
    match name.strip_suffix('*') {
        Some(begin) => word.starts_with(begin.as_bytes()),
        None => word == name.as_bytes(),
    }
}
