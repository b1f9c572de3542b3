//! exec: which file runs, whatever it was called by; what failed, however late; and for whom.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{Collected, Collecting, Row, TASK_STORAGE, kernel_is_at_least};
use kumon_bpf::Settings;
use kumon_testing::{require, require_bpf, require_program, require_root};
use tempfile::TempDir;

/// A folder whose path has no symbolic links, with a program that tells where its own file lies.
struct Folder {
    _folder: TempDir,
    path: PathBuf,
}

impl Folder {
    fn new() -> Folder {
        let folder = tempfile::tempdir().unwrap();
        // Other users have to get in.
        fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let path = folder.path().canonicalize().unwrap();
        fs::copy("/usr/bin/readlink", path.join("tell")).unwrap();
        Folder { _folder: folder, path }
    }

    fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Runs a Python script here and returns its pid and what it printed.
    fn python(&self, script: &str) -> (u32, String) {
        let mut python = Command::new("/usr/bin/python3");
        python.args(["-c", &format!("{PYTHON}{script}")]).current_dir(&self.path).stdout(Stdio::piped());
        let child = python.spawn().unwrap();
        let pid = child.id();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{script}");
        (pid, String::from_utf8(output.stdout).unwrap().trim_end().to_owned())
    }
}

const PYTHON: &str = "
import ctypes, errno, os, sys
libc = ctypes.CDLL(None, use_errno=True)
EXECVEAT, EMPTY_PATH = 322, 0x1000
def strings(*all): return (ctypes.c_char_p * (len(all) + 1))(*all, None)
def execveat(folder, path, *args, flags=0):
    libc.syscall(EXECVEAT, folder, ctypes.c_char_p(path), strings(*args), strings(), flags)
    return ctypes.get_errno()
";
/// The arguments by which readlink tells where its file lies.
const SELF: &str = "'/proc/self/exe'";

/// The rows of a process, those of its first program left out.
fn of_pid(collected: &Collected, pid: u32) -> Vec<Row> {
    let rows = collected.rows("exec").into_iter().filter(|row| row.text("pid") == pid.to_string());
    rows.skip(1).collect()
}

#[test]
fn executable_is_the_file_that_runs_whatever_it_was_called_by() {
    if !require_bpf() || !require_program("python3") {
        return;
    }
    let folder = Folder::new();
    let path = folder.path.to_str().unwrap().to_owned();
    let here = |name: &str| format!("{path}/{name}");
    fs::create_dir(folder.join("inner")).unwrap();
    std::os::unix::fs::symlink("tell", folder.join("link")).unwrap();
    fs::hard_link(folder.join("tell"), folder.join("hard")).unwrap();
    // readlink is told of the scripts too, and takes no file that is no link.
    for (script, interpreter) in [("script", "tell /proc/self/exe"), ("nested", "script")] {
        let file = folder.join(&format!("{script}.file"));
        fs::write(&file, format!("#!{path}/{interpreter}\n")).unwrap();
        fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink(&file, folder.join(script)).unwrap();
    }
    let tell = format!("'tell', {SELF}");
    // What is run, the path that execve is given, the file.
    let cases = [
        (format!("os.execv('./tell', [{tell}])"), "./tell".to_owned(), here("tell")),
        (format!("os.execv('tell', [{tell}])"), "tell".into(), here("tell")),
        (format!("os.chdir('inner'); os.execv('..//tell', [{tell}])"), "..//tell".into(), here("tell")),
        (format!("os.execv('{path}/inner/../tell', [{tell}])"), here("inner/../tell"), here("tell")),
        (format!("os.execv('link', [{tell}])"), "link".into(), here("tell")),
        (format!("os.execv('hard', [{tell}])"), "hard".into(), here("hard")),
        // Of a script what runs is the interpreter, of one whose interpreter is a script too, that one's.
        ("os.execv('./script', ['script'])".into(), "./script".into(), here("tell")),
        ("os.execv('./nested', ['nested'])".into(), "./nested".into(), here("tell")),
        (
            format!("os.dup2(os.open('tell', os.O_RDONLY), 77); os.execve(77, [{tell}], {{}})"),
            "/dev/fd/77".into(),
            here("tell"),
        ),
        (
            "folder = os.open('.', os.O_PATH); os.dup2(folder, 78); os.chdir('/')\n\
             execveat(78, b'tell', b'tell', b'/proc/self/exe')"
                .into(),
            "/dev/fd/78/tell".into(),
            here("tell"),
        ),
        (
            format!(
                "os.dup2(os.open('tell', os.O_RDONLY), 79)\n\
                 os.rename('tell', 'inner/moved'); os.execve(79, [{tell}], {{}})"
            ),
            "/dev/fd/79".into(),
            here("inner/moved"),
        ),
        (
            format!(
                "os.dup2(os.open('inner/moved', os.O_RDONLY), 80); os.unlink('inner/moved')\n\
                 os.execve(80, [{tell}], {{}})"
            ),
            "/dev/fd/80".into(),
            here("inner/moved (deleted)"),
        ),
    ];
    let collecting = Collecting::start("process", Settings::default());
    let ran: Vec<_> = cases.iter().map(|(script, ..)| folder.python(script)).collect();
    let collected = collecting.stop();
    for ((script, filename, executable), (pid, told)) in cases.iter().zip(ran) {
        let rows = of_pid(&collected, pid);
        let [row] = rows.as_slice() else { panic!("{script}: {rows:?}") };
        assert_eq!(row.text("filename"), filename, "{script}");
        assert_eq!(row.text("executable"), executable, "{script}");
        assert_eq!(row.text("incomplete"), "false", "{script}");
        // As the program itself sees it.
        assert_eq!(told.lines().next(), Some(executable.as_str()), "{script}");
    }
}

#[test]
fn a_program_in_memory_has_the_name_that_it_was_given() {
    if !require_bpf() || !require_program("python3") {
        return;
    }
    let folder = Folder::new();
    let collecting = Collecting::start("process", Settings::default());
    let (pid, told) = folder.python(&format!(
        "memory = os.memfd_create('kumon memory', 0)
os.write(memory, open('tell', 'rb').read())
os.dup2(memory, 77); os.close(memory)
os.execve(77, ['tell', {SELF}], {{}})"
    ));
    let rows = of_pid(&collecting.stop(), pid);
    let [row] = rows.as_slice() else { panic!("{rows:?}") };
    assert_eq!((row.text("executable"), row.text("filename")), ("memfd:kumon memory", "/dev/fd/77"));
    assert_eq!(row.text("incomplete"), "false");
    assert_eq!(told, "/memfd:kumon memory (deleted)");
}

#[test]
fn paths_are_those_of_the_processs_mount_namespace_and_lead_out_of_a_chroot() {
    if !require_bpf() || !require_program("python3") {
        return;
    }
    let prepare = "
PRIVATE, BIND, DETACH, NEW_MOUNTS, PIVOT_ROOT = (1 << 18) | (1 << 14), 4096 | 16384, 2, 0x20000, 155
assert libc.unshare(NEW_MOUNTS) == 0
assert libc.mount(b'none', b'/', None, PRIVATE, None) == 0
def bind(what, where): assert libc.mount(what, where, None, BIND, None) == 0, ctypes.get_errno()
";
    // A container's root, of which the rest of the machine is another folder: an overlay, in which only the mounts are.
    let container = "
import shutil
for name in ('lower', 'upper', 'work', 'root'): os.mkdir(name)
options = b'lowerdir=lower,upperdir=upper,workdir=work'
if libc.mount(b'overlay', b'root', b'overlay', 0, options): bind(b'root', b'root')
os.makedirs('root/old')
for name in os.listdir('/'):
    if os.path.islink('/' + name): os.symlink(os.readlink('/' + name), 'root/' + name)
    elif name in ('bin', 'lib', 'lib64', 'usr', 'proc', 'dev'): os.mkdir('root/' + name); bind(b'/' + os.fsencode(name), b'root/' + os.fsencode(name))
shutil.copy('tell', 'root/tell-inside')
";
    let pivot = "
os.chdir('root')
assert libc.syscall(PIVOT_ROOT, b'.', b'old') == 0
os.chdir('/')
assert libc.umount2(b'/old', DETACH) == 0
";
    let exec = |program: &str| format!("os.execv('{program}', ['tell', {SELF}])");
    // What is run, whether its path begins with that of the folder, and the rest of it.
    let cases = [
        (format!("{container}{pivot}{}", exec("/tell-inside")), false, "/tell-inside"),
        (
            format!("{container}os.chroot('root'); os.chdir('/')\n{}", exec("/tell-inside")),
            true,
            "/root/tell-inside",
        ),
        (
            format!("os.mkdir('bound'); bind(os.fsencode(os.getcwd()), b'bound')\n{}", exec("bound/tell")),
            true,
            "/bound/tell",
        ),
    ];
    let collecting = Collecting::start("process", Settings::default());
    let ran = cases.map(|(script, inside, rest)| {
        let folder = Folder::new();
        let begin = if inside { folder.path.to_str().unwrap() } else { "" };
        (folder.python(&format!("{prepare}{script}")).0, format!("{begin}{rest}"), script)
    });
    let collected = collecting.stop();
    for (pid, executable, script) in ran {
        let rows = of_pid(&collected, pid);
        let [row] = rows.as_slice() else { panic!("{script}: {rows:?}") };
        assert_eq!(row.text("executable"), executable, "{script}");
        assert_eq!(row.text("incomplete"), "false", "{script}");
    }
}

#[test]
fn an_executable_that_lies_too_deep_is_told_by_its_end() {
    if !require_bpf() || !require_program("python3") {
        return;
    }
    let folder = Folder::new();
    let script = |depth: usize, length: usize| {
        format!(
            "import shutil
for i in range({depth}):
    name = 'd' * {length}
    os.makedirs(name, exist_ok=True); os.chdir(name)
shutil.copy('/bin/true', 'end')
os.execv('./end', ['end'])"
        )
    };
    let cases = [(100, 10, "false"), (140, 10, "true"), (14, 255, "false"), (17, 255, "true")];
    let collecting = Collecting::start("process", Settings::default());
    let pids = cases.map(|(depth, length, _)| folder.python(&script(depth, length)).0);
    let collected = collecting.stop();
    for ((depth, length, incomplete), pid) in cases.into_iter().zip(pids) {
        let rows = of_pid(&collected, pid);
        let [row] = rows.as_slice() else { panic!("{depth}: {rows:?}") };
        assert_eq!(row.text("incomplete"), incomplete, "{depth} of {length}");
        let whole =
            format!("{}{}/end", folder.path.display(), format!("/{}", "d".repeat(length)).repeat(depth));
        let executable = row.text("executable");
        assert!(whole.ends_with(executable) && executable.ends_with("/end"), "{executable}");
        assert_eq!(whole == executable, incomplete == "false", "{depth} of {length}");
    }
}

/// Makes an executable whose second segment lies where no program may: it fails once the program before is gone.
const BREAK: &str = "
import struct
def broken(path):
    image = bytearray(open('/bin/true', 'rb').read())
    headers, = struct.unpack_from('<Q', image, 32)
    count, = struct.unpack_from('<H', image, 56)
    loads = [headers + 56 * i for i in range(count) if struct.unpack_from('<I', image, headers + 56 * i)[0] == 1]
    address, = struct.unpack_from('<Q', image, loads[1] + 16)
    struct.pack_into('<Q', image, loads[1] + 16, 0xffff800000000000 - 0x1000 + address % 0x1000)
    open(path, 'wb').write(image); os.chmod(path, 0o755)
broken('broken')
";

#[test]
fn failed_execs_have_path_and_arguments_however_late_they_fail() {
    if !require_bpf() || !require_program("python3") || !kernel_is_at_least(TASK_STORAGE) {
        return;
    }
    let folder = Folder::new();
    let path = folder.path.to_str().unwrap().to_owned();
    let here = |name: &str| format!("{path}/{name}");
    fs::create_dir(folder.join("inner")).unwrap();
    fs::write(folder.join("no-program"), "no program").unwrap();
    fs::set_permissions(folder.join("no-program"), PermissionsExt::from_mode(0o755)).unwrap();
    // In a child, which the late ones end.
    let calls = [
        ("os.execv('broken', ['broken', 'some', 'late arguments'])", "broken", "broken some late arguments"),
        ("os.execv(os.getcwd() + '/broken', ['x', '--password', 'hunter2'])", "/broken", "x --password ***"),
        ("os.chdir('inner'); os.execv('../broken', ['up'])", "../broken", "up"),
        (
            // The descriptor is closed by the exec.
            "execveat(os.open('.', os.O_PATH | os.O_CLOEXEC), b'./broken', b'at', b'folder')",
            "./broken",
            "at folder",
        ),
        ("execveat(os.open('broken', os.O_RDONLY), b'', b'at', b'file', flags=EMPTY_PATH)", "", "at file"),
        ("os.execv('missing', ['missing', 'early'])", "missing", "missing early"),
        ("os.execv('no-program', ['no-program', 'early'])", "no-program", "no-program early"),
        ("os.execv('inner', ['inner'])", "inner", "inner"),
    ];
    let expected = [
        here("broken"),
        here("broken"),
        here("broken"),
        here("broken"),
        here("broken"),
        here("missing"),
        here("no-program"),
        here("inner"),
    ];
    let script = |call: &str| {
        format!(
            "{BREAK}
child = os.fork()
if not child:
    try: {call}
    except OSError: pass
    os._exit(3)
_, status = os.waitpid(child, 0)
print(child, status)"
        )
    };
    for as_on_old_kernels in [false, true] {
        let mut settings = Settings { as_on_old_kernels, ..Settings::default() };
        settings.process.exec.failed = true;
        let collecting = Collecting::start("process", settings);
        let ran: Vec<_> = calls.iter().map(|(call, ..)| folder.python(&script(call)).1).collect();
        let collected = collecting.stop();
        for (index, (call, filename, command_line)) in calls.iter().enumerate() {
            let (child, status) = ran[index].split_once(' ').unwrap();
            assert_eq!(status != "768", expected[index].ends_with("/broken"), "{call}: {status}");
            let mut rows = collected.rows("exec");
            rows.retain(|row| row.text("pid") == child);
            let [row] = rows.as_slice() else { panic!("{call}: {rows:?}") };
            assert_eq!(row.text("action"), "exec-failed", "{call}");
            assert!(row.number("return_value") < 0, "{call}");
            assert_eq!(row.text("executable"), expected[index], "{call}");
            let given = if *filename == "/broken" { here("broken") } else { (*filename).to_owned() };
            assert_eq!(row.text("filename"), given, "{call}");
            assert_eq!(row.text("command_line"), *command_line, "{call}");
            assert_eq!(row.text("truncated"), "false", "{call}");
        }
    }
}

#[test]
fn late_failures_beside_many_execs_keep_their_own_arguments() {
    if !require_bpf() || !require_program("python3") || !kernel_is_at_least(TASK_STORAGE) {
        return;
    }
    const EACH: usize = 40;
    let folder = Folder::new();
    let mut settings = Settings::default();
    settings.process.exec.failed = true;
    let collecting = Collecting::start("process", settings);
    folder.python(&format!(
        "{BREAK}
for worker in range(4):
    if os.fork(): continue
    for i in range({EACH}):
        child = os.fork()
        if not child: os.execv('broken' if i % 2 else '/bin/true', ['kumon-many', f'{{worker}}-{{i}}'])
        os.waitpid(child, 0)
    os._exit(0)
for worker in range(4): os.wait()"
    ));
    let collected = collecting.stop();
    let mut told: Vec<String> = Vec::new();
    for row in collected.rows("exec") {
        if let Some(which) = row.text("command_line").strip_prefix("kumon-many ") {
            let odd = which.rsplit_once('-').unwrap().1.parse::<usize>().unwrap() % 2 == 1;
            assert_eq!(row.text("action"), if odd { "exec-failed" } else { "exec" }, "{row:?}");
            told.push(which.to_owned());
        }
    }
    told.sort();
    let mut expected: Vec<String> =
        (0..4).flat_map(|worker| (0..EACH).map(move |i| format!("{worker}-{i}"))).collect();
    expected.sort();
    assert_eq!(told, expected);
}

#[test]
fn a_setuid_programs_effective_user_is_told_beside_the_one_who_started_it() {
    if !require_bpf() || !require_root() || !require_program("setpriv") {
        return;
    }
    const USER: u32 = 12_345;
    const GROUP: u32 = 12_346;
    const OWNER: u32 = 23_456;
    const OWNERS: u32 = 23_457;
    let folder = Folder::new();
    let copy = |name: &str, mode: u32| {
        let path = folder.join(name);
        fs::copy("/bin/true", &path).unwrap();
        std::os::unix::fs::chown(&path, Some(OWNER), Some(OWNERS)).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        path
    };
    let cases = [
        (copy("plain", 0o755), USER, GROUP),
        (copy("setuid", 0o4755), OWNER, GROUP),
        (copy("setgid", 0o2755), USER, OWNERS),
        (copy("both", 0o6755), OWNER, OWNERS),
    ];
    let status = |path: &Path| {
        let mut setpriv = Command::new("setpriv");
        setpriv.args([format!("--reuid={USER}"), format!("--regid={GROUP}"), "--clear-groups".into()]);
        setpriv.arg(path).status().unwrap()
    };
    let collecting = Collecting::start("process", Settings::default());
    for (path, ..) in &cases {
        if !require(status(path).success(), "a temporary folder that other users can reach") {
            return;
        }
    }
    let collected = collecting.stop();
    for (path, uid, gid) in cases {
        let mut rows = collected.rows("exec");
        rows.retain(|row| row.text("executable") == path.to_str().unwrap());
        let [row] = rows.as_slice() else { panic!("{path:?}: {rows:?}") };
        let ids = ["uid", "gid", "effective_uid", "effective_gid"].map(|column| row.number(column) as u32);
        assert_eq!(ids, [USER, GROUP, uid, gid], "{path:?}");
    }
}
