//! Masks what looks like a secret in the arguments of a program.
//!
//! A heuristic, and it errs towards masking: names make their values secret (`names.rs`), in options and inside of any
//! text (`text.rs`); other secrets have a shape that tells (`shapes.rs`); and some programs' options and arguments are
//! secret by their place (`options.rs`, with the tables of `programs.rs`). A shell's script is read as the commands it
//! has (`shell.rs`), which pass secrets on to each other (`script.rs`). What it doesn't know it shows; who must be sure
//! leaves the arguments out (`max_args_bytes: 0`).

mod names;
mod options;
mod programs;
mod script;
mod shapes;
mod shell;
mod text;

use names::{Secrecy, secrecy};
use options::{Argument, Command, is_program};
use script::{is_script, mask_script};
use text::{is_name, mask_text};

/// What stands in a secret's place.
const MASK: &[u8] = b"***";

/// Scripts inside of scripts are read to this depth; below that they are text.
const MAX_DEPTH: u32 = 4;

/// The command line of `args`, joined by blanks, secrets masked.
pub fn command_line(args: &[&[u8]]) -> Vec<u8> {
    masked_arguments(args, 0).join(&b' ')
}

fn masked_arguments(args: &[&[u8]], depth: u32) -> Vec<Vec<u8>> {
    let masked = args.iter().zip(treatments(args)).enumerate().map(|(index, (arg, treatment))| {
        let mut out = Vec::with_capacity(arg.len());
        match treatment {
            Treatment::Secret(start) => {
                out.extend_from_slice(&arg[..start]);
                out.extend_from_slice(MASK);
            }
            Treatment::Shown => out.extend_from_slice(arg),
            Treatment::Text if depth < MAX_DEPTH && is_script(&args[..index], arg) => {
                mask_script(arg, depth + 1, &mut out);
            }
            Treatment::Text => mask_text(arg, &mut out),
        }
        out
    });
    masked.collect()
}

/// What the arguments around one tell of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Treatment {
    /// Secret from this byte on.
    Secret(usize),
    /// No secret, whatever it sounds like.
    Shown,
    /// A text that may have secrets.
    Text,
}

fn treatments(args: &[&[u8]]) -> Vec<Treatment> {
    let command = Command::new(args);
    let mut value_of = None;
    let mut treatments = Vec::with_capacity(args.len());
    for (index, arg) in args.iter().enumerate() {
        let option: Option<(Secrecy, bool)> = value_of.take();
        if let Some((secrecy, _)) = option.filter(|(_, is_known)| is_value(arg, *is_known)) {
            if !secrecy.shows(arg) {
                treatments.push(secret_from(arg, 0));
                continue;
            }
            if secrecy == Secrecy::Login || secrecy == Secrecy::Cookie {
                treatments.push(Treatment::Text);
                continue;
            }
        }
        treatments.push(match command.argument(index) {
            Argument::Value(start, secrecy) if secrecy.shows(&arg[start..]) => Treatment::Text,
            Argument::Value(start, _) => secret_from(arg, start),
            Argument::Option(secrecy) => {
                value_of = Some((secrecy, true));
                Treatment::Text
            }
            Argument::Harmless => Treatment::Shown,
            Argument::Other => {
                value_of = if is_value_of_named(args, index)
                    || (!command.asks_for_password() && is_beside_user(args, index))
                {
                    Some((Secrecy::Secret, true))
                } else {
                    option_before_value(args, index).map(|secrecy| (secrecy, false))
                };
                let before = index.checked_sub(1).map(|before| &args[before]);
                changed_password(args, index)
                    .or_else(|| assigned(arg).filter(|_| !is_script(&args[..index], arg)))
                    .or_else(|| echoed(before, arg))
                    .map_or(Treatment::Text, Treatment::Secret)
            }
        });
    }
    treatments
}

/// Whether the argument behind an option is its value. One that the tables know has a value always, but some ask for
/// it if there is none: then another option follows.
fn is_value(arg: &[u8], is_known: bool) -> bool {
    !arg.starts_with(b"-") || (is_known && arg.len() > 2 && !arg.starts_with(b"--"))
}

fn secret_from(arg: &[u8], start: usize) -> Treatment {
    let value = &arg[start..];
    if names_its_source(value) { Treatment::Text } else { Treatment::Secret(start + value_start(value)) }
}

/// `--password`, `-token`, and a bare `password` where a setting is made: the next argument is its value.
fn option_before_value(args: &[&[u8]], index: usize) -> Option<Secrecy> {
    const SETTERS: [&[u8]; 10] = [
        b"put",
        b"update",
        b"config:system:set",
        b"set",
        b"SET",
        b"config",
        b"CONFIG",
        b"--global",
        b"--add",
        b"configure",
    ];
    let arg = args[index];
    let is_option = arg.starts_with(b"-");
    let is_set = || {
        let before = &args[..index];
        before
            .iter()
            .any(|word| SETTERS.contains(word) || is_program(word, "nmcli") || is_program(word, "pdftk"))
    };
    if !arg.iter().all(|&byte| is_name(byte) || (byte == b'/' && !is_option && arg[0] != b'/'))
        || (!is_option && !is_set())
    {
        return None;
    }
    let name = arg.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    match secrecy(name)? {
        Secrecy::InUrl | Secrecy::LongInUrl => None,
        Secrecy::Header | Secrecy::Key | Secrecy::Login if !is_option => None,
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
        Secrecy::InUrl | Secrecy::LongInUrl => false,
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

/// `--password-command=echo SECRET`: where the secret begins.
fn echoed(before: Option<&&[u8]>, arg: &[u8]) -> Option<usize> {
    let is_command = |name: &[u8]| {
        let name = name.to_ascii_lowercase();
        let is_of_secret = ["pass", "token", "secret", "key"]
            .iter()
            .any(|hint| text::find(&name, hint.as_bytes()).is_some());
        is_of_secret && ["cmd", "command"].iter().any(|end| name.ends_with(end.as_bytes()))
    };
    let start = match arg.iter().position(|&byte| byte == b'=') {
        Some(sign) if is_command(&arg[..sign]) => sign + 1,
        _ if before.is_some_and(|before| before.starts_with(b"-") && is_command(before)) => 0,
        _ => return None,
    };
    ["echo ", "printf "]
        .iter()
        .find(|echo| arg[start..].starts_with(echo.as_bytes()))
        .map(|echo| start + echo.len())
}

/// `-u name -p SECRET` of programs that the tables don't know: no port and no path.
fn is_beside_user(args: &[&[u8]], index: usize) -> bool {
    const USERS: [&[u8]; 6] = [b"-u", b"-U", b"--user", b"--username", b"-user", b"-username"];
    const PASSWORDS: [&[u8]; 2] = [b"-p", b"-P"];
    // Its -p is a priority.
    let is_other = is_program(args[0], "journalctl");
    let (Some(option), Some(value)) = (index.checked_sub(2), args.get(index + 1)) else { return false };
    PASSWORDS.contains(&args[index])
        && USERS.contains(&args[option])
        && !args[option + 1].starts_with(b"-")
        && !is_other
        && !value.starts_with(b"/")
        && !value.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b':' | b'.' | b'-' | b','))
}

/// `change_password user SECRET`: the last of the arguments that stand behind such a word, if they are two at least.
fn changed_password(args: &[&[u8]], index: usize) -> Option<usize> {
    const VERBS: [&[u8]; 4] = [b"change", b"set", b"reset", b"update"];
    if index < 3
        || args[index].starts_with(b"-")
        || args.get(index + 1).is_some_and(|next| !next.starts_with(b"-"))
    {
        return None;
    }
    let run = args[..index].iter().rev().take(4).take_while(|word| !word.starts_with(b"-"));
    let is_verb = |word: &&[u8]| {
        ["password", "passwd"].iter().any(|end| word.ends_with(end.as_bytes()))
            && VERBS.iter().any(|verb| word.starts_with(verb))
    };
    run.skip(1).any(is_verb).then_some(0)
}

/// `-n node.session.auth.password -v SECRET`: the option names a value of what was named just before.
fn is_value_of_named(args: &[&[u8]], index: usize) -> bool {
    const NAMES: [&[u8]; 7] = [b"-n", b"-k", b"-u", b"--name", b"--key", b"-Name", b"-name"];
    const VALUES: [&[u8]; 4] = [b"-v", b"--value", b"-Value", b"-value"];
    let (Some(option), Some(name)) = (index.checked_sub(2), index.checked_sub(1)) else { return false };
    let name = args[name];
    VALUES.contains(&args[index])
        && NAMES.contains(&args[option])
        && name.iter().all(|&byte| is_name(byte) || byte == b'/')
        && secrecy(name) == Some(Secrecy::Secret)
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
