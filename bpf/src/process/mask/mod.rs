//! Masks what looks like a secret in the arguments of a program.
//!
//! A heuristic, and it errs towards masking: names make their values secret (`names.rs`), in options and inside of any
//! text (`text.rs`), and some programs' options and arguments are secret by their place (`options.rs`). A shell's script
//! is read as the commands it has (`shell.rs`). What it doesn't know it shows; who must be sure leaves the arguments out
//! (`max_args_bytes: 0`).

mod names;
mod options;
mod shell;
mod text;

use names::{Secrecy, secrecy};
use options::{Argument, is_program};
use text::{is_name, mask_text};

/// What stands in a secret's place.
const MASK: &[u8] = b"***";

/// Scripts inside of scripts are read to this depth; below that they are text.
const MAX_DEPTH: u32 = 4;

/// The command line of `args`, joined by blanks, secrets masked.
pub(super) fn command_line(args: &[&[u8]]) -> Vec<u8> {
    masked_arguments(args, 0).join(&b' ')
}

fn masked_arguments(args: &[&[u8]], depth: u32) -> Vec<Vec<u8>> {
    let secrets = secrets(args);
    let masked = args.iter().zip(secrets).enumerate().map(|(index, (arg, secret))| {
        let mut out = Vec::with_capacity(arg.len());
        match secret {
            Some(start) => {
                out.extend_from_slice(&arg[..start]);
                out.extend_from_slice(MASK);
            }
            None if depth < MAX_DEPTH && is_script(&args[..index], arg) => {
                mask_script(arg, depth + 1, &mut out)
            }
            None => mask_text(arg, &mut out),
        }
        out
    });
    masked.collect()
}

/// From which byte on each argument of a command is secret, as far as the arguments around it tell.
fn secrets(args: &[&[u8]]) -> Vec<Option<usize>> {
    let mut value_of = None;
    let mut secrets = Vec::with_capacity(args.len());
    for (index, arg) in args.iter().enumerate() {
        let option: Option<Secrecy> = value_of.take();
        let is_value = option.is_some_and(|secrecy| !arg.starts_with(b"-") && !secrecy.shows(arg));
        if is_value {
            secrets.push((!names_its_source(arg)).then(|| value_start(arg)));
            continue;
        }
        let secret = match options::argument(args, index) {
            Argument::Secret(start) if names_its_source(&arg[start..]) => None,
            Argument::Secret(start) => Some(start + value_start(&arg[start..])),
            Argument::Option(secrecy) => {
                value_of = Some(secrecy);
                None
            }
            Argument::Harmless => None,
            Argument::Other => {
                value_of = option_before_value(args, index);
                assigned(arg)
            }
        };
        secrets.push(secret);
    }
    secrets
}

/// `--password`, `-token`, and a bare `password` where a setting is made: the next argument is its value.
fn option_before_value(args: &[&[u8]], index: usize) -> Option<Secrecy> {
    const SETTERS: [&[u8]; 7] = [b"set", b"SET", b"config", b"CONFIG", b"--global", b"--add", b"configure"];
    let arg = args[index];
    let is_option = arg.starts_with(b"-");
    let is_set = || {
        let before = &args[..index];
        before
            .iter()
            .any(|word| SETTERS.contains(word) || is_program(word, "nmcli") || is_program(word, "pdftk"))
    };
    if !arg.iter().all(|&byte| is_name(byte)) || (!is_option && !is_set()) {
        return None;
    }
    match secrecy(arg)? {
        Secrecy::InUrl | Secrecy::Header if !is_option => None,
        Secrecy::Key if !is_option => None,
        Secrecy::InUrl => None,
        secrecy => Some(secrecy),
    }
}

/// `NAME=value` and `--name=value` are one argument: all behind the sign is the value.
fn assigned(arg: &[u8]) -> Option<usize> {
    let sign = arg.iter().position(|&byte| byte == b'=')?;
    let (name, value) = (&arg[..sign], &arg[sign + 1..]);
    let is_plain = !matches!(value.first(), None | Some(b'"' | b'\'' | b'>' | b'='));
    let secrecy = secrecy(name).filter(|_| is_plain && name.iter().all(|&byte| is_name(byte)))?;
    let applies = match secrecy {
        Secrecy::InUrl => false,
        Secrecy::Key => name.starts_with(b"-"),
        _ => !((name == b"PWD" || name == b"OLDPWD") && value.starts_with(b"/")),
    };
    (applies && !secrecy.shows(value) && !names_its_source(value)).then(|| sign + 1 + value_start(value))
}

/// OpenSSL's and others' ways to say where a secret is.
fn names_its_source(value: &[u8]) -> bool {
    const SOURCES: [&[u8]; 5] = [b"env:", b"file:", b"fd:", b"stdin", b"prompt"];
    SOURCES.iter().any(|source| value.starts_with(source))
}

/// Where the secret begins behind OpenSSL's `pass:` and `hexkey:`.
fn value_start(value: &[u8]) -> usize {
    let kinds: [&[u8]; 3] = [b"pass:", b"hexkey:", b"key:"];
    kinds.iter().find(|kind| value.starts_with(kind) && value.len() > kind.len()).map_or(0, |kind| kind.len())
}

/// Whether the argument is a script for a shell among those before it.
fn is_script(before: &[&[u8]], arg: &[u8]) -> bool {
    const SHELLS: [&str; 11] =
        ["sh", "bash", "dash", "zsh", "ksh", "ash", "fish", "su", "runuser", "script", "flock"];
    const OF_COMMANDS: [&str; 7] = ["ssh", "eval", "watch", "parallel", "tmux", "screen", "at"];
    let has = |names: &[&str]| before.iter().any(|word| names.iter().any(|name| is_program(word, name)));
    let last = before.iter().rev().find(|word| **word != b"--");
    let is_command = last.is_some_and(|word| {
        *word == b"--command" || (word.starts_with(b"-") && !word.starts_with(b"--") && word.ends_with(b"c"))
    });
    (is_command && has(&SHELLS)) || (arg.iter().any(u8::is_ascii_whitespace) && has(&OF_COMMANDS))
}

/// Copies a script with its secrets masked.
fn mask_script(script: &[u8], depth: u32, out: &mut Vec<u8>) {
    let mut done = 0;
    for command in shell::commands(script) {
        let args: Vec<&[u8]> = command.iter().map(|word| word.text.as_slice()).collect();
        for ((index, word), secret) in command.iter().enumerate().zip(secrets(&args)) {
            let raw = &script[word.raw.clone()];
            if let Some(start) = secret {
                let place = word.place(start);
                mask_text(&script[done..word.raw.start], out);
                out.extend_from_slice(&script[word.raw.start..place]);
                out.extend_from_slice(MASK);
                out.extend(closing_quote(&script[word.raw.start..place], raw));
                done = word.raw.end;
            } else if depth < MAX_DEPTH && raw != word.text && is_script(&args[..index], args[index]) {
                mask_text(&script[done..word.raw.start], out);
                out.push(b'\'');
                mask_script(&word.text, depth + 1, out);
                out.push(b'\'');
                done = word.raw.end;
            }
        }
    }
    mask_text(&script[done..], out);
}

/// The quote that a masked word still needs: one that is open in what is kept of it, and closed at its end.
fn closing_quote(kept: &[u8], raw: &[u8]) -> Option<u8> {
    let quote = *raw.last().filter(|byte| matches!(byte, b'"' | b'\''))?;
    (kept.iter().filter(|&&byte| byte == quote).count() % 2 == 1).then_some(quote)
}

#[cfg(test)]
mod tests {
    use super::command_line;

    #[test]
    fn secrets_are_masked_and_the_rest_stays_as_it_is() {
        // The arguments stand between bars; masked ones must come out as the second text says.
        let table: &[(&str, &str)] = &[
            ("ls|-la|/tmp", "ls -la /tmp"),
            ("app|--password=x", "app --password=***"),
            ("app|--password=two words", "app --password=***"),
            ("app|--password=/slash", "app --password=***"),
            ("app|--db.password=x|--y", "app --db.password=*** --y"),
            ("app|--password|x|y", "app --password *** y"),
            ("app|--password|--quiet", "app --password --quiet"),
            ("app|--token|x", "app --token ***"),
            ("app|--api-key=x", "app --api-key=***"),
            ("app|--password-file=/etc/x", "app --password-file=/etc/x"),
            ("app|--token-path|/etc/x", "app --token-path /etc/x"),
            ("app|--secret-name=x", "app --secret-name=x"),
            ("env|AWS_SECRET_ACCESS_KEY=x|PATH=/bin|run", "env AWS_SECRET_ACCESS_KEY=*** PATH=/bin run"),
            ("env|PGPASSWORD=a b|psql", "env PGPASSWORD=*** psql"),
            ("mysql|-usome|-psecret|base", "mysql -usome -p*** base"),
            ("mysql|-p|base", "mysql -p base"),
            ("/usr/bin/mysqldump|-psecret", "/usr/bin/mysqldump -p***"),
            ("sudo|-n|/usr/bin/mysql|-psecret|base", "sudo -n /usr/bin/mysql -p*** base"),
            ("timeout|5|curl|-u|me:x|http://h/", "timeout 5 curl -u *** http://h/"),
            ("sudo|-u|me|curl|http://h/", "sudo -u me curl http://h/"),
            ("mkdir|-p/tmp/x", "mkdir -p/tmp/x"),
            ("sshpass|-p|x|ssh|h", "sshpass -p *** ssh h"),
            ("sshpass|-px|ssh|h", "sshpass -p*** ssh h"),
            ("redis-cli|-a|x|ping", "redis-cli -a *** ping"),
            ("curl|-u|me:x|http://h/", "curl -u *** http://h/"),
            ("curl|-H|Authorization: Bearer abc.def|http://h/", "curl -H Authorization: *** http://h/"),
            ("curl|-HAuthorization: Basic abc", "curl -HAuthorization: ***"),
            ("curl|-H|X-Api-Key: abc", "curl -H X-Api-Key: ***"),
            ("curl|-H|Cookie: a=b; c=d", "curl -H Cookie: ***"),
            ("curl|http://h/?token=abc&x=1", "curl http://h/?token=***&x=1"),
            ("curl|-d|{\"password\":\"x\",\"a\":1}", "curl -d {\"password\":\"***\",\"a\":1}"),
            ("curl|-d|{\"password\": \"x y\"}", "curl -d {\"password\": \"***\"}"),
            ("psql|postgresql://me:x@h:5432/db", "psql postgresql://me:***@h:5432/db"),
            ("git|clone|https://me:p@ss@h/r.git", "git clone https://me:***@h/r.git"),
            ("git|clone|https://h:443/r@v", "git clone https://h:443/r@v"),
            ("git|clone|https://me@h/r", "git clone https://me@h/r"),
            ("sh|-c|mysql --password=x base; ls", "sh -c mysql --password=*** base; ls"),
            ("sh|-c|run --token x y", "sh -c run --token *** y"),
            ("sh|-c|export SECRET='a b'; ls", "sh -c export SECRET='***'; ls"),
            ("sh|-c|export TOKEN=\"a b\"; ls", "sh -c export TOKEN=\"***\"; ls"),
            ("sh|-c|echo password", "sh -c echo password"),
            ("grep|password:|f", "grep password: f"),
            ("cc|std::token::x", "cc std::token::x"),
            ("app|--author=me|", "app --author=me "),
            ("", ""),
        ];
        for (args, expected) in table {
            let args: Vec<&[u8]> = args.split('|').map(str::as_bytes).collect();
            let line = command_line(&args);
            assert_eq!(String::from_utf8(line).unwrap(), *expected);
        }
    }

    /// The commands of a list: arguments between bars, with the escapes that its first line names.
    fn commands(list: &str) -> Vec<Vec<Vec<u8>>> {
        let argument = |text: &str| {
            let (mut out, mut bytes) = (Vec::new(), text.bytes());
            while let Some(byte) = bytes.next() {
                let escaped = if byte == b'\\' { bytes.next() } else { None };
                out.push(match escaped {
                    Some(b'n') => b'\n',
                    Some(b't') => b'\t',
                    Some(b'e') => b'|',
                    Some(other) => other,
                    None => byte,
                });
            }
            out
        };
        let lines = list.lines().filter(|line| !line.starts_with('#'));
        lines.map(|line| line.split('|').map(argument).collect()).collect()
    }

    fn masked(command: &[Vec<u8>]) -> String {
        let args: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
        String::from_utf8(command_line(&args)).unwrap()
    }

    #[test]
    fn no_secret_of_the_list_is_seen_and_its_program_is() {
        let list = commands(include_str!("secrets.txt"));
        let shown = list.iter().map(|command| (masked(command), &command[0])).filter(|(line, program)| {
            line.contains("S3cr3t") || !line.contains("***") || !line.as_bytes().starts_with(program)
        });
        let shown: Vec<String> = shown.map(|(line, _)| line).collect();
        assert!(
            list.len() >= 200 && shown.is_empty(),
            "{} of {}:\n{}",
            shown.len(),
            list.len(),
            shown.join("\n")
        );
    }

    #[test]
    fn what_is_harmless_in_the_list_stays_as_it_is() {
        let list = commands(include_str!("harmless.txt"));
        let hidden = list.iter().map(|command| masked(command)).zip(&list);
        let hidden = hidden.filter(|(line, command)| line.as_bytes() != command.join(&b' '));
        let hidden: Vec<String> = hidden.map(|(line, _)| line).collect();
        assert!(
            list.len() >= 200 && hidden.is_empty(),
            "{} of {}:\n{}",
            hidden.len(),
            list.len(),
            hidden.join("\n")
        );
    }

    #[test]
    fn whatever_is_cut_off_an_argument_nothing_panics() {
        for command in
            commands(include_str!("secrets.txt")).iter().chain(&commands(include_str!("harmless.txt")))
        {
            let line = command.join(&b'\0');
            for end in 0..line.len() {
                let args: Vec<&[u8]> = line[..end].split(|&byte| byte == 0).collect();
                command_line(&args);
            }
        }
    }

    #[test]
    fn bytes_that_are_no_text_survive() {
        assert_eq!(
            command_line(&[b"\xff=\xfe", b"a\nb", b"--password=\xff"]),
            b"\xff=\xfe a\nb --password=***"
        );
    }
}
