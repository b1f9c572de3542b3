//! Masks a shell's script: each of its commands as one that is started, and what they pass on to each other.

use std::ops::Range;

use super::names::is_reference;
use super::options::{is_program, is_started, is_word, list, program_name, reader};
use super::shell::{self, Command, Word};
use super::text::{find, mask_part};
use super::{MASK, MAX_DEPTH, Treatment, treatments};

const SHELLS: [&str; 16] = [
    "sh", "bash", "dash", "zsh", "ksh", "ash", "fish", "su", "runuser", "script", "flock", "expect", "lftp",
    "sg", "vagrant", "busybox",
];
/// Programs that are given commands as one argument.
const OF_COMMANDS: [&str; 29] = [
    "ssh",
    "eval",
    "watch",
    "parallel",
    "tmux",
    "screen",
    "at",
    "batch",
    "ansible",
    "check_by_ssh",
    "pssh",
    "parallel-ssh",
    "rsync",
    "scp",
    "sftp",
    "sshfs",
    "autossh",
    "pdsh",
    "clush",
    "dsh",
    "salt",
    "knife",
    "lftp",
    "systemd-run",
    "xterm",
    "plink",
    "db2",
    "fab",
    "entr",
];

/// Whether the argument is a script for a shell among those before it.
pub(super) fn is_script(before: &[&[u8]], arg: &[u8]) -> bool {
    let last = before.iter().rev().find(|word| **word != b"--");
    let is_command = last.is_some_and(|word| {
        matches!(*word, b"--command" | b"--run-command" | b"-exec")
            || (word.starts_with(b"-") && !word.starts_with(b"--") && word.ends_with(b"c"))
    });
    (is_command && has(before, &SHELLS))
        || (arg.iter().any(u8::is_ascii_whitespace) && has(before, &OF_COMMANDS))
}

fn has(words: &[&[u8]], names: &[&str]) -> bool {
    let mut known = words.iter().filter_map(|word| program_name(word));
    known.any(|word| names.iter().any(|name| name.as_bytes() == word))
}

/// What stands in a place of a script instead of what was there.
struct Edit {
    place: Range<usize>,
    with: With,
}

enum With {
    Mask {
        quote: Option<u8>,
    },
    /// A script in quotes of its own.
    Script(Vec<u8>),
    /// A script as it stands there.
    Lines,
    /// What is there.
    Same,
}

/// Copies a script with its secrets masked.
pub(super) fn mask_script(script: &[u8], depth: u32, out: &mut Vec<u8>) {
    let commands = shell::commands(script);
    let (mut edits, mut variables) = (Vec::new(), Vec::new());
    for (index, command) in commands.iter().enumerate() {
        edit_arguments(script, command, depth, &mut edits, &mut variables);
        edit_input(command, depth, &mut edits);
        match goes_to(&commands, index) {
            Goal::Secret => edit_output(script, command, &mut edits, &mut variables),
            Goal::Shell if depth < MAX_DEPTH => {
                if is_echo(command) {
                    edits.extend(command.words.iter().skip(1).map(nested));
                }
                edits.extend(
                    command.bodies.iter().map(|body| Edit { place: body.clone(), with: With::Lines }),
                );
            }
            Goal::Shell | Goal::Other => {}
        }
    }
    edit_variables(script, &commands, &variables, &mut edits);
    edits.sort_by_key(|edit| edit.place.start);
    let mut done = 0;
    for edit in edits {
        if edit.place.start < done || edit.place.is_empty() {
            continue;
        }
        mask_part(&script[done..edit.place.start], out);
        done = edit.place.end;
        match edit.with {
            With::Mask { quote } => {
                out.extend_from_slice(MASK);
                out.extend(quote);
            }
            With::Script(inner) => {
                let mut masked = Vec::with_capacity(inner.len());
                mask_script(&inner, depth + 1, &mut masked);
                if masked == inner {
                    out.extend_from_slice(&script[edit.place]);
                } else {
                    out.push(b'\'');
                    out.append(&mut masked);
                    out.push(b'\'');
                }
            }
            With::Lines => mask_script(&script[edit.place], depth + 1, out),
            With::Same => out.extend_from_slice(&script[edit.place]),
        }
    }
    mask_part(&script[done..], out);
}

fn nested(word: &Word) -> Edit {
    Edit { place: word.raw.clone(), with: With::Script(word.text.clone()) }
}

/// The words of a command that are secret by the command itself.
fn edit_arguments<'a>(
    script: &'a [u8],
    command: &Command,
    depth: u32,
    edits: &mut Vec<Edit>,
    variables: &mut Vec<&'a [u8]>,
) {
    let args: Vec<&[u8]> = command.words.iter().map(|word| word.text.as_slice()).collect();
    for ((index, word), treatment) in command.words.iter().enumerate().zip(treatments(&args)) {
        match treatment {
            Treatment::Secret(start) => {
                let place = word.place(start);
                let end = glued_end(script, word.raw.end);
                let value = &script[place..end];
                if let Some(name) = variable(value) {
                    variables.push(name);
                } else if !is_reference(value) {
                    let quote = closing_quote(&script[word.raw.start..place], &script[place..end]);
                    edits.push(Edit { place: place..end, with: With::Mask { quote } });
                }
            }
            Treatment::Shown => edits.push(Edit { place: word.raw.clone(), with: With::Same }),
            Treatment::Text => {
                let is_quoted = script[word.raw.clone()] != word.text;
                if depth < MAX_DEPTH && is_quoted && is_script(&args[..index], args[index]) {
                    edits.push(nested(word));
                }
            }
        }
    }
}

/// Here-strings and -documents of a command that reads a secret or a script.
fn edit_input(command: &Command, depth: u32, edits: &mut Vec<Edit>) {
    if command.here_strings.is_empty() && command.bodies.is_empty() {
        return;
    }
    let bodies = command.bodies.iter();
    if reads_secret(command) || writes_secret(command) {
        let words =
            command.here_strings.iter().filter(|word| !is_reference(&word.text)).map(|word| word.raw.clone());
        let places = words.chain(bodies.cloned());
        edits.extend(places.map(|place| Edit { place, with: With::Mask { quote: None } }));
    } else if depth < MAX_DEPTH && reads_script(command) {
        edits.extend(command.here_strings.iter().map(nested));
        edits.extend(bodies.map(|body| Edit { place: body.clone(), with: With::Lines }));
    }
}

/// What a command writes that another one reads as a secret.
fn edit_output<'a>(
    script: &'a [u8],
    command: &Command,
    edits: &mut Vec<Edit>,
    variables: &mut Vec<&'a [u8]>,
) {
    edits.extend(
        command.bodies.iter().map(|body| Edit { place: body.clone(), with: With::Mask { quote: None } }),
    );
    if !is_echo(command) {
        return;
    }
    let mut words = command.words.iter().skip_while(|word| !is_echo_name(&word.text));
    let is_printf = words.next().is_some_and(|word| is_program(&word.text, "printf"));
    let mut words = words.skip_while(|word| word.text.starts_with(b"-") && word.text.len() < 4).peekable();
    let mut is_format = is_printf;
    while let Some(word) = words.next() {
        let is_shown = is_format && words.peek().is_some() && is_plain_format(&word.text);
        is_format = false;
        let end = glued_end(script, word.raw.end);
        let value = &script[word.raw.start..end];
        if let Some(name) = variable(value) {
            variables.push(name);
        } else if !is_shown && !is_reference(value) {
            edits.push(Edit { place: word.raw.start..end, with: With::Mask { quote: None } });
        }
    }
}

/// `%s\n`, and nothing that is a secret itself.
fn is_plain_format(word: &[u8]) -> bool {
    word.iter().all(|byte| matches!(byte, b'%' | b's' | b'b' | b'\\' | b'n' | b':' | b' '))
}

fn is_echo_name(word: &[u8]) -> bool {
    ["echo", "printf", "print", "yes"].iter().any(|name| is_program(word, name))
}

fn is_echo(command: &Command) -> bool {
    command.words.iter().take(2).any(|word| is_echo_name(&word.text))
}

/// So far what is written into a pipe is followed.
const MAX_STAGES: usize = 8;

/// Where the output of a command ends.
enum Goal {
    Secret,
    Shell,
    Other,
}

fn goes_to(commands: &[Command], index: usize) -> Goal {
    if !is_echo(&commands[index]) && commands[index].bodies.is_empty() {
        return Goal::Other;
    }
    if commands[index].is_secret_file || writes_secret(&commands[index]) {
        return Goal::Secret;
    }
    let mut at = index;
    for _ in 0..MAX_STAGES {
        let Some(next) = commands[at].feeds.filter(|&next| next > at) else { break };
        // Brackets leave commands without words.
        let Some(found) = (next..commands.len()).find(|&next| !commands[next].words.is_empty()) else {
            break;
        };
        at = found;
        if reads_secret(&commands[at]) || writes_secret(&commands[at]) {
            return Goal::Secret;
        }
        if reads_script(&commands[at]) {
            return Goal::Shell;
        }
    }
    Goal::Other
}

fn reads_script(command: &Command) -> bool {
    let args: Vec<&[u8]> = command.words.iter().take(4).map(|word| word.text.as_slice()).collect();
    has(&args, &["crontab", "sh", "bash", "dash", "zsh", "ksh", "ash", "ssh"])
}

/// Whether a command reads a secret from its standard input.
fn reads_secret(command: &Command) -> bool {
    let words = || command.words.iter().map(|word| word.text.as_slice());
    // `--password-stdin`, `-o password_stdin`, `--passwd-on-stdin`.
    let says_so = words().any(|word| {
        find(word, b"stdin").is_some()
            && ["pass", "token", "secret", "key", "pw", "auth"]
                .iter()
                .any(|hint| find(word, hint.as_bytes()).is_some())
    });
    if says_so {
        return true;
    }
    let words: Vec<&[u8]> = words().collect();
    let mut started = words.iter().enumerate().filter(|(at, _)| is_started(&words, *at));
    let is_asked = |when| list(when).any(|wanted| words.iter().any(|word| is_word(word, wanted)));
    started.any(|(_, word)| reader(word).is_some_and(|when| when.is_empty() || is_asked(when)))
}

/// Whether a command writes to a file that holds secrets, as its name says.
fn writes_secret(command: &Command) -> bool {
    let is_tee = command.words.iter().take(3).any(|word| is_program(&word.text, "tee"));
    command.targets.iter().any(|file| is_secret_file(file))
        || (is_tee && command.words.iter().skip(1).any(|word| is_secret_file(&word.text)))
}

fn is_secret_file(path: &[u8]) -> bool {
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default().to_ascii_lowercase();
    let has = |part: &&str| find(&name, part.as_bytes()).is_some();
    let is_public =
        [".pub", "public", "authorized", "known", "keyboard", "keyring", "gpg", ".asc", ".crt", ".log"]
            .iter()
            .any(has);
    let parts = [
        "netrc",
        "pgpass",
        "pass",
        "secret",
        "token",
        "cred",
        "id_rsa",
        "id_ed25519",
        "id_ecdsa",
        ".pw",
        "psk",
        "key",
        "pypirc",
        "vault",
    ];
    !is_public && parts.iter().any(has)
}

/// `$name`, `"${name}"`: the name, if all of it is a variable of the script.
fn variable(raw: &[u8]) -> Option<&[u8]> {
    let raw = raw.strip_prefix(b"\"").unwrap_or(raw);
    let raw = raw.strip_suffix(b"\"").unwrap_or(raw);
    let name = raw.strip_prefix(b"$")?;
    let name = name.strip_prefix(b"{").and_then(|name| name.strip_suffix(b"}")).unwrap_or(name);
    let is_name = name.first().is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'_')
        && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    is_name.then_some(name)
}

/// What the script itself sets a variable to that is used as a secret.
fn edit_variables(script: &[u8], commands: &[Command], variables: &[&[u8]], edits: &mut Vec<Edit>) {
    if variables.is_empty() {
        return;
    }
    for word in commands.iter().flat_map(|command| &command.words) {
        let Some(sign) = word.text.iter().position(|&byte| byte == b'=') else { continue };
        let (place, end) = (word.place(sign + 1), glued_end(script, word.raw.end));
        let value = &script[place..end];
        if variables.contains(&&word.text[..sign]) && variable(value).is_none() && !is_reference(value) {
            let quote = closing_quote(&script[word.raw.start..place], value);
            edits.push(Edit { place: place..end, with: With::Mask { quote } });
        }
    }
}

/// Where a word ends that goes on behind `$(…)` or backquotes, at which the reading of words stops.
fn glued_end(script: &[u8], end: usize) -> usize {
    let mut at = end;
    let opens = |at: usize| at > 0 && script[at - 1] == b'$' && script.get(at) == Some(&b'(');
    if !opens(end) && script.get(end) != Some(&b'`') {
        return end;
    }
    while let Some(&byte) = script.get(at) {
        match byte {
            b'(' if opens(at) => {
                let mut depth = 0_usize;
                while let Some(&byte) = script.get(at) {
                    at += 1;
                    match byte {
                        b'(' => depth += 1,
                        b')' => depth -= 1,
                        _ => {}
                    }
                    if depth == 0 {
                        break;
                    }
                }
            }
            b'`' => {
                let rest = &script[at + 1..];
                at += 1 + rest.iter().position(|&byte| byte == b'`').map_or(rest.len(), |end| end + 1);
            }
            b';' | b'&' | b'|' | b'(' | b')' | b'<' | b'>' => break,
            _ if byte.is_ascii_whitespace() => break,
            _ => at += 1,
        }
    }
    at.min(script.len())
}

/// The quote that a masked word still needs: one that is open in what is kept of it, and closed at its end.
fn closing_quote(kept: &[u8], masked: &[u8]) -> Option<u8> {
    let quote = *masked.last().filter(|byte| matches!(byte, b'"' | b'\''))?;
    (kept.iter().filter(|&&byte| byte == quote).count() % 2 == 1).then_some(quote)
}
