//! Absolute paths from the names that include/path.h reads, and from what a system call was given in such a folder.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// The path from the root of the mount namespace, `.` and `..` and double slashes taken out.
///
/// `given` is what the system call got, without its NUL; `folder` the names of the folder it starts from (for an
/// absolute path the root of the process), the innermost first, each with its NUL. As in the kernel, `..` doesn't lead
/// out of the root; unlike there it undoes the name before it also where that is a symbolic link.
pub(crate) fn absolute(folder: &[u8], given: &[u8]) -> Vec<u8> {
    let folder = folder.strip_suffix(b"\0").unwrap_or(folder);
    let mut names: Vec<&[u8]> =
        folder.split(|&byte| byte == 0).filter(|name| !name.is_empty()).rev().collect();
    let root = if given.starts_with(b"/") { names.len() } else { 0 };
    for name in given.split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." if names.len() > root => {
                names.pop();
            }
            b".." => {}
            _ => names.push(name),
        }
    }
    let mut path = Vec::with_capacity(names.iter().map(|name| name.len() + 1).sum::<usize>().max(1));
    for name in &names {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    if path.is_empty() {
        path.push(b'/');
    }
    path
}

/// The same path with the symbolic links of its folder followed, as they are now; none where the folder is gone.
pub(crate) fn followed(path: &[u8]) -> Option<Vec<u8>> {
    let path = Path::new(OsStr::from_bytes(path));
    let folder = fs::canonicalize(path.parent()?).ok()?;
    Some(folder.join(path.file_name()?).into_os_string().into_vec())
}

#[cfg(test)]
mod tests {
    use super::{absolute, followed};

    #[test]
    fn paths_are_put_together_from_folder_and_name() {
        let folder = b"inner\0outer\0";
        for (given, expected) in [
            (&b"f"[..], &b"/outer/inner/f"[..]),
            (b"./a//f/", b"/outer/inner/a/f"),
            (b"../f", b"/outer/f"),
            (b"../../../../f", b"/f"),
            (b"", b"/outer/inner"),
            (b"a\n\xff", b"/outer/inner/a\n\xff"),
        ] {
            assert_eq!(absolute(folder, given), expected, "{}", String::from_utf8_lossy(given));
        }
        assert_eq!(absolute(b"", b"/a/../b"), b"/b");
        assert_eq!(absolute(b"", b"/"), b"/");
        assert_eq!(absolute(b"jail\0srv\0", b"/../f"), b"/srv/jail/f", "a chroot is not left by ..");
    }

    #[test]
    fn links_on_the_way_are_followed_but_not_the_last_name() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().canonicalize().unwrap();
        std::fs::create_dir(real.join("real")).unwrap();
        std::os::unix::fs::symlink("real", real.join("link")).unwrap();
        let given = real.join("link/gone");
        let expected = real.join("real/gone");
        assert_eq!(
            followed(given.as_os_str().as_encoded_bytes()).unwrap(),
            expected.as_os_str().as_encoded_bytes()
        );
        assert_eq!(followed(real.join("none/gone").as_os_str().as_encoded_bytes()), None);
    }
}
