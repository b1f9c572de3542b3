//! Where programs take secrets that no name tells of: short options and arguments by their place.

use super::names::Secrecy;

/// How a program takes secrets. A pattern that ends in `*` matches every name that begins so.
struct Program {
    names: &'static [&'static str],
    /// One of these has to be among the arguments before; none for always.
    subcommands: &'static [&'static str],
    /// Short options with a secret value, as its own argument or attached.
    short: &'static str,
    /// Short options whose value is secret when it is attached (`mysql -pSECRET`), and that have none otherwise.
    attached: &'static str,
    /// Short options with a harmless value: what follows in their argument is no option.
    valued: &'static str,
    /// Whole options, whatever they begin with, whose next argument or text behind `=` is secret.
    long: &'static [&'static str],
    /// Those whose value is secret behind a colon: `certificate:password`.
    pairs: &'static [&'static str],
}

const NONE: Program =
    Program { names: &[], subcommands: &[], short: "", attached: "", valued: "", long: &[], pairs: &[] };

const PROGRAMS: &[Program] = &[
    Program {
        names: &["curl"],
        short: "uUb",
        valued: "AcCdDeEFhHKmoPQrtTwxXyYz",
        long: &["--user", "--proxy-user"],
        pairs: &["-E", "--cert", "--proxy-cert"],
        ..NONE
    },
    Program {
        names: &["mysql*", "mariadb*", "mycli"],
        attached: "p",
        valued: "ABCDeFhIMnNPrRSTuVwW",
        ..NONE
    },
    Program {
        names: &["mongo*", "cqlsh", "ncftp*", "sshpass", "mosquitto_pub"],
        short: "p",
        valued: "hu",
        ..NONE
    },
    Program { names: &["mosquitto_sub", "mosquitto_rr"], short: "P", valued: "hupt", ..NONE },
    Program { names: &["redis-cli", "valkey-cli", "keydb-cli"], short: "a", valued: "hnprsu", ..NONE },
    Program { names: &["ldap*"], short: "w", valued: "abdDefFHhIlOopPRsSTUXYyzZ", ..NONE },
    Program { names: &["smbclient", "rpcclient", "net"], short: "U", valued: "AcdIlmnpRsTW", ..NONE },
    Program { names: &["lftp"], short: "u", valued: "cefp", ..NONE },
    Program {
        names: &["openssl"],
        long: &["-pass", "-passin", "-passout", "-k", "-K", "-macopt", "-psk", "-srppass", "-hmac", "-kpass"],
        ..NONE
    },
    Program {
        names: &["apksigner", "keytool", "jarsigner"],
        long: &["--ks-pass", "--key-pass", "-new", "-storepass", "-keypass"],
        ..NONE
    },
    Program {
        names: &[
            "docker", "podman", "nerdctl", "buildah", "skopeo", "helm", "crane", "oras", "oc", "az", "twine",
            "poetry", "cf",
        ],
        subcommands: &["login", "upload", "publish"],
        short: "p",
        valued: "ucf",
        ..NONE
    },
    Program { names: &["az"], subcommands: &["server", "sp"], short: "p", valued: "ugnl", ..NONE },
    Program { names: &["az"], subcommands: &["secret"], long: &["--value"], ..NONE },
    Program { names: &["aws"], subcommands: &["SecureString", "put-parameter"], long: &["--value"], ..NONE },
    Program {
        names: &["gh", "glab"],
        subcommands: &["secret", "variable"],
        short: "bv",
        long: &["--body", "--value"],
        ..NONE
    },
    Program {
        names: &["kubectl", "oc", "k3s", "microk8s"],
        subcommands: &["secret"],
        long: &["--from-literal"],
        ..NONE
    },
    Program { names: &["ssh-keygen"], short: "NP", valued: "abBCDEfFGIJJKlMnoOrRsStVwWYzZ", ..NONE },
    Program {
        names: &["plink", "pscp", "psftp", "putty", "puttygen"],
        long: &["-pw", "--new-passphrase"],
        ..NONE
    },
    Program { names: &["useradd", "usermod"], short: "p", valued: "bcdefGgkKlsuZ", ..NONE },
    Program { names: &["zip", "unzip", "zipcloak"], short: "P", valued: "bdntx", ..NONE },
    Program { names: &["7z", "7za", "7zr", "7zz", "rar", "unrar"], attached: "p", ..NONE },
    Program { names: &["rar", "unrar"], long: &["-hp"], ..NONE },
    Program {
        names: &["ipmitool", "sqlcmd", "bcp", "tsql", "isql"],
        short: "P",
        valued: "HUISEdiIoqQ",
        ..NONE
    },
    Program { names: &["snmp*"], short: "AXc", valued: "aelLmMnOrtuvxZ", ..NONE },
    Program { names: &["http", "https", "xh", "xhs"], short: "a", long: &["--auth"], ..NONE },
    Program { names: &["etcdctl"], long: &["--user"], ..NONE },
    Program { names: &["rdesktop"], short: "p", valued: "adgku", ..NONE },
    Program {
        names: &["pkcs11-tool", "pkcs15-tool", "yubico-piv-tool", "ykman"],
        short: "p",
        long: &["--pin", "--so-pin", "--puk", "--new-pin"],
        ..NONE
    },
    Program { names: &["swaks", "sendemail"], long: &["-ap", "-xp", "--auth-password"], ..NONE },
    Program { names: &["doctl"], short: "t", valued: "cou", ..NONE },
    Program {
        names: &["qpdf", "pdftotext", "pdftoppm", "pdfinfo", "pdfimages"],
        long: &["-upw", "-opw"],
        ..NONE
    },
    Program { names: &["cryptsetup"], long: &["--key"], ..NONE },
];

/// Options that only sound like a secret.
const HARMLESS: &[(&str, &[&str])] = &[
    ("aws", &["--key", "--secret-id", "--token-code-name", "--kms-key"]),
    ("gcloud", &["--key", "--kms-key", "--crypto-key", "--secret"]),
    ("docker", &["--secret"]),
    ("podman", &["--secret"]),
    ("nerdctl", &["--secret"]),
    ("buildah", &["--secret"]),
    ("ffmpeg", &["-pass"]),
    ("sort", &["--key"]),
    ("ykman", &["--touch-key"]),
];

/// Arguments whose place makes them secret: behind which word of which program.
const PLACES: &[(&str, &str, Place)] = &[
    ("redis-cli", "auth", Place::Rest),
    ("valkey-cli", "auth", Place::Rest),
    ("vault", "login", Place::Rest),
    ("vault", "unseal", Place::Rest),
    ("vault", "unwrap", Place::Rest),
    ("vault", "lookup", Place::Rest),
    ("vault", "put", Place::Values),
    ("vault", "patch", Place::Values),
    ("bao", "login", Place::Rest),
    ("bao", "unseal", Place::Rest),
    ("bao", "put", Place::Values),
    ("ansible-vault", "encrypt_string", Place::Rest),
    ("openssl", "passwd", Place::Rest),
    ("rclone", "obscure", Place::Rest),
    ("rabbitmqctl", "add_user", Place::Last),
    ("rabbitmqctl", "change_password", Place::Last),
    ("rabbitmqctl", "authenticate_user", Place::Last),
    ("mkpasswd", "mkpasswd", Place::Last),
    ("wpa_passphrase", "wpa_passphrase", Place::Second),
    ("htpasswd", "-b*", Place::Last),
    ("mosquitto_passwd", "-b*", Place::Last),
    ("sqlplus", "sqlplus", Place::Login),
    ("sqlldr", "sqlldr", Place::Login),
    ("rman", "target", Place::Login),
    ("exp", "exp", Place::Login),
    ("imp", "imp", Place::Login),
    ("expdp", "expdp", Place::Login),
    ("impdp", "impdp", Place::Login),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// All that are no options.
    Rest,
    /// What stands behind the first `=` of each.
    Values,
    /// The last argument, if there are two at least.
    Last,
    /// The second.
    Second,
    /// Oracle's `user/password@database`.
    Login,
}

/// What an argument is to the program it is given to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Argument {
    /// Secret from this byte on.
    Secret(usize),
    /// An option whose value is the next argument, and how secret that is.
    Option(Secrecy),
    /// Named like a secret, and none.
    Harmless,
    /// Nothing that the tables know.
    Other,
}

const SECRET_OPTION: Argument = Argument::Option(Secrecy::Secret);

/// Looks the argument `at` of a command up. Not only the first of those before it may be the program: `sudo`, `env`
/// and the like have it among their own arguments.
pub(super) fn argument(words: &[&[u8]], at: usize) -> Argument {
    let (before, word) = (&words[..at], words[at]);
    let has = |name: &str| before.iter().any(|word| is_program(word, name));
    if let Some(found) = by_place(words, at) {
        return found;
    }
    let name_end = word.iter().position(|&byte| byte == b'=').unwrap_or(word.len());
    let is_named = |options: &[&str]| options.iter().any(|option| option.as_bytes() == &word[..name_end]);
    for program in PROGRAMS.iter().filter(|program| program.names.iter().any(|name| has(name))) {
        let is_asked =
            |wanted: &&str| before.iter().chain(&words[at..]).any(|word| *word == wanted.as_bytes());
        if !program.subcommands.is_empty() && !program.subcommands.iter().any(is_asked) {
            continue;
        }
        if is_named(program.long) {
            return if name_end < word.len() { value_from(word, name_end + 1) } else { SECRET_OPTION };
        }
        if is_named(program.pairs) && name_end == word.len() {
            return Argument::Option(Secrecy::Pair);
        }
        if let Some(found) = short_option(program, word) {
            return if is_port(found, word, before) { Argument::Other } else { found_in(found, word) };
        }
    }
    if HARMLESS.iter().any(|(name, options)| has(name) && is_named(options)) {
        return Argument::Harmless;
    }
    Argument::Other
}

/// `--from-literal=name=value`: the value alone is secret.
fn value_from(word: &[u8], start: usize) -> Argument {
    let is_literal = word.starts_with(b"--from-literal=");
    let inner = word[start..].iter().position(|&byte| byte == b'=').filter(|_| is_literal);
    found_in(start + inner.map_or(0, |at| at + 1), word)
}

fn found_in(start: usize, word: &[u8]) -> Argument {
    if start < word.len() { Argument::Secret(start) } else { SECRET_OPTION }
}

/// Where in a group of short options (`-su`) the value of a secret one begins, which may be behind its end.
fn short_option(program: &Program, word: &[u8]) -> Option<usize> {
    let letters =
        word.strip_prefix(b"-").filter(|letters| letters.first().is_some_and(u8::is_ascii_alphabetic))?;
    for (at, letter) in letters.iter().enumerate() {
        let is_last = at + 1 == letters.len();
        if program.short.as_bytes().contains(letter)
            || (program.attached.as_bytes().contains(letter) && !is_last)
        {
            return Some(at + 2);
        }
        if !letter.is_ascii_alphabetic() || program.valued.as_bytes().contains(letter) {
            return None;
        }
    }
    None
}

/// `docker run --name mysql -p3306:3306`: ports, although `mysql` stands before.
fn is_port(start: usize, word: &[u8], before: &[&[u8]]) -> bool {
    let value = &word[start.min(word.len())..];
    let is_container =
        ["docker", "podman", "nerdctl"].iter().any(|name| before.iter().any(|word| is_program(word, name)));
    is_container
        && !value.is_empty()
        && value.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b':' | b'.' | b'-'))
}

fn by_place(words: &[&[u8]], at: usize) -> Option<Argument> {
    let word = words[at];
    PLACES.iter().find_map(|&(name, keyword, place)| {
        let program = words[..at].iter().position(|word| is_program(word, name))?;
        let is_keyword = |word: &[u8]| match keyword.strip_suffix('*') {
            Some(option) => is_group_with(word, option.as_bytes()[1]),
            None => word.eq_ignore_ascii_case(keyword.as_bytes()),
        };
        let from = if keyword == name {
            program
        } else {
            program + 1 + words[program + 1..at].iter().position(|word| is_keyword(word))?
        };
        let is_option = word.starts_with(b"-");
        let nth = words[from + 1..=at].iter().filter(|word| !word.starts_with(b"-")).count();
        let equals = word.iter().position(|&byte| byte == b'=');
        match place {
            Place::Rest if !is_option => Some(Argument::Secret(equals.map_or(0, |at| at + 1))),
            Place::Values if !is_option => {
                let start = equals? + 1;
                (word.get(start) != Some(&b'@')).then_some(Argument::Secret(start))
            }
            Place::Last if !is_option && at + 1 == words.len() && (nth > 1 || name == keyword) => {
                Some(Argument::Secret(0))
            }
            Place::Second if nth == 2 => Some(Argument::Secret(0)),
            Place::Login if !is_option && word.contains(&b'/') && !word.starts_with(b"/") => {
                let slash = word.iter().position(|&byte| byte == b'/')?;
                Some(Argument::Secret(slash + 1))
            }
            _ => None,
        }
    })
}

/// Whether the word is a group of short options, one of which is the letter.
fn is_group_with(word: &[u8], letter: u8) -> bool {
    word.len() > 1 && word[0] == b'-' && word[1] != b'-' && word[1..].contains(&letter)
}

/// Whether the word is the program, by its name or by a path.
pub(super) fn is_program(word: &[u8], name: &str) -> bool {
    let word = word.rsplit(|&byte| byte == b'/').next().unwrap_or(word);
    match name.strip_suffix('*') {
        Some(begin) => word.starts_with(begin.as_bytes()),
        None => word == name.as_bytes(),
    }
}
