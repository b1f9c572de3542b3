//! bcc's dbslower, which is compiled when it starts.

use std::path::{Path, PathBuf};

use kumon_testing::{require, require_program};

use crate::common::Original;
use crate::databases::{Database, Kind, Session};

/// Whether it can run.
pub(crate) fn require_dbslower() -> bool {
    require_program("dbslower-bpfcc") && require(headers().is_some(), "the headers of a kernel")
}

/// Starts it for statements of the session that take at least so many milliseconds.
pub(crate) fn start_dbslower(database: &Database, session: &Session, milliseconds: u128) -> Original {
    let whose = match database.kind {
        // What every server process of this file does, by uprobes.
        Kind::MariaDb | Kind::MySql => format!("mysql -x /proc/{}/exe", database.id()),
        // What one process does, by USDT.
        Kind::PostgreSql => format!("postgres -p {}", session.query("SELECT pg_backend_pid()").trim()),
    };
    // -u: it doesn't buffer its lines.
    let run = format!("/usr/bin/python3 -u /usr/sbin/dbslower-bpfcc {whose} -m {milliseconds}");
    let own = own_modules();
    if own.join("build/include").exists() {
        return Original::start(&run);
    }
    let (modules, others) = (own.parent().unwrap().display(), headers().unwrap());
    // Only in its own mount namespace, but for the empty folder that a machine without modules lacks.
    let mount = format!(
        "mkdir -p {modules} && mount -t tmpfs headers {modules} && ln -s {} {}",
        others.canonicalize().unwrap().display(),
        own.display()
    );
    Original::start(&format!("sh -c '{mount} && exec {run}'"))
}

/// The modules' folder of a kernel whose headers are there: of the one that runs, else of the second one, which
/// scripts/setup unpacks. What dbslower takes from them is how the registers lie, as in all kernels.
fn headers() -> Option<PathBuf> {
    let kernels = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/kernel");
    let kernels = std::fs::read_dir(kernels).into_iter().flatten().flatten();
    let modules = kernels.filter_map(|kernel| std::fs::read_dir(kernel.path().join("lib/modules")).ok());
    let modules = modules.flatten().flatten().map(|release| release.path());
    std::iter::once(own_modules()).chain(modules).find(|modules| modules.join("build/include").exists())
}

fn own_modules() -> PathBuf {
    Path::new("/lib/modules").join(rustix::system::uname().release().to_string_lossy().into_owned())
}
