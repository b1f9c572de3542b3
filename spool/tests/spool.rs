//! The spool as both sides see it.
//!
//! Runs beside other tests.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use kumon_schema::rows::Exec;
use kumon_schema::{Common, Format, SubjectFields, builtin};
use kumon_spool::{
    Acknowledged, Formats, Limits, Lost, RowBatch, Spool, is_being_written, list, lock_for_reading,
};
use kumon_testing::{SmallDisk, wait_for};

fn exec(pid: u64) -> RowBatch {
    exec_as(Format::Csv, pid)
}

fn exec_as(format: Format, pid: u64) -> RowBatch {
    let formats = Formats { of_metrics: [("exec".to_owned(), format)].into(), ..Formats::default() };
    let mut batch = RowBatch::new(Arc::new(Common::default())).with_formats(formats);
    let subject = SubjectFields { pid: Some(pid), name: b"a,b\"\n=1+1", ..SubjectFields::default() };
    batch.append(&Exec::default(), &subject);
    batch
}

/// The pids in all NDJSON files of the spool, in the files' order.
fn pids_of_documents(root: &Path) -> Vec<u64> {
    let texts = list(root).unwrap().into_iter().map(|file| fs::read_to_string(file.path).unwrap());
    let pid = |line: &str| {
        let document: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(document["process.name"], "a,b\"\n=1+1");
        document["process.pid"].as_u64().unwrap()
    };
    texts.flat_map(|text| text.lines().map(pid).collect::<Vec<_>>()).collect()
}

/// The pids in all exec files of the spool, in the files' order, as a plain CSV reader sees them.
fn pids(root: &Path) -> Vec<u64> {
    let mut pids = Vec::new();
    for file in list(root).unwrap() {
        let bytes = fs::read(&file.path).unwrap();
        let (mut reader, mut rest) = (csv_core::Reader::new(), &bytes[..]);
        let (mut out, mut ends) = (vec![0; 4096], vec![0; 64]);
        let mut header = true;
        loop {
            let (result, used, _, _) = reader.read_record(rest, &mut out, &mut ends);
            rest = &rest[used..];
            match result {
                csv_core::ReadRecordResult::Record if header => header = false,
                csv_core::ReadRecordResult::Record => {
                    pids.push(std::str::from_utf8(&out[ends[5]..ends[6]]).unwrap().parse().unwrap());
                }
                csv_core::ReadRecordResult::End => break,
                _ => {}
            }
        }
    }
    pids
}

#[test]
fn rows_stand_in_files_in_order_and_files_close_by_size() {
    let root = tempfile::tempdir().unwrap();
    let limits = Limits { file_bytes: 1000, ..Limits::default() };
    let mut spool = Spool::open(root.path(), limits).unwrap();
    for pid in 0..100 {
        spool.append(&mut exec(pid));
        spool.flush().unwrap();
    }
    assert_eq!(pids(root.path()), (0..100).collect::<Vec<_>>());
    let files = list(root.path()).unwrap();
    let open = files.iter().filter(|f| is_being_written(&File::open(&f.path).unwrap()).unwrap()).count();
    assert!(files.len() > 3 && open <= 1, "{} files, {open} open", files.len());
    let version = builtin("exec").unwrap().version;
    assert!(root.path().join(format!("exec/schema-v{version}.json")).exists());
    spool.close().unwrap();
    assert!(!files.iter().any(|f| is_being_written(&File::open(&f.path).unwrap()).unwrap()));
}

#[test]
fn ndjson_has_documents_line_by_line_in_files_of_their_own() {
    let root = tempfile::tempdir().unwrap();
    let limits = Limits { file_bytes: 1000, ..Limits::default() };
    let mut spool = Spool::open(root.path(), limits.clone()).unwrap();
    for pid in 0..100 {
        spool.append(&mut exec_as(Format::Ndjson, pid));
        spool.flush().unwrap();
    }
    spool.close().unwrap();
    assert_eq!(pids_of_documents(root.path()), (0..100).collect::<Vec<_>>());
    let files = list(root.path()).unwrap();
    assert!(files.len() > 3, "{files:?}");
    assert!(files.iter().all(|file| file.path.extension().is_some_and(|it| it == "ndjson")), "{files:?}");

    // Another format is another file.
    let mut spool = Spool::open(root.path(), limits).unwrap();
    spool.append(&mut exec_as(Format::Ndjson, 1));
    spool.append(&mut exec(2));
    spool.close().unwrap();
    assert_eq!(list(root.path()).unwrap().len(), files.len() + 2);
}

#[test]
fn shed_documents_are_counted_exactly() {
    let root = tempfile::tempdir().unwrap();
    let limits = Limits { file_age: Duration::ZERO, ..Limits::default() };
    let mut spool = Spool::open(root.path(), limits).unwrap();
    for file in 0..2 {
        (0..10).for_each(|row| spool.append(&mut exec_as(Format::Ndjson, file * 10 + row)));
        spool.flush().unwrap();
    }
    let files = list(root.path()).unwrap();
    // Of the first file 3 rows are delivered.
    let text = fs::read_to_string(&files[0].path).unwrap();
    let delivered: usize = text.split_inclusive('\n').take(3).map(str::len).sum();
    Acknowledged([(files[0].name.to_string(), delivered as u64)].into()).write(root.path()).unwrap();
    let mut spool = Spool::open(root.path(), Limits { spool_bytes: 1, ..Limits::default() }).unwrap();
    wait_for("shedding", Duration::from_secs(15), || {
        spool.flush().unwrap();
        !spool.stats().lost.is_empty()
    });
    assert_eq!(spool.stats().lost, [(("exec".to_owned(), Lost::SpoolLimit), 7 + 10)].into());
}

#[test]
fn files_close_by_age() {
    let root = tempfile::tempdir().unwrap();
    let limits = Limits { file_age: Duration::ZERO, ..Limits::default() };
    let mut spool = Spool::open(root.path(), limits).unwrap();
    for pid in 0..3 {
        spool.append(&mut exec(pid));
        spool.flush().unwrap();
    }
    assert_eq!(list(root.path()).unwrap().len(), 3);
}

#[test]
fn at_the_limit_the_oldest_unread_files_go_and_exactly_their_undelivered_rows_are_counted() {
    let root = tempfile::tempdir().unwrap();
    let limits = Limits { file_age: Duration::ZERO, ..Limits::default() };
    let mut spool = Spool::open(root.path(), limits).unwrap();
    for file in 0..4 {
        for row in 0..10 {
            spool.append(&mut exec(file * 10 + row));
        }
        spool.flush().unwrap();
    }
    let files = list(root.path()).unwrap();

    // The first file's rows are all delivered, of the second 4 are; the third is in flight.
    let text = fs::read(&files[1].path).unwrap();
    let row = (text.len() as u64 - Exec::default_header_len()) / 10;
    let delivered = [(&files[0], files[0].size), (&files[1], Exec::default_header_len() + 4 * row)];
    let delivered: BTreeMap<_, _> = delivered.map(|(file, bytes)| (file.name.to_string(), bytes)).into();
    Acknowledged(delivered).write(root.path()).unwrap();
    let in_flight = File::open(&files[2].path).unwrap();
    assert!(lock_for_reading(&in_flight).unwrap());

    let limits = Limits { spool_bytes: 1, ..Limits::default() };
    let mut spool = Spool::open(root.path(), limits).unwrap();
    wait_for("shedding", Duration::from_secs(15), || {
        spool.flush().unwrap();
        !spool.stats().lost.is_empty()
    });
    assert_eq!(pids(root.path()), (20..30).collect::<Vec<_>>());
    assert_eq!(spool.stats().lost, [(("exec".to_owned(), Lost::SpoolLimit), 6 + 10)].into());
}

#[test]
fn a_spool_that_had_room_is_looked_at_soon_once_that_is_used_up() {
    let root = tempfile::tempdir().unwrap();
    let limits = Limits { file_age: Duration::ZERO, spool_bytes: 4_000, ..Limits::default() };
    let mut spool = Spool::open(root.path(), limits).unwrap();
    spool.flush().unwrap();
    let size = || list(root.path()).unwrap().iter().map(|file| file.size).sum::<u64>();
    for pid in 0.. {
        spool.append(&mut exec(pid));
        spool.flush().unwrap();
        if size() > 6_000 {
            break;
        }
    }
    // Not as late as where there is room.
    wait_for("shedding", Duration::from_secs(15), || {
        spool.flush().unwrap();
        size() <= 4_000
    });
}

#[test]
fn a_schema_beside_the_files_that_a_power_cut_emptied_is_written_again() {
    let root = tempfile::tempdir().unwrap();
    let write = || {
        let mut spool = Spool::open(root.path(), Limits::default()).unwrap();
        spool.append(&mut exec(1));
        spool.close().unwrap();
    };
    write();
    let version = builtin("exec").unwrap().version;
    let schema = root.path().join(format!("exec/schema-v{version}.json"));
    fs::write(&schema, "").unwrap();
    write();
    assert_eq!(fs::read_to_string(&schema).unwrap(), builtin("exec").unwrap().text);
}

#[test]
fn a_file_that_cant_be_shed_keeps_no_other_one_and_what_is_gone_is_counted() {
    let root = tempfile::tempdir().unwrap();
    let limits = Limits { file_age: Duration::ZERO, ..Limits::default() };
    let mut spool = Spool::open(root.path(), limits).unwrap();
    for file in 0..3 {
        spool.append(&mut exec(file));
        spool.flush().unwrap();
    }
    // What nobody may open for writing, not even root.
    let kept = list(root.path()).unwrap().remove(1).path;
    fs::remove_file(&kept).unwrap();
    fs::create_dir(&kept).unwrap();

    let limits = Limits { spool_bytes: 1, ..Limits::default() };
    let mut spool = Spool::open(root.path(), limits).unwrap();
    let mut error = String::new();
    wait_for("shedding", Duration::from_secs(15), || {
        error = spool.flush().map_or_else(|e| e.to_string(), |()| String::new());
        !error.is_empty()
    });
    assert!(error.contains(kept.to_str().unwrap()), "{error}");
    assert_eq!(list(root.path()).unwrap().into_iter().map(|file| file.path).collect::<Vec<_>>(), [kept]);
    assert_eq!(spool.stats().lost, [(("exec".to_owned(), Lost::SpoolLimit), 2)].into());
}

/// Collector and shipper are two users, joined by the group: the one sheds what the other wrote.
#[test]
fn as_far_as_the_umask_lets_it_the_group_may_lock_files_for_shedding() {
    let root = tempfile::tempdir().unwrap();
    let before = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o007));
    let mut spool = Spool::open(root.path(), Limits::default()).unwrap();
    spool.append(&mut exec(1));
    spool.flush().unwrap();
    nix::sys::stat::umask(before);
    let mode = fs::metadata(&list(root.path()).unwrap()[0].path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
}

#[test]
fn a_link_in_the_shared_folder_leads_no_writer_astray() {
    let root = tempfile::tempdir().unwrap();
    let victim = root.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    std::os::unix::fs::symlink(&victim, root.path().join(".acknowledged.new")).unwrap();
    Acknowledged::default().write(root.path()).unwrap_err();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
}

#[test]
fn rows_that_can_t_be_written_until_the_end_are_counted() {
    let root = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(root.path(), Limits::default()).unwrap();
    // Where the metric's folder should be.
    fs::write(root.path().join("exec"), "").unwrap();
    spool.append(&mut exec(1));
    spool.close().unwrap_err();
    assert_eq!(spool.stats().lost, [(("exec".to_owned(), Lost::WriteFailed), 1)].into());
}

/// Bytes of the header of an exec file.
trait HeaderLength {
    fn default_header_len() -> u64;
}

impl HeaderLength for Exec<'_> {
    fn default_header_len() -> u64 {
        kumon_schema::builtin("exec").unwrap().header().len() as u64
    }
}

#[test]
fn what_a_crash_left_unfinished_is_removed() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("exec")).unwrap();
    let unfinished = root.path().join("exec/.exec-0123456789abcdef0123456789ab.v1.csv");
    fs::write(&unfinished, "timest").unwrap();
    Spool::open(root.path(), Limits::default()).unwrap();
    assert!(!unfinished.exists());
}

#[test]
fn on_a_full_disk_rows_wait_and_are_written_once_there_is_room() {
    if !kumon_testing::require_root() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let disk = SmallDisk::mount(place.path(), c"size=64k");
    let ballast = disk.path().join("ballast");
    fs::write(&ballast, vec![0; 40 << 10]).unwrap();
    let root = disk.path().join("spool");
    let mut spool = Spool::open(&root, Limits::default()).unwrap();
    let mut error = None;
    for pid in 0..500 {
        spool.append(&mut exec(pid));
        error = spool.flush().err().or(error);
    }
    let error = error.expect("500 rows don't fit in 24 KiB").to_string();
    assert!(error.contains("appending rows") && error.contains("free some space"), "{error}");
    let whole = pids(&root);
    assert_eq!(whole, (0..whole.len() as u64).collect::<Vec<_>>(), "only whole rows, none missing");

    fs::remove_file(&ballast).unwrap();
    spool.flush().unwrap();
    assert_eq!(pids(&root), (0..500).collect::<Vec<_>>());
    assert!(spool.stats().lost.is_empty());
}

/// A disk that fails within a write, and then won't even take back what it wrote of it.
#[test]
fn records_that_a_failing_disk_kept_are_not_written_once_more() {
    if !kumon_testing::require_root() || !kumon_testing::require_program("chattr") {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let disk = SmallDisk::mount(place.path(), c"size=64k");
    let ballast = disk.path().join("ballast");
    let root = disk.path().join("spool");
    let mut spool = Spool::open(&root, Limits::default()).unwrap();
    spool.append(&mut exec(0));
    spool.flush().unwrap();
    let file = list(&root).unwrap().remove(0).path;
    // Only appending is allowed from here on: taking back fails.
    if !Command::new("chattr").arg("+a").arg(&file).status().unwrap().success() {
        println!("skipped: needs a tmpfs that knows append-only files");
        return;
    }
    fs::write(&ballast, vec![0; 40 << 10]).unwrap();
    for pid in 1..500 {
        spool.append(&mut exec(pid));
    }
    spool.flush().unwrap_err();
    assert!(pids(&root).len() > 10, "some whole rows were written before the disk was full");
    fs::remove_file(&ballast).unwrap();
    spool.flush().unwrap();
    let mut whole = pids(&root);
    // The cut one is no row, as its reader sees it; its whole self is in the next file.
    whole.dedup();
    assert_eq!(whole, (0..500).collect::<Vec<_>>());
    assert_eq!((spool.stats().rows_out["exec"], spool.stats().lost.len()), (500, 0));
    assert!(Command::new("chattr").arg("-a").arg(&file).status().unwrap().success());
}

#[test]
fn a_metric_s_folder_replaced_by_a_link_leads_no_writer_and_no_reader_elsewhere() {
    if !kumon_testing::require_root() {
        return;
    }
    let (root, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let limits = Limits { file_age: Duration::ZERO, ..Limits::default() };
    let mut spool = Spool::open(root.path(), limits).unwrap();
    spool.append(&mut exec(1));
    spool.flush().unwrap();
    let (file, folder) = (list(root.path()).unwrap().remove(0), root.path().join("exec"));
    // Who may write to the spool folder, and is another user.
    fs::rename(&folder, root.path().join("away")).unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), &folder).unwrap();
    std::os::unix::fs::lchown(&folder, Some(65534), Some(65534)).unwrap();
    fs::write(elsewhere.path().join(file.name.to_string()), "secret").unwrap();

    spool.append(&mut exec(2));
    let refused = spool.flush().unwrap_err().to_string();
    assert!(refused.contains("a link to a folder of another user"), "{refused}");
    assert!(kumon_spool::open(&file.path).is_err() && kumon_spool::remove(&file.path).is_err());
    let there: Vec<_> = fs::read_dir(elsewhere.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(there, [file.name.to_string().as_str()], "nothing is made there and nothing deleted");

    fs::remove_file(&folder).unwrap();
    fs::rename(root.path().join("away"), &folder).unwrap();
    spool.flush().unwrap();
    assert_eq!((pids(root.path()), spool.stats().lost.len()), (vec![1, 2], 0));
}

#[test]
fn links_planted_in_the_spool_are_followed_by_nobody() {
    let (root, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let limits = Limits { spool_bytes: 0, file_age: Duration::ZERO, ..Limits::default() };
    let secret = elsewhere.path().join("secret");
    fs::write(&secret, "pid\n1\n").unwrap();
    let folder = root.path().join("exec");
    fs::create_dir(&folder).unwrap();
    let name = "exec-0123456789abcdef0123456789ab.v1.csv";
    std::os::unix::fs::symlink(&secret, folder.join(name)).unwrap();
    std::os::unix::fs::symlink(&secret, folder.join(format!(".{name}"))).unwrap();
    std::os::unix::fs::symlink(&secret, root.path().join(".acknowledged")).unwrap();
    assert_eq!(list(root.path()).unwrap(), []);
    assert!(kumon_spool::open(&folder.join(name)).is_err());
    assert!(Acknowledged::read(root.path()).is_err());
    let mut spool = Spool::open(root.path(), limits).unwrap();
    spool.append(&mut exec(1));
    spool.flush().unwrap();
    assert_eq!(fs::read_to_string(&secret).unwrap(), "pid\n1\n");
    assert!(!folder.join(format!(".{name}")).is_symlink(), "an unfinished file that is none is removed");
}
