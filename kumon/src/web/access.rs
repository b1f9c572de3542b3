//! Who may see the page: whoever has its key. Rows hold command lines, statements and addresses, and a TCP port of
//! this machine is open to every user of it.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use axum::http::HeaderMap;
use axum::http::header::COOKIE;
use kumon_spool::NewFile;
use subtle::ConstantTimeEq;

/// The cookie that carries the key.
const NAME: &str = "kumon";

/// 128 random bits in hexadecimal digits. It stays the same until its file is deleted.
#[derive(Clone)]
pub(crate) struct Key(String);

impl Key {
    /// The key in `file`, made where it is missing. The user and the group that KuMon runs as can read it.
    ///
    /// # Errors
    /// When the file can't be read or made, or holds something else.
    pub(crate) fn of(file: &Path) -> Result<Key> {
        match Key::read(file) {
            Ok(key) => Ok(key),
            Err(e) if is_missing(&e) => {
                Key::make(file).with_context(|| format!("{}: can't be made", file.display()))
            }
            Err(e) => Err(e),
        }
    }

    /// The key that a running agent made.
    ///
    /// # Errors
    /// When the file can't be read, or holds something else.
    pub(crate) fn read(file: &Path) -> Result<Key> {
        let text = fs::read_to_string(file).with_context(|| {
            format!(
                "{}: can't be read; ask as root or as a member of the group that KuMon runs as",
                file.display()
            )
        })?;
        let key = text.trim();
        if key.len() != 32 || !key.bytes().all(|b| b.is_ascii_hexdigit()) {
            bail!(
                "{}: holds no key of 32 hexadecimal digits; delete it, and a new one is made",
                file.display()
            );
        }
        Ok(Key(key.to_owned()))
    }

    fn make(file: &Path) -> Result<Key> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        let key: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut new = NewFile::create(file, 0o600)?;
        writeln!(new, "{key}")?;
        // Whatever the umask is.
        new.file().set_permissions(Permissions::from_mode(0o640))?;
        new.finish()?;
        Ok(Key(key))
    }

    /// The address that opens the page.
    pub(crate) fn address(&self, server: SocketAddr) -> String {
        format!("http://{server}/?key={}", self.0)
    }

    /// Whether `given` is the key, in a time that doesn't tell how much of it is right.
    pub(super) fn is(&self, given: &str) -> bool {
        self.0.as_bytes().ct_eq(given.trim().as_bytes()).into()
    }

    /// Whether a request carries it.
    pub(super) fn is_in(&self, headers: &HeaderMap) -> bool {
        let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs =
            cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.any(|(name, value)| name == NAME && self.is(value))
    }

    /// What makes a browser carry it: to this page only, and never where another site sends it from.
    pub(super) fn cookie(&self) -> String {
        format!("{NAME}={}; Path=/; HttpOnly; SameSite=Strict; Max-Age=31536000", self.0)
    }
}

fn is_missing(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderValue};

    use super::Key;

    #[test]
    fn a_key_is_made_once_and_for_user_and_group_only() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("web.key");
        let key = Key::of(&file).unwrap();
        assert_eq!(key.0.len(), 32);
        assert_eq!(Key::of(&file).unwrap().0, key.0);
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        std::fs::write(&file, "short\n").unwrap();
        assert!(Key::of(&file).is_err_and(|e| e.to_string().contains("delete it")));
    }

    #[test]
    fn only_the_whole_key_in_its_own_cookie_opens() {
        let key = Key("0123456789abcdef0123456789abcdef".into());
        let carries = |cookie: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("cookie", HeaderValue::from_static(cookie));
            key.is_in(&headers)
        };
        assert!(carries("a=b; kumon=0123456789abcdef0123456789abcdef"));
        assert!(!carries("kumon=0123456789abcdef"));
        assert!(!carries("other=0123456789abcdef0123456789abcdef"));
        assert!(!key.is_in(&HeaderMap::new()));
    }
}
