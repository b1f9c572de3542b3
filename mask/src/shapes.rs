//! Secrets that their shape or what calls them tells: in URLs and logins, tokens, keys, calls and statements.

use std::ops::Range;

use super::names::is_reference;
use super::text::{bare_end, find, is_name, quoted_end};

/// Where a secret stands behind the name at `at`, although the name itself is none of a secret.
pub(super) fn behind_name(text: &[u8], at: usize, len: usize) -> Option<Range<usize>> {
    let (name, after) = (&text[at..at + len], at + len);
    match text.get(after)? {
        b'/' => secret_path(text, at, after).or_else(|| login(text, at, after)),
        b':' => stream_key(text, name, after)
            .or_else(|| oracle_url(text, name, after))
            .or_else(|| login(text, at, after)),
        b'\\' => login(text, at, after),
        b'(' => call(text, name, after),
        b' ' => statement(text, name, after),
        _ => None,
    }
}

/// Hosts whose paths are secret: behind what, and whether to the path's end or its next slash.
const SECRET_PATHS: [(&[u8], &[u8], bool); 12] = [
    (b"hooks.slack.com", b"/", true),
    (b"api.telegram.org", b"/bot", false),
    (b"discord.com", b"/api/webhooks/", true),
    (b"discordapp.com", b"/api/webhooks/", true),
    (b"conda.anaconda.org", b"/t/", false),
    (b"webhook.office.com", b"/webhookb2/", true),
    (b"outlook.office.com", b"/webhook/", true),
    (b"hooks.zapier.com", b"/hooks/catch/", true),
    (b"hooks.chime.aws", b"/incomingwebhooks/", true),
    (b"open.feishu.cn", b"/open-apis/bot/v2/hook/", true),
    (b"hc-ping.com", b"/", true),
    (b"events.pagerduty.com", b"/integration/", false),
];

fn secret_path(text: &[u8], at: usize, after: usize) -> Option<Range<usize>> {
    if at > 0 && !text[..at].ends_with(b"//") {
        return None;
    }
    let (host, path) = (&text[at..after], &text[after..text.len().min(after + 1024)]);
    let ends = |byte: &u8| {
        byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'' | b'?' | b'#' | b'<' | b'>' | b')')
    };
    let end = path.iter().position(ends).unwrap_or(path.len());
    let known = SECRET_PATHS.iter().find(|(name, begin, _)| host.ends_with(name) && path.starts_with(begin));
    let (start, is_all) = match known {
        Some((_, begin, is_all)) => (begin.len(), *is_all),
        // Incoming webhooks of Mattermost and others, and IFTTT's.
        None => {
            let markers: [&[u8]; 3] = [b"/hooks/", b"/with/key/", b"/incoming/"];
            let found = markers.iter().find_map(|part| Some(find(&path[..end], part)? + part.len()))?;
            let is_long = end - found >= 20 && path[found..end].iter().any(u8::is_ascii_digit);
            is_long.then_some((found, true))?
        }
    };
    let slash = path[start..end].iter().position(|&byte| byte == b'/').filter(|_| !is_all);
    Some(after + start..after + slash.map_or(end, |slash| start + slash))
}

/// `rtmp://host/app/KEY`: who has the key may stream.
fn stream_key(text: &[u8], scheme: &[u8], after: usize) -> Option<Range<usize>> {
    if !matches!(scheme, b"rtmp" | b"rtmps") {
        return None;
    }
    let path = text[after..].strip_prefix(b"://")?;
    let ends = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'' | b'?' | b'|');
    let path = &path[..path.iter().position(ends).unwrap_or(path.len())];
    let slashes = path.iter().filter(|&&byte| byte == b'/').count();
    let last =
        path.iter().rposition(|&byte| byte == b'/').filter(|_| slashes >= 2 && !path.contains(&b'@'))?;
    let start = after + 3;
    Some(start + last + 1..start + path.len())
}

/// `jdbc:oracle:thin:user/SECRET@host`.
fn oracle_url(text: &[u8], name: &[u8], after: usize) -> Option<Range<usize>> {
    if name != b"thin" && name != b"oci" {
        return None;
    }
    let login = &text[after + 1..];
    let at = login.iter().position(|&byte| byte == b'@')?;
    let slash = login[..at].iter().position(|&byte| byte == b'/')?;
    let is_word = login[..at].iter().all(|byte| !byte.is_ascii_whitespace());
    (is_word && slash > 0 && slash + 1 < at).then_some(after + 2 + slash..after + 1 + at)
}

/// `user:SECRET@host`, `domain/user:SECRET@host` and Go's `user:SECRET@tcp(host)` without a scheme; no image with a
/// digest, no artifact's coordinates and no version of a package.
fn login(text: &[u8], at: usize, after: usize) -> Option<Range<usize>> {
    const NO_USERS: [&[u8]; 22] = [
        b"npm",
        b"git",
        b"github",
        b"file",
        b"mailto",
        b"email",
        b"mail",
        b"sip",
        b"sips",
        b"xmpp",
        b"acct",
        b"user",
        b"group",
        b"serviceAccount",
        b"domain",
        b"from",
        b"to",
        b"cc",
        b"author",
        b"pkg",
        b"workspace",
        b"jsr",
    ];
    let is_begin = at == 0 || matches!(text[at - 1], b' ' | b'\t' | b'\n' | b'=' | b'"' | b'\'' | b'(');
    if !is_begin || matches!(text[at], b'-' | b'.') {
        return None;
    }
    let ends = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'' | b'<' | b'>' | b'`');
    let word = &text[at..];
    let word = &word[..word.iter().position(ends).unwrap_or(word.len())];
    let colon = word.iter().position(|&byte| byte == b':')?;
    let user = &word[..colon];
    let parts = user.iter().filter(|&&byte| !is_name(byte)).count();
    let is_user = parts <= 1 && user.iter().all(|&byte| is_name(byte) || matches!(byte, b'/' | b'\\'));
    if !is_user || user.iter().all(u8::is_ascii_digit) || NO_USERS.contains(&user) || colon + at < after {
        return None;
    }
    let sign = word.iter().rposition(|&byte| byte == b'@').filter(|&sign| sign > colon + 1)?;
    let (secret, host) = (&word[colon + 1..sign], &word[sign + 1..]);
    let is_path = matches!(secret[0], b'/' | b'\\' | b'~' | b':' | b'.') || find(secret, b"://").is_some();
    (!is_path && is_host(host, secret) && !is_reference(secret)).then_some(at + colon + 1..at + sign)
}

/// Whether what stands behind the `@` is a host, and no digest, version or kind of an artifact.
fn is_host(host: &[u8], secret: &[u8]) -> bool {
    let name_end = host.iter().position(|&byte| !is_name(byte)).unwrap_or(host.len());
    let name = &host[..name_end];
    let is_digest = name.starts_with(b"sha") && name.len() > 4 && name[3..].iter().all(u8::is_ascii_digit);
    let is_number = |text: &[u8]| text.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.');
    let is_version =
        !name.is_empty() && is_number(name) && name.iter().filter(|&&byte| byte == b'.').count() != 3;
    let is_kind = secret.contains(&b':') && matches!(name, b"aar" | b"jar" | b"zip" | b"pom" | b"war");
    let begins = host.first().is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'[' | b'('));
    begins && !is_digest && !is_version && !is_kind
}

/// Functions with a secret argument, counted from one.
const CALLS: [(&[u8], usize); 34] = [
    (b"PDO", 3),
    (b"mysqli", 3),
    (b"mysqli_connect", 3),
    (b"mysql_connect", 3),
    (b"mysql_pconnect", 3),
    (b"connect", 3),
    (b"getConnection", 3),
    (b"ldap_bind", 3),
    (b"ftp_login", 3),
    (b"ssh2_auth_password", 3),
    (b"create_user", 3),
    (b"create_superuser", 3),
    (b"createUser", 2),
    (b"oci_connect", 2),
    (b"oci_pconnect", 2),
    (b"login", 2),
    (b"authenticate", 2),
    (b"HTTPBasicAuth", 2),
    (b"HTTPDigestAuth", 2),
    (b"simple_bind_s", 2),
    (b"bind_s", 2),
    (b"basic_auth", 2),
    (b"basicAuth", 2),
    (b"setBasicAuth", 2),
    (b"NetworkCredential", 2),
    (b"PSCredential", 2),
    (b"UsernamePasswordCredentials", 2),
    (b"auth", 2),
    (b"changeUserPassword", 2),
    (b"setPassword", 1),
    (b"set_password", 1),
    (b"make_password", 1),
    (b"generate_password_hash", 1),
    (b"password_hash", 1),
];

/// `mysqli_connect("host", "user", "SECRET")`: where the secret argument stands, if it is a text.
fn call(text: &[u8], name: &[u8], after: usize) -> Option<Range<usize>> {
    let last = name.rsplit(|&byte| byte == b'.').next()?;
    let is_oracle = last == b"connect" && find(name, b"racle").is_some();
    let &(_, wanted) = CALLS.iter().find(|(known, _)| *known == last)?;
    let wanted = if is_oracle { 2 } else { wanted };
    let (mut at, mut argument, mut depth) = (after + 1, 1, 0_usize);
    while let Some(&byte) = text.get(at) {
        match byte {
            b'"' | b'\'' => {
                let end = quoted_end(text, at + 1, byte, 0);
                if argument == wanted && depth == 0 {
                    return (!is_reference(&text[at + 1..end])).then_some(at + 1..end);
                }
                at = end;
            }
            b',' if depth == 0 => argument += 1,
            b'(' | b'[' | b'{' => depth += 1,
            b')' if depth == 0 => return None,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    None
}

/// SQL's `IDENTIFIED [WITH x] BY 'SECRET'` and PowerShell's `ConvertTo-SecureString 'SECRET'`.
fn statement(text: &[u8], name: &[u8], after: usize) -> Option<Range<usize>> {
    let rest = &text[after..];
    let value = if name.eq_ignore_ascii_case(b"IDENTIFIED") {
        let near = &rest[..rest.len().min(80)].to_ascii_uppercase();
        let end = near.iter().position(|&byte| byte == b';').unwrap_or(near.len());
        let by: [&[u8]; 3] = [b" BY PASSWORD ", b" BY ", b" AS "];
        after + by.iter().find_map(|by| Some(find(&near[..end], by)? + by.len()))?
    } else if name.eq_ignore_ascii_case(b"ConvertTo-SecureString") {
        let string = find(&rest[..rest.len().min(9)].to_ascii_lowercase(), b" -string ");
        after + if string == Some(0) { 9 } else { 1 }
    } else {
        return None;
    };
    let (start, end) = match *text.get(value)? {
        quote @ (b'"' | b'\'' | b'`') => (value + 1, quoted_end(text, value + 1, quote, 0)),
        b'-' | b'$' => return None,
        _ => (value, bare_end(text, value)),
    };
    (!is_reference(&text[start..end])).then_some(start..end)
}

/// `://user:password@`: where the password stands. A user without one that looks like a token counts too.
pub(super) fn url_password(text: &[u8]) -> Option<Range<usize>> {
    let url = text.strip_prefix(b"://")?;
    let ends = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'' | b'<' | b'>');
    let url = &url[..url.iter().position(ends).unwrap_or(url.len())];
    let host = url.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(url.len());
    let colon = url[..host].iter().position(|&byte| byte == b':');
    let is_port = |colon: usize| url[colon + 1..host].iter().all(u8::is_ascii_digit);
    let at = match url[..host].iter().rposition(|&byte| byte == b'@') {
        Some(at) => at,
        // A password with a slash, which should have been written as %2F.
        None => url
            .iter()
            .rposition(|&byte| byte == b'@')
            .filter(|_| colon.is_some_and(|colon| !is_port(colon)))?,
    };
    let start = match colon.filter(|&colon| colon < at) {
        Some(colon) => colon + 1,
        None if is_known_token(&url[..at]) || looks_random(&url[..at]) => 0,
        None => return None,
    };
    (start < at && !is_reference(&url[start..at])).then_some(3 + start..3 + at)
}

/// A private key in PEM's form.
pub(super) fn private_key(text: &[u8]) -> Option<Range<usize>> {
    let head = text.strip_prefix(b"-----BEGIN ")?;
    let head_end = head.windows(5).position(|part| part == b"-----")?;
    let is_private = head[..head_end].windows(7).any(|part| part == b"PRIVATE");
    let start = 11 + head_end + 5;
    let end =
        text[start..].windows(9).position(|part| part == b"-----END ").map_or(text.len(), |end| start + end);
    is_private.then_some(start..end)
}

/// A user's name that is none: `git`, `x-access-token` and `deploy2` are names, what mixes capitals and digits isn't.
fn looks_random(user: &[u8]) -> bool {
    let has = |kind: fn(&u8) -> bool| user.iter().any(kind);
    has(u8::is_ascii_digit) && (has(u8::is_ascii_uppercase) || user.len() >= 20) && !user.contains(&b'@')
}

/// Tokens that say by their first letters what they are.
pub(super) fn is_known_token(word: &[u8]) -> bool {
    /// Nothing else begins so.
    const CERTAIN: [&[u8]; 25] = [
        b"ghp_",
        b"gho_",
        b"ghu_",
        b"ghs_",
        b"ghr_",
        b"github_pat_",
        b"glpat-",
        b"glrt-",
        b"gldt-",
        b"glcbt-",
        b"xoxb-",
        b"xoxp-",
        b"xoxa-",
        b"xoxs-",
        b"xapp-",
        b"sk_live_",
        b"rk_live_",
        b"sk-proj-",
        b"sk-ant-",
        b"dckr_pat_",
        b"hvs.",
        b"hvb.",
        b"sntrys_",
        b"dop_v1_",
        b"SWMTKN-",
    ];
    const LONG: [&[u8]; 12] = [
        b"npm_",
        b"pypi-",
        b"sk-",
        b"AIzaSy",
        b"SG.",
        b"hf_",
        b"sqp_",
        b"shpat_",
        b"lin_api_",
        b"NRAK-",
        b"rubygems_",
        b"s.",
    ];
    let begins = |list: &[&[u8]], more: usize| {
        list.iter().any(|begin| word.starts_with(begin) && word.len() >= begin.len() + more)
    };
    if !matches!(
        word.first(),
        Some(b'g' | b'x' | b's' | b'r' | b'd' | b'h' | b'S' | b'n' | b'p' | b'A' | b'l' | b'N' | b'e')
    ) {
        return false;
    }
    let is_jwt = || word.starts_with(b"eyJ") && word.iter().filter(|&&byte| byte == b'.').count() == 2;
    let is_mixed = || word.iter().any(u8::is_ascii_digit) && word.iter().any(u8::is_ascii_uppercase);
    begins(&CERTAIN, 5)
        || (word.len() >= 20 && begins(&LONG, 16) && is_mixed())
        || (word.len() > 30 && is_jwt())
}
