//! What the fuzz targets demand of the readers of bytes that others wrote. The readers are the project's own files, compiled
//! again without the rest of their crates (and the shipper's HTTP client, which takes minutes).
#![allow(dead_code, unreachable_pub, unused_imports, reason = "only a part of each file is used here")]

#[path = "../../shipper/src/checkpoint.rs"]
mod checkpoint_file;
#[path = "../../shipper/src/decode/mod.rs"]
mod decode;
mod elasticsearch;
#[path = "../../shipper/src/encoder/mod.rs"]
mod encoder;
#[path = "../../shipper/src/file_position.rs"]
mod file_position;
#[path = "../../shipper/src/options.rs"]
mod options;
#[path = "../../proc/src/parse/mod.rs"]
mod parse;
#[path = "../../shipper/src/stream.rs"]
mod stream;

/// No target reads a file: of its content, marks need this to be compiled.
mod content {
    use std::fs::File;
    use std::io;
    use std::os::unix::fs::FileExt;

    pub(crate) struct Content(File);

    impl Content {
        pub(crate) fn read_exact_at(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
            self.0.read_exact_at(buffer, offset)
        }
    }
}

use std::borrow::Cow;
use std::sync::Arc;

use kumon_schema::{Common, Kind, Schema};
use serde_json::value::RawValue;

use crate::checkpoint_file::Checkpoint;
use crate::decode::{CsvDecoder, Decoder, DocumentDecoder, NdjsonDecoder, Origin, Step, Times};
use crate::encoder::{JsonEncoder, Row, RowId};
use crate::stream::StreamName;

pub use elasticsearch::bulk_response;

/// A CSV file of anybody's: the first byte says which schema, and how much is read at once.
pub fn csv(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let schema = match choice % 3 {
        0 => None,
        1 => Schema::parse(TYPES).ok(),
        _ => None,
    };
    let decoder = || {
        let timestamp = (choice % 2 == 1).then(|| "t".to_owned());
        Decoder::Csv(Box::new(match choice % 3 {
            2 => CsvDecoder::own(Cow::Borrowed(kumon_schema::builtin("exec").expect("exec is built in"))),
            _ => CsvDecoder::foreign(schema.clone(), origin(), timestamp, Times::default()),
        }))
    };
    compare(decoder, usize::from(choice / 6) + 1, bytes);
}

const TYPES: &str = r#"{"fields":[{"name":"t","type":"datetime"},{"name":"n","type":"integer"},
    {"name":"x","type":"number"},{"name":"ok","type":"boolean"},{"name":"s","type":"string"},
    {"name":"l","type":"list","itemType":"integer","delimiter":";"}]}"#;

/// An NDJSON file, of anybody's or KuMon's own: the first byte says which, and how much is read at once.
pub fn ndjson(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let timestamp = (choice % 2 == 1).then(|| "t".to_owned());
    let decoder = || match choice % 4 {
        2 => Decoder::Documents(DocumentDecoder),
        _ => Decoder::Ndjson(NdjsonDecoder::new(origin(), timestamp.clone(), Times::default())),
    };
    compare(decoder, usize::from(choice / 4) + 1, bytes);
}

fn origin() -> Origin {
    Origin::new(&Common { host_name: "node-1".into(), ..Common::default() }, "/a\"b")
}

/// The same rows come out at the same offsets, on which their ids depend, however the file grows and is cut; and each
/// is a JSON object.
fn compare(decoder: impl Fn() -> Decoder, chunk: usize, bytes: &[u8]) {
    let whole = decode(&mut decoder(), bytes.len().max(1), bytes);
    let cut = decode(&mut decoder(), chunk, bytes);
    assert_eq!(whole, cut, "read in pieces of {chunk} bytes");
}

#[derive(Debug, PartialEq)]
enum Read {
    /// At this offset.
    Row(u64),
    Bad(u64, usize, String),
    Unreadable(String),
}

fn decode(decoder: &mut Decoder, chunk: usize, bytes: &[u8]) -> Vec<Read> {
    let (mut read, mut at, mut have, mut json) = (Vec::new(), 0, 0, Vec::new());
    let stream = Arc::new(StreamName { kind: Kind::Event, dataset: "a".into(), namespace: "b".into() });
    let id = RowId { stream: &stream, generation: &"g".into(), offset: 0 };
    loop {
        have = (have + chunk).min(bytes.len());
        let last = have == bytes.len();
        loop {
            json.clear();
            let used = match decoder.step(
                &bytes[at..have],
                at as u64,
                last,
                &mut Row::begin(&mut JsonEncoder, &id, &mut json),
            ) {
                Ok(Step::Row(used)) => {
                    read.push(Read::Row(at as u64));
                    // Not what its strings mean: half a surrogate pair is for the sink to judge.
                    let document: &RawValue = serde_json::from_slice(&json).expect("a JSON document");
                    assert!(document.get().starts_with('{') && !json.contains(&b'\n'), "{document}");
                    used
                }
                Ok(Step::Nothing(used)) => used,
                Ok(Step::Bad(used, why)) => {
                    read.push(Read::Bad(at as u64, used, why));
                    used
                }
                // No input is that long.
                Ok(Step::Incomplete | Step::TooLong) => break,
                Err(why) => {
                    read.push(Read::Unreadable(why.0));
                    return read;
                }
            };
            assert!(used > 0 && used <= have - at, "{used} bytes of {}", have - at);
            at += used;
        }
        if last {
            return read;
        }
    }
}

/// A file of the kernel's: the first byte says which. Whatever stands in it is read, or refused.
pub fn proc(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    match choice % 17 {
        0 => _ = parse::stat(bytes),
        1 => _ = parse::load(bytes),
        2 => _ = parse::pressure(bytes),
        3 => parse::diskstats(bytes, |_, name, _| assert!(!name.is_empty())),
        4 => _ = parse::interfaces(bytes, |name, _| assert!(!name.is_empty())),
        5 => _ = parse::protocols(bytes, &[("Tcp", "InSegs"), ("Ip", "InReceives"), ("Tcp", "MaxConn")]),
        6 => _ = parse::sockets(bytes, &[("sockets", "used"), ("TCP", "mem"), ("UDP", "inuse")]),
        7 => {
            let mounts = parse::mounts(bytes).unwrap_or_default();
            assert!(mounts.iter().all(|mount| mount.point.len() + mount.kind.len() <= bytes.len()));
        }
        8 => _ = parse::pairs(bytes, &["MemTotal", "MemFree", "pgpgin", "oom_kill"]),
        9 => parse::cgroup_mounts(bytes, |mount, _| assert!(!mount.is_empty())),
        10 => parse::blkio(bytes, |_, disk| assert!(disk.iter().any(Option::is_some))),
        11 => parse::io_stat(bytes, |_, bytes, _| assert!(bytes[0].is_some())),
        12 => {
            let limit = parse::cpu_max(bytes);
            assert!(limit.is_none_or(f64::is_finite));
            _ = (parse::value(bytes), parse::first_process(bytes));
        }
        13 => parse::socket_lines(bytes, |_| ()),
        14 => _ = parse::process_stat(bytes).inspect(|stat| assert!(stat.name.len() < bytes.len())),
        15 => _ = (parse::statm(bytes), parse::owner(bytes)),
        _ => _ = parse::cgroup_of(bytes).inspect(|path| assert!(path.starts_with(b"/"))),
    }
}

/// A checkpoint that anything may have happened to: it is refused, or read and written back as it is.
pub fn checkpoint(bytes: &[u8]) {
    let Ok(checkpoint) = Checkpoint::parse(bytes) else { return };
    let again = Checkpoint::parse(&Checkpoint::to_bytes(&checkpoint.files).expect("entries are JSON"))
        .expect("own bytes");
    assert_eq!(checkpoint.files, again.files);
}
