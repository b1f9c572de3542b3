//! Masks what looks like a secret in the arguments of a program.
//!
//! A heuristic, and it errs towards masking: the names below make their values secret, and some programs' short
//! options do. What it doesn't know it shows; who must be sure leaves the arguments out (`max_args_bytes: 0`).

/// What stands in a secret's place.
const MASK: &[u8] = b"***";

/// A name that contains one of these (in lower case, `-` and `_` left out) has a secret value.
const SECRET_NAMES: [&[u8]; 10] = [
    b"password",
    b"passwd",
    b"passphrase",
    b"passwort",
    b"secret",
    b"token",
    b"apikey",
    b"accesskey",
    b"privatekey",
    b"credential",
];
/// Whole names that have a secret value, in the same spelling.
const SECRET_WORDS: [&[u8]; 5] = [b"pwd", b"pass", b"pw", b"pgpass", b"mysqlpwd"];
/// Names that end so tell where a secret is or something about it, not the secret.
const HARMLESS_ENDS: [&[u8]; 9] =
    [b"file", b"path", b"dir", b"name", b"url", b"uri", b"id", b"type", b"length"];

/// Short options with a secret value: the program's name begins so, the option, whether the value is its own
/// argument too (else only attached ones count).
const SHORT_OPTIONS: [(&[u8], &[u8], bool); 8] = [
    (b"mysql", b"-p", false),
    (b"mariadb", b"-p", false),
    (b"sshpass", b"-p", true),
    (b"redis-cli", b"-a", true),
    (b"curl", b"-u", true),
    (b"curl", b"-U", true),
    (b"ldap", b"-w", true),
    (b"smbclient", b"-U", true),
];

/// The command line of `args`, joined by blanks, secrets masked.
pub(super) fn command_line(args: &[&[u8]]) -> Vec<u8> {
    let mut line = Vec::with_capacity(args.iter().map(|arg| arg.len() + 1).sum());
    let mut value_of_secret = false;
    for (index, arg) in args.iter().enumerate() {
        if index > 0 {
            line.push(b' ');
        }
        let after_secret = std::mem::take(&mut value_of_secret);
        if after_secret && !arg.starts_with(b"-") {
            line.extend_from_slice(MASK);
        } else if let Some((option, attached)) = short_option(&args[..index], arg) {
            line.extend_from_slice(option);
            if !attached.is_empty() {
                line.extend_from_slice(MASK);
            }
            value_of_secret = attached.is_empty();
        } else {
            mask_text(arg, &mut line);
            value_of_secret = is_secret_flag(arg);
        }
    }
    line
}

/// `--password`, `-token`: an option whose value is the next argument.
fn is_secret_flag(arg: &[u8]) -> bool {
    arg.starts_with(b"-") && arg.iter().all(|&byte| is_name(byte)) && is_secret_name(arg)
}

/// The short option that `arg` is for a program among the arguments before it, and the value attached to it. Not only
/// the first of them counts: `sudo`, `env` and the like have the program among their own arguments.
fn short_option<'a>(before: &[&[u8]], arg: &'a [u8]) -> Option<(&'static [u8], &'a [u8])> {
    SHORT_OPTIONS.into_iter().find_map(|(of, option, separate)| {
        let attached = arg.strip_prefix(option)?;
        let applies = (separate || !attached.is_empty())
            && before.iter().any(|program| base_name(program).starts_with(of));
        applies.then_some((option, attached))
    })
}

/// Copies one argument, which may be a whole script, with its secrets masked.
fn mask_text(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(&first) = rest.first() {
        let name_end = rest.iter().position(|&byte| !is_name(byte)).unwrap_or(rest.len());
        if name_end == 0 {
            if let Some((kept, after)) = url_password(rest) {
                out.extend_from_slice(kept);
                out.extend_from_slice(MASK);
                rest = after;
            } else {
                out.push(first);
                rest = &rest[1..];
            }
            continue;
        }
        let (name, after) = rest.split_at(name_end);
        out.extend_from_slice(name);
        rest = after;
        if is_secret_name(name)
            && let Some(kept) = value_start(name, after)
        {
            let at_start = text.len() - after.len() == name.len();
            let end = value_end(name, at_start, after, kept);
            out.extend_from_slice(&after[..kept]);
            out.extend_from_slice(MASK);
            rest = &after[end..];
        }
    }
}

/// Where the value of a secret name begins in what follows the name. `=` and `:` give
/// a value in any text; a blank does after a long option inside a script.
fn value_start(name: &[u8], after: &[u8]) -> Option<usize> {
    let mut at = usize::from(matches!(after.first(), Some(b'"' | b'\'')));
    match after.get(at)? {
        b'=' => at += 1,
        b':' => {
            at += 1;
            at += after[at..].iter().take_while(|&&byte| byte == b' ').count();
        }
        b' ' if name.starts_with(b"--") && at == 0 => at += 1,
        _ => return None,
    }
    if matches!(after.get(at), Some(b'"' | b'\'')) {
        at += 1;
    }
    let value = after.get(at..).filter(|value| !value.is_empty())?;
    // `--password --other` has no value, `token://b` is an address and `token::b` a path in a program.
    let none = match after[0] {
        b' ' => value[0] == b'-',
        b':' => value[0] == b':' || value.starts_with(b"//"),
        _ => false,
    };
    (!none).then_some(at)
}

/// Where the value that begins at `start` of `after` ends.
fn value_end(name: &[u8], whole_argument: bool, after: &[u8], start: usize) -> usize {
    let value = &after[start..];
    let until =
        |end: &dyn Fn(u8) -> bool| start + value.iter().position(|&byte| end(byte)).unwrap_or(value.len());
    match after[start - 1] {
        quote @ (b'"' | b'\'') => until(&|byte| byte == quote),
        // `--password=two words` is one argument, all of it secret.
        _ if whole_argument && after[0] == b'=' => after.len(),
        // A header's value has blanks: `Authorization: Bearer x`.
        _ if after[0] == b':' && is_header(name) => {
            until(&|byte| matches!(byte, b'"' | b'\'' | b'\n' | b'\r'))
        }
        _ => until(&|byte| {
            byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'' | b'&' | b';' | b',' | b'}')
        }),
    }
}

/// `://user:password@`: what is kept up to the password, and what comes after it.
fn url_password(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let authority = text.strip_prefix(b"://")?;
    let end = authority
        .iter()
        .position(|&byte| byte == b'/' || byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\''))
        .unwrap_or(authority.len());
    let at = authority[..end].iter().rposition(|&byte| byte == b'@')?;
    let colon = authority[..at].iter().position(|&byte| byte == b':')?;
    (colon + 1 < at).then(|| (&text[..3 + colon + 1], &authority[at..]))
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

/// Headers whose value is secret as a whole, blanks included; curl's -H may be stuck to the name.
fn is_header(name: &[u8]) -> bool {
    let name = plain(name);
    name.ends_with(b"authorization") || name == b"cookie"
}

fn is_secret_name(name: &[u8]) -> bool {
    let name = plain(name);
    let known = is_header(&name)
        || SECRET_WORDS.contains(&name.as_slice())
        || SECRET_NAMES.iter().any(|secret| name.windows(secret.len()).any(|part| part == *secret));
    known && !HARMLESS_ENDS.iter().any(|end| name.ends_with(end))
}

/// The name in lower case without its separators.
fn plain(name: &[u8]) -> Vec<u8> {
    name.iter().filter(|byte| byte.is_ascii_alphanumeric()).map(u8::to_ascii_lowercase).collect()
}

fn base_name(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
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

    #[test]
    fn bytes_that_are_no_text_survive() {
        assert_eq!(
            command_line(&[b"\xff=\xfe", b"a\nb", b"--password=\xff"]),
            b"\xff=\xfe a\nb --password=***"
        );
    }
}
