//! Which names have a secret value.

/// Words that make a name secret wherever they stand in it, also inside a longer word (`dbpassword`).
const PASSWORDS: [&[u8]; 6] = [b"password", b"passwd", b"passphrase", b"passwort", b"passcode", b"mnemonic"];
/// Endings of a word that do the same: `requirepass`, `userpwd`, `bindpw`, `authtoken`.
const ENDINGS: [&[u8]; 6] = [b"pass", b"pwd", b"pswd", b"pw", b"token", b"masterauth"];
/// Words that end so by chance.
const NO_ENDINGS: [&[u8]; 9] = [
    b"bypass",
    b"compass",
    b"encompass",
    b"surpass",
    b"trespass",
    b"overpass",
    b"underpass",
    b"multipass",
    b"subpass",
];
/// Whole words of the same kind.
const WORDS: [&[u8]; 6] = [b"psk", b"jwt", b"otp", b"totp", b"bearer", b"passkey"];

/// One of these is in each secret name: most names have none, and need no further look.
const HINTS: [&[u8]; 20] = [
    b"pass",
    b"pw",
    b"token",
    b"secret",
    b"key",
    b"auth",
    b"cred",
    b"cookie",
    b"sig",
    b"psk",
    b"jwt",
    b"otp",
    b"bearer",
    b"mnemonic",
    b"user",
    b"login",
    b"session",
    b"appid",
    b"code",
    b"hook",
];

/// What a name ends with that tells something about a secret, or where it is.
const ABOUT: [&[u8]; 84] = [
    b"age",
    b"agent",
    b"algo",
    b"algorithm",
    b"annotation",
    b"arn",
    b"attempts",
    b"audience",
    b"backend",
    b"bits",
    b"board",
    b"bucket",
    b"budget",
    b"class",
    b"cmd",
    b"column",
    b"command",
    b"count",
    b"dir",
    b"directory",
    b"duration",
    b"enabled",
    b"endpoint",
    b"engine",
    b"env",
    b"expiration",
    b"expires",
    b"expiry",
    b"fd",
    b"field",
    b"file",
    b"files",
    b"format",
    b"header",
    b"helper",
    b"hint",
    b"host",
    b"id",
    b"ids",
    b"index",
    b"issuer",
    b"iterations",
    b"jar",
    b"label",
    b"len",
    b"length",
    b"lifetime",
    b"limit",
    b"limits",
    b"manager",
    b"map",
    b"max",
    b"min",
    b"mode",
    b"name",
    b"names",
    b"namespace",
    b"path",
    b"policy",
    b"port",
    b"prefix",
    b"prompt",
    b"provider",
    b"ref",
    b"required",
    b"retries",
    b"ring",
    b"rotation",
    b"rounds",
    b"scope",
    b"scopes",
    b"selector",
    b"server",
    b"size",
    b"space",
    b"stdin",
    b"store",
    b"strength",
    b"suffix",
    b"template",
    b"timeout",
    b"ttl",
    b"type",
    b"types",
];
const ABOUT_TOO: [&[u8]; 16] = [
    b"days",
    b"encryption",
    b"hours",
    b"interval",
    b"minutes",
    b"period",
    b"plugin",
    b"seconds",
    b"uri",
    b"url",
    b"usage",
    b"validity",
    b"var",
    b"version",
    b"word",
    b"words",
];

/// What stands before a secret's name in that of a switch, a number or something public.
const NOT_THE_SECRET: [&[u8]; 30] = [
    b"allow",
    b"ask",
    b"completion",
    b"continuation",
    b"count",
    b"disable",
    b"enable",
    b"existing",
    b"expire",
    b"generate",
    b"has",
    b"input",
    b"is",
    b"max",
    b"min",
    b"n",
    b"next",
    b"no",
    b"num",
    b"output",
    b"page",
    b"prompt",
    b"random",
    b"show",
    b"skip",
    b"starting",
    b"total",
    b"use",
    b"with",
    b"without",
];
/// The keys that are none to a lock.
const OPEN_KEYS: [&[u8]; 43] = [
    b"any",
    b"arrow",
    b"authorized",
    b"cache",
    b"composite",
    b"config",
    b"context",
    b"default",
    b"dict",
    b"escape",
    b"foreign",
    b"function",
    b"group",
    b"hash",
    b"host",
    b"hot",
    b"index",
    b"join",
    b"json",
    b"known",
    b"label",
    b"lookup",
    b"menu",
    b"meta",
    b"modifier",
    b"natural",
    b"object",
    b"order",
    b"partition",
    b"press",
    b"primary",
    b"pub",
    b"public",
    b"range",
    b"recv",
    b"registry",
    b"return",
    b"routing",
    b"row",
    b"shortcut",
    b"sort",
    b"tag",
    b"unique",
];
/// Words that end in `key` and are no key.
const NO_KEYS: [&[u8]; 6] = [b"monkey", b"turkey", b"hockey", b"donkey", b"jockey", b"whiskey"];
/// Keys that are handed over as they are, never as the path of a file.
const PLAIN_KEYS: [&[u8]; 5] = [b"api", b"access", b"account", b"storage", b"shared"];

/// What kind of value a name has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Secrecy {
    Secret,
    /// A header's value: secret to the end of its line.
    Header,
    /// `tokens`: secret unless it is a number.
    UnlessNumber,
    /// A key or credentials: secret unless it is the path of a file.
    UnlessFile,
    /// `auth`: secret if it is `user:password`.
    Pair,
    /// `key` alone: secret as an option or in a URL, unless it is a path or a column's number.
    Key,
    /// A signature: it opens what the URL is that it stands in.
    InUrl,
    /// Secret in a URL if it is long: `code`, `session`.
    LongInUrl,
    /// `user`, `login`: secret if it is `name:password`.
    Login,
    /// What is `name=value` is secret; without a `=` it is a file's name.
    Cookie,
}

impl Secrecy {
    /// Whether the value, without its quotes, is one that nobody has to hide.
    pub(super) fn shows(self, value: &[u8]) -> bool {
        const SWITCHES: [&[u8]; 8] = [b"true", b"false", b"yes", b"no", b"none", b"null", b"on", b"off"];
        if value.is_empty() || SWITCHES.iter().any(|switch| value.eq_ignore_ascii_case(switch)) {
            return true;
        }
        if is_reference(value) {
            return true;
        }
        match self {
            Secrecy::Secret | Secrecy::InUrl => false,
            Secrecy::Header => value
                .iter()
                .position(|&byte| byte == b' ')
                .is_some_and(|blank| is_reference(&value[blank + 1..])),
            Secrecy::LongInUrl => value.len() < 16,
            Secrecy::Login => !is_login(value),
            Secrecy::Cookie => !value.contains(&b'='),
            Secrecy::UnlessNumber => value.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.'),
            Secrecy::UnlessFile => is_file(value),
            Secrecy::Pair => {
                let is_tuple = matches!(value[0], b'(' | b'[') && value.contains(&b',');
                !is_tuple && (!value.contains(&b':') || value.starts_with(b"/"))
            }
            Secrecy::Key => is_file(value) || (value.len() < 8 && value[0].is_ascii_digit()),
        }
    }
}

/// What the name says of its value; `None` where that is no secret.
pub(super) fn secrecy(name: &[u8]) -> Option<Secrecy> {
    let may_be =
        HINTS.iter().any(|hint| name.windows(hint.len()).any(|part| part.eq_ignore_ascii_case(hint)));
    if !may_be {
        return None;
    }
    let words = words(name);
    let last = words.last()?;
    if words.len() == 2 && words[0] == b"sonar" && last == b"login" {
        return Some(Secrecy::Secret);
    }
    if words.len() == 2 && words[0] == b"secret" && last == b"id" {
        // HashiCorp Vault's password of an application.
        return Some(Secrecy::Secret);
    }
    let is_about = |word: &[u8]| ABOUT.contains(&word) || ABOUT_TOO.contains(&word);
    let is_compound_about = || ABOUT.iter().any(|about| about.len() > 3 && last.ends_with(about));
    if is_about(last) || (words.len() == 1 && is_compound_about()) {
        return None;
    }
    let found = || words.iter().enumerate().rev().filter_map(|(at, word)| Some((at, of_word(word)?)));
    let (at, found) = found().find(|(_, found)| *found == Secrecy::Secret).or_else(|| found().next())?;
    let before = &words[..at];
    // In `output.db.password` only what follows the last dot tells about the secret.
    let own = name.rsplit(|&byte| byte == b'.').next().unwrap_or(name);
    let own = if own.len() == name.len() { before } else { &before[before.len().saturating_sub(1)..] };
    let is_none = own.iter().any(|word| NOT_THE_SECRET.contains(&&word[..]));
    if is_none {
        return None;
    }
    match found {
        Secrecy::Key => key(before, &words[at], at + 1 == words.len()),
        Secrecy::Pair | Secrecy::InUrl | Secrecy::LongInUrl | Secrecy::Login if at + 1 < words.len() => None,
        found => Some(found),
    }
}

/// What one word of a name says, without those around it.
fn of_word(word: &[u8]) -> Option<Secrecy> {
    let contains = |part: &[u8]| word.windows(part.len()).any(|here| here == part);
    let ends = |ends: &[&[u8]]| ends.iter().any(|end| word.ends_with(end));
    let is_password = PASSWORDS.iter().any(|part| contains(part))
        || (ends(&ENDINGS) && !NO_ENDINGS.contains(&word))
        || WORDS.contains(&word)
        || (contains(b"secret") && !contains(b"secretar"));
    match word {
        // `askpass` names a program.
        _ if word.starts_with(b"ask") => None,
        _ if word.ends_with(b"authorization") || word == b"cookie" || word == b"cookies" => {
            Some(Secrecy::Header)
        }
        _ if is_password => Some(Secrecy::Secret),
        _ if word.ends_with(b"tokens") => Some(Secrecy::UnlessNumber),
        b"credential" | b"credentials" | b"creds" | b"cred" => Some(Secrecy::UnlessFile),
        _ if word.ends_with(b"auth") => Some(Secrecy::Pair),
        b"sig" | b"signature" | b"appid" => Some(Secrecy::InUrl),
        b"code" | b"session" | b"sessionid" => Some(Secrecy::LongInUrl),
        b"user" | b"username" | b"login" => Some(Secrecy::Login),
        _ if (word.ends_with(b"key") || word.ends_with(b"keys")) && !NO_KEYS.contains(&word) => {
            Some(Secrecy::Key)
        }
        _ => None,
    }
}

/// What kind of key the words before one say it is.
fn key(before: &[Vec<u8>], word: &[u8], is_last: bool) -> Option<Secrecy> {
    let stem = word.strip_suffix(b"s").unwrap_or(word).strip_suffix(b"key").unwrap_or_default();
    let kind = if stem.is_empty() { before.last().map(Vec::as_slice) } else { Some(stem) };
    match kind {
        _ if !is_last => None,
        None if word == b"key" => Some(Secrecy::Key),
        None => None,
        Some(kind) if OPEN_KEYS.contains(&kind) => None,
        Some(kind) if PLAIN_KEYS.contains(&kind) => Some(Secrecy::Secret),
        Some(_) => Some(Secrecy::UnlessFile),
    }
}

/// The words of a name in lower case, told apart by separators and by capitals (`dbPassword`, `APIKey`); without
/// those that are numbers only, and without numbers at their ends.
fn words(name: &[u8]) -> Vec<Vec<u8>> {
    // java's -Dname=value and Maven's and Gradle's -Pname=value.
    let name = match name {
        [b'-', b'D' | b'P', first, ..] if first.is_ascii_lowercase() => &name[2..],
        _ => name,
    };
    let mut words = vec![Vec::new()];
    for (at, &byte) in name.iter().enumerate() {
        let next_is_lower = name.get(at + 1).is_some_and(u8::is_ascii_lowercase);
        let follows = at.checked_sub(1).map(|before| name[before]);
        let begins = byte.is_ascii_uppercase()
            && follows.is_some_and(|before| {
                before.is_ascii_lowercase() || (before.is_ascii_uppercase() && next_is_lower)
            });
        if begins || !byte.is_ascii_alphanumeric() {
            words.push(Vec::new());
        }
        if byte.is_ascii_alphanumeric() {
            let last = words.len() - 1;
            words[last].push(byte.to_ascii_lowercase());
        }
    }
    for word in &mut words {
        let end = word.iter().rposition(|byte| !byte.is_ascii_digit()).map_or(0, |last| last + 1);
        word.truncate(end);
    }
    words.retain(|word| !word.is_empty());
    words
}

/// `name:password`, but no `1000:1000`, `name:name`, URL or time.
fn is_login(value: &[u8]) -> bool {
    let Some(colon) = value.iter().position(|&byte| byte == b':') else { return false };
    let (name, secret) = (&value[..colon], &value[colon + 1..]);
    let is_number = |text: &[u8]| text.iter().all(u8::is_ascii_digit);
    let is_other = secret.is_empty() || secret.starts_with(b"//") || name == secret || is_reference(secret);
    let are_numbers = is_number(name) && is_number(secret);
    !is_other && !are_numbers
}

/// Whether the whole value is what stands for another one, or for one that somebody else has masked.
pub(super) fn is_reference(value: &[u8]) -> bool {
    let is_variable = |name: &[u8]| {
        name.len() > 1
            && name.iter().all(|&byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
    };
    let inside = |begin: &[u8], end: &[u8]| {
        value.strip_prefix(begin)?.strip_suffix(end).filter(|inner| !inner.is_empty())
    };
    match value {
        // A secret that begins with the sign is unlikely to look like one of these.
        [b'$', name @ ..] if is_variable(name) && (name.contains(&b'_') || secrecy(name).is_some()) => true,
        [b'$', digits @ ..] if digits.len() == 1 && digits[0].is_ascii_digit() => true,
        [b'$', b'{', b'{', inner @ .., b'}', b'}']
            if inner.iter().all(|&byte| byte != b'}' && byte != b'"') =>
        {
            true
        }
        [b'%', name @ .., b'%'] if is_variable(name) => true,
        [b'*', b'*', b'*', rest @ ..] if !rest.iter().any(u8::is_ascii_alphanumeric) => true,
        [b'*', ..] | [b'x' | b'X', _, _, ..] if value.iter().all(|byte| *byte == value[0]) => true,
        // A pattern of a search, or the shell's `$` before a bracket that is read by itself.
        [b'.', b'*', ..] => true,
        [b'{', b'{', ..] => inside(b"{{", b"}}")
            .is_some_and(|inner| inner.iter().all(|byte| !matches!(byte, b'"' | b'\'' | b'{' | b'}'))),
        [b'$', b'{', ..] => inside(b"${", b"}").is_some_and(|name| {
            name.iter().all(|&byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.'))
        }),
        [b'$', b'(', ..] => {
            inside(b"$(", b")").is_some_and(|inner| is_variable(inner) || reads_secret(inner))
        }
        [b'<' | b'[', word @ .., b'>' | b']'] => {
            [&b"redacted"[..], b"masked", b"hidden", b"secret", b"filtered"]
                .iter()
                .any(|known| word.eq_ignore_ascii_case(known))
        }
        _ => [
            &b"os.environ"[..],
            b"os.getenv",
            b"process.env",
            b"ENV[",
            b"getenv(",
            b"$ENV{",
            b"System.getenv",
        ]
        .iter()
        .any(|begin| value.starts_with(begin)),
    }
}

/// A command that gets a secret from where it is kept. What it is given itself is read on its own.
fn reads_secret(command: &[u8]) -> bool {
    const READERS: [&[u8]; 12] = [
        b"cat ",
        b"< ",
        b"</",
        b"vault ",
        b"pass ",
        b"op ",
        b"aws ",
        b"gcloud ",
        b"az ",
        b"kubectl ",
        b"sops ",
        b"security ",
    ];
    READERS.iter().any(|reader| command.starts_with(reader))
        && !command.iter().any(|byte| matches!(byte, b')' | b';' | b'|' | b'&' | b'`'))
}

/// Whether the value names a file: a path that begins as one, or the ending of keys' and certificates' files.
pub(super) fn is_file(value: &[u8]) -> bool {
    const ENDS: [&[u8]; 14] = [
        b".pem", b".key", b".crt", b".cer", b".p12", b".pfx", b".jks", b".json", b".yml", b".yaml", b".pub",
        b".asc", b".gpg", b".txt",
    ];
    const BEGINNINGS: [&[u8]; 6] = [b"/", b"./", b"../", b"~", b"file:", b"@"];
    BEGINNINGS.iter().any(|begin| value.starts_with(begin))
        || ENDS.iter().any(|end| value.ends_with(end))
        || value.windows(6).any(|part| part == b"/.ssh/")
}
