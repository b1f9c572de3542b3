use kumon_schema::rows::Exec;
use kumon_schema::{Common, Format, Schema, SubjectFields, builtin, write_row};

use super::{CsvDecoder, Step};
use crate::decode::{Origin, Times, Unreadable};
use crate::encoder::as_json;
use crate::options::Dialect;
use serde_json::json;

/// As [`decode_in_chunks`], of 64 KiB.
fn decode(
    decoder: &mut CsvDecoder,
    file: &[u8],
) -> Result<Vec<Result<serde_json::Value, String>>, Unreadable> {
    decode_in_chunks(decoder, file, 64 << 10)
}

/// As a file is read: so many bytes more whenever there is no whole record.
fn decode_in_chunks(
    decoder: &mut CsvDecoder,
    file: &[u8],
    chunk: usize,
) -> Result<Vec<Result<serde_json::Value, String>>, Unreadable> {
    let (mut rows, mut at, mut end) = (Vec::new(), 0, 0);
    loop {
        let bytes = &file[at..end];
        let (step, json) = as_json(|row| decoder.step(bytes, at as u64, false, row));
        let mut step = step?;
        if step == Step::TooLong {
            let mut read_at = |buffer: &mut [u8], offset: u64| {
                let rest = &file[offset as usize..];
                let length = rest.len().min(buffer.len()).min(chunk);
                buffer[..length].copy_from_slice(&rest[..length]);
                Ok(length)
            };
            step = decoder.skip_long(bytes, false, &mut read_at).unwrap();
        }
        at += match step {
            Step::Row(used) => {
                rows.push(Ok(serde_json::from_slice(&json).unwrap()));
                used
            }
            Step::Nothing(used) => used,
            Step::Bad(used, reason) => {
                rows.push(Err(reason));
                used
            }
            Step::Incomplete | Step::TooLong if end == file.len() => return Ok(rows),
            Step::Incomplete | Step::TooLong => {
                end = (end + chunk).min(file.len());
                continue;
            }
        };
        end = end.max(at);
    }
}

fn foreign(schema: Option<&str>, timestamp_field: Option<&str>) -> CsvDecoder {
    let common = Common { host_name: "node-1".into(), ..Common::default() };
    let schema = schema.map(|text| Schema::parse(text).unwrap());
    CsvDecoder::foreign(
        schema,
        Origin::new(&common, "/srv/a.csv"),
        timestamp_field.map(Into::into),
        Times::default(),
    )
}

#[test]
fn own_rows_become_flat_ecs_documents() {
    let schema = builtin("exec").unwrap();
    let mut bytes = schema.header().into_bytes();
    let common = Common { host_name: "node-1".into(), ..Common::default() };
    let row = Exec { command_line: b"\xff", ..Exec::default() };
    let name = b"a,b\"\n=1+1";
    let subject = SubjectFields { pid: Some(7), uid: Some(1000), name, ..SubjectFields::default() };
    write_row(&mut bytes, Format::Csv, &common, &row, &subject);
    let rows = decode(&mut CsvDecoder::own(std::borrow::Cow::Borrowed(schema)), &bytes).unwrap();
    let [Ok(document)] = &rows[..] else { panic!("{rows:?}") };
    assert_eq!(document["@timestamp"], "1970-01-01T00:00:00.000000Z");
    assert_eq!(document["host.name"], "node-1");
    assert_eq!(document["process.pid"], 7);
    assert_eq!(document["user.id"], "1000");
    assert_eq!(document["process.name"], "a,b\"\n=1+1");
    assert_eq!(document["process.command_line"], "\\xff");
    assert_eq!(document.get("container.id"), None);
}

#[test]
fn foreign_rows_are_typed_by_their_schema_and_bad_ones_say_why() {
    let schema = r#"{"fields":[{"name":"t","type":"datetime"},{"name":"n","type":"integer","ecs":"event.duration"},
        {"name":"ok","type":"boolean"},{"name":"x","type":"number"}]}"#;
    let bytes = b"\xef\xbb\xbft,n,ok,x\r\n2026-11-21 01:00:00,5,TRUE,1.50\r\n\r\nsoon,5,true,1\r\n,x,true,1\r\n,1\r\n,,,inf\r\n";
    let rows = decode(&mut foreign(Some(schema), Some("t")), bytes).unwrap();
    let good = rows[0].as_ref().unwrap();
    assert_eq!(good["@timestamp"], "2026-11-21T01:00:00Z");
    assert_eq!((&good["event.duration"], &good["ok"], &good["x"]), (&5.into(), &true.into(), &1.5.into()));
    assert_eq!((&good["host.name"], &good["log.file.path"]), (&"node-1".into(), &"/srv/a.csv".into()));
    let reasons: Vec<_> = rows[1..].iter().map(|row| row.as_ref().unwrap_err().as_str()).collect();
    assert_eq!(
        reasons,
        [
            "column 't': 'soon' is no time, such as 2026-11-21T01:45:26Z",
            "column 'n': 'x' is no whole number of 64 bits",
            "the row has 2 columns, the header 4",
            "column 'x': 'inf' is no finite number",
        ]
    );
}

#[test]
fn lists_become_arrays_of_their_items_type() {
    let schema = r#"{"fields":[{"name":"a","type":"list"},{"name":"n","type":"list","itemType":"integer","delimiter":";"},
        {"name":"at","type":"list","itemType":"datetime","delimiter":"|"}]}"#;
    let bytes = "a,n,at\n\"x,y, z\",1; 2;,2026-11-21 01:00:00|1795225526\n,,\n\\x2c,1;x,\n,,soon\n";
    let rows = decode(&mut foreign(Some(schema), None), bytes.as_bytes()).unwrap();
    let row = rows[0].as_ref().unwrap();
    assert_eq!((&row["a"], &row["n"]), (&json!(["x", "y", " z"]), &json!([1, 2])));
    assert_eq!(row["at"], json!(["2026-11-21T01:00:00Z", "2026-11-21T01:45:26Z"]));
    let empty = rows[1].as_ref().unwrap();
    assert!(["a", "n", "at"].iter().all(|column| empty.get(column).is_none()), "{empty}");
    assert_eq!(rows[2], Err("column 'n': 'x' is no whole number of 64 bits".to_owned()));
    assert_eq!(rows[3], Err("column 'at': 'soon' is no time".to_owned()));

    // An item of KuMon's own that holds the delimiter.
    let own = Schema::parse(r#"{"fields":[{"name":"a","type":"list"}]}"#).unwrap();
    let rows = decode(&mut CsvDecoder::own(std::borrow::Cow::Owned(own)), b"a\n\"x\\x2cy,z\"\n").unwrap();
    assert_eq!(rows[0].as_ref().unwrap()["a"], json!(["x,y", "z"]));
}

#[test]
fn a_list_s_type_and_delimiter_are_checked() {
    let schema = |more: &str| Schema::parse(&format!(r#"{{"fields":[{{"name":"a","type":"list"{more}}}]}}"#));
    for (more, why) in [
        (r#","itemType":"list""#, "a list has no lists in it"),
        (r#","itemType":"geopoint""#, "geopoint"),
        (r#","delimiter":";;""#, "a character"),
        (r#","delimiter":"é""#, "one printable ASCII character"),
    ] {
        let error = schema(more).unwrap_err().to_string();
        assert!(error.contains(why), "{more}: {error}");
    }
    assert_eq!(schema(r#","itemType":"integer""#).unwrap().mapping()["a"]["type"], "long");
}

#[test]
fn a_byte_order_mark_is_taken_off_wherever_files_were_joined() {
    let bytes = b"\n\xef\xbb\xbf\"a,b\",n\n1,2\n\xef\xbb\xbf\"3\",4\n\xef\xbb\xbf\r\n5,6\n";
    let rows = decode(&mut foreign(None, None), bytes).unwrap();
    let values: Vec<_> = rows.iter().flatten().map(|row| (row["a,b"].clone(), row["n"].clone())).collect();
    assert_eq!(values, [("1", "2"), ("3", "4"), ("5", "6")].map(|(a, n)| (a.into(), n.into())));
    // And where reading goes on.
    for read in [1, 4, 12, 16] {
        let mut decoder = foreign(None, None);
        decoder.resume(&bytes[..read]).unwrap();
        let rest = decode(&mut decoder, &bytes[read..]).unwrap();
        assert_eq!(rest.len(), if read > 12 { 2 } else { 3 }, "{read}");
    }
}

#[test]
fn times_are_read_alike_in_all_columns_that_hold_some() {
    let schema = r#"{"fields":[{"name":"t","type":"datetime"},{"name":"u","type":"datetime"},{"name":"v","type":"string"}]}"#;
    let times = || Times::new(Some("Europe/Berlin"), Some("%d.%m.%Y")).unwrap();
    let decoder = |schema: Option<&str>, field: Option<&str>| {
        let schema = schema.map(|text| Schema::parse(text).unwrap());
        let origin = Origin::new(&Common::default(), "/a");
        CsvDecoder::foreign(schema, origin, field.map(Into::into), times())
    };
    let bytes = b"t,u,v\n21.11.2026,2026-11-21 01:45:26,null\n,null,21.11.2026\n,x,\nx,,\n";
    let rows = decode(&mut decoder(Some(schema), Some("t")), bytes).unwrap();
    let row = rows[0].as_ref().unwrap();
    assert_eq!(
        (&row["@timestamp"], &row["u"]),
        (&"2026-11-20T23:00:00Z".into(), &"2026-11-21T00:45:26Z".into())
    );
    assert_eq!(row["v"], "null");
    let row = rows[1].as_ref().unwrap();
    assert!(row["@timestamp"].as_str() > Some("2026-11-22") && row.get("u").is_none(), "{row}");
    let why = |row: usize| rows[row].as_ref().unwrap_err().as_str();
    assert_eq!(why(2), "column 'u': 'x' is no time, such as 2026-11-21T01:45:26Z");
    assert_eq!(why(3), "column 't': 'x' is no time, such as 2026-11-21T01:45:26Z");

    // A column of that name, without being named.
    let bytes = b"@timestamp,n\n21.11.2026,1\nsoon,2\nNULL,3\n";
    let rows = decode(&mut decoder(None, None), bytes).unwrap();
    let time = |row: usize| rows[row].as_ref().unwrap()["@timestamp"].as_str().unwrap();
    assert_eq!((time(0), time(1)), ("2026-11-20T23:00:00Z", "soon"));
    assert!(time(2) > "2026-11-22");
}

#[test]
fn what_a_file_says_of_its_host_and_log_is_left_alone() {
    let rows = decode(&mut foreign(None, None), b"host.name,log.level,n\nother,warn,1\n").unwrap();
    let row = rows[0].as_ref().unwrap();
    assert_eq!((&row["host.name"], &row["log.level"]), (&"other".into(), &"warn".into()));
    assert_eq!(row.get("log.offset"), None);
}

#[test]
fn a_quote_that_never_closes_costs_its_line_alone() {
    let mut decoder = foreign(None, None);
    let bytes = [b"a,b\n1,\"x\n".as_slice(), &b"2,y\n".repeat(super::MAX_RECORD / 4)].concat();
    let rows = decode(&mut decoder, &bytes).unwrap();
    assert_eq!(rows.iter().filter(|row| row.is_err()).count(), 1);
    assert_eq!(rows.len(), 1 + super::MAX_RECORD / 4);
}

#[test]
fn a_record_over_the_limit_is_one_bad_one_and_reading_goes_on_behind_its_true_end() {
    let filler = |length: usize| "x".repeat(length);
    let lines = |length: usize| "x,1\n".repeat(length / 4);
    for (what, record) in [
        ("plain", format!("{},1\n", filler(3000))),
        ("plain, CRLF", format!("{},1\r\n", filler(3000))),
        ("quoted", format!("\"{}\",1\n", filler(3000))),
        ("quoted with lines that look like rows", format!("\"{}\",1\n", lines(3000))),
        ("quoted with quotes", format!("\"{}\"\"{}\",1\n", filler(1500), lines(1500))),
        ("a line end only behind the limit", format!("\"{}\n{}\",1\n", filler(2000), filler(2000))),
        ("just above", format!("{},1\n", filler(1022))),
        ("of too many columns", format!("{}\n", "1,".repeat(2000))),
    ] {
        for chunk in [100, 1024, 1025, 64 << 10] {
            let mut decoder = foreign(None, None).with(Dialect::default(), Some(1024));
            let file = format!("text,n\nshort,0\n{record}short,2\n");
            let rows = decode_in_chunks(&mut decoder, file.as_bytes(), chunk).unwrap();
            let [Ok(first), Err(why), Ok(last)] = &rows[..] else { panic!("{what}, {chunk}: {rows:?}") };
            assert_eq!((&first["n"], &last["n"]), (&"0".into(), &"2".into()), "{what}");
            assert_eq!(why, "the row is longer than 1024 bytes", "{what}");
        }
    }
    let mut decoder = foreign(None, None).with(Dialect::default(), Some(1024));
    let file = format!("text,n\n{},1\n", filler(1021));
    assert!(decode(&mut decoder, file.as_bytes()).unwrap()[0].is_ok());
}

#[test]
fn a_record_without_end_is_none_however_often_it_is_looked_at() {
    let mut decoder = foreign(None, None);
    let (header, record) = (b"a,b\n", b"1,\"x\ny\"\n");
    as_json(|row| decoder.step(header, 0, false, row)).0.unwrap();
    for length in 1..record.len() {
        for _ in 0..3 {
            let step = as_json(|row| decoder.step(&record[..length], 4, false, row)).0.unwrap();
            assert_eq!(step, Step::Incomplete, "{length}");
        }
    }
    assert_eq!(as_json(|row| decoder.step(record, 4, false, row)).0.unwrap(), Step::Row(record.len()));
}

#[test]
fn a_header_of_100_000_columns_takes_linear_time() {
    let names: Vec<String> = (0..100_000).map(|n| format!("a_long_name_of_a_column_{n}")).collect();
    let file = format!("{}\n{}\n", names.join(","), vec!["1"; names.len()].join(","));
    // The thread's own: others may be at work on the machine.
    let cpu_seconds = || rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime).tv_sec;
    let before = cpu_seconds();
    let rows = decode(&mut foreign(None, None), file.as_bytes()).unwrap();
    assert_eq!(rows[0].as_ref().unwrap()["a_long_name_of_a_column_99999"], "1");
    let taken = cpu_seconds() - before;
    assert!(taken < 60, "{taken} s");
}

#[test]
fn what_begins_where_reading_goes_on_has_the_header_however_wide_that_is() {
    for columns in [1, 2, 20_000] {
        let header: Vec<String> = (0..columns).map(|n| format!("name_{n}")).collect();
        let file = format!("\r\n{}\n", header.join(","));
        let mut decoder = foreign(None, None);
        let mut length = 16;
        while !decoder.resume(&file.as_bytes()[..length.min(file.len())]).unwrap() {
            length *= 2;
        }
        let row = vec!["1"; columns].join(",") + "\n";
        let (step, _) = as_json(|to| decoder.step(row.as_bytes(), file.len() as u64, false, to));
        assert_eq!(step.unwrap(), Step::Row(row.len()));
    }
}

#[test]
fn after_a_truncation_rows_without_a_header_go_on_under_the_former_one() {
    let schema = r#"{"fields":[{"name":"seq","type":"integer"},{"name":"text","type":"string"}]}"#;
    for schema in [None, Some(schema)] {
        for (content, numbers) in [
            ("3,c\n4,d\n", &["3", "4"][..]),
            ("seq,text\n3,c\n", &["3"]),
            ("\n\nseq,text\n3,c\nseq,text\n4,d\n", &["3", "4"]),
            ("text,seq\nc,3\n", &["3"]),
        ] {
            let mut decoder = foreign(schema, None);
            decode(&mut decoder, b"seq,text\n1,a\n").unwrap();
            // Other content.
            decoder.reset();
            let rows = decode(&mut decoder, content.as_bytes()).unwrap();
            let seq = |row: &Result<serde_json::Value, String>| {
                row.as_ref().unwrap()["seq"].to_string().replace('"', "")
            };
            assert_eq!(rows.iter().map(seq).collect::<Vec<_>>(), numbers, "{content}");
            // A restart.
            let mut decoder = foreign(schema, None);
            decoder.know_header(vec!["seq".into(), "text".into()]);
            assert!(decoder.resume(content.as_bytes()).unwrap());
            let rows = decode(&mut decoder, b"5,e\n").unwrap();
            let seq_of = if content.starts_with("text") { "text" } else { "seq" };
            assert_eq!(
                rows.iter().filter_map(|row| row.as_ref().ok()?.get(seq_of)).count(),
                usize::from(schema.is_none() || seq_of == "seq"),
                "{content}"
            );
        }
    }
    // What was cut has another number of columns: it is no header and no row.
    let mut decoder = foreign(None, None);
    decode(&mut decoder, b"a,b,c\n1,2,3\n").unwrap();
    decoder.reset();
    let rows = decode(&mut decoder, b",3\n4,5,6\n").unwrap();
    assert_eq!(rows[0], Err("the row has 2 columns, the header 3".into()));
    assert_eq!(rows[1].as_ref().unwrap()["a"], "4");
}

#[test]
fn a_header_that_is_repeated_in_the_middle_is_no_row() {
    let file = b"\xef\xbb\xbfa,b\n1,x\na,b\n2,y\n\xef\xbb\xbfa,b\r\n\"a\",\"b\"\n3,z\nab,\na,bb\n";
    let rows = decode(&mut foreign(None, None), file).unwrap();
    let first: Vec<_> = rows.iter().map(|row| row.as_ref().unwrap()["a"].as_str().unwrap()).collect();
    assert_eq!(first, ["1", "2", "3", "ab", "a"]);
}

#[test]
fn delimiter_and_quote_are_what_the_input_says() {
    for (delimiter, quote, file, expected) in [
        (b';', Some(b'"'), "a;b\n1,5;\"x;y\"\n", "x;y"),
        (b'\t', Some(b'"'), "a\tb\n1,5\t\"x\ty\"\n", "x\ty"),
        (b'|', Some(b'\''), "a|b\n1,5|'x|''y'\n", "x|'y"),
        (b'\t', None, "a\tb\n1,5\t\"x\n", "\"x"),
    ] {
        let mut decoder = foreign(None, None).with(Dialect { delimiter, quote }, None);
        let rows = decode(&mut decoder, file.as_bytes()).unwrap();
        let row = rows[0].as_ref().unwrap();
        assert_eq!((&row["a"], &row["b"]), (&"1,5".into(), &expected.into()), "{file}");
    }
}

#[test]
fn columns_that_meet_ours_or_have_no_name_become_fields_all_the_same() {
    let rows = decode(&mut foreign(None, None), b",host,log,a,a,_id\n0,web,l,1,2,7\n").unwrap();
    let row = rows[0].as_ref().unwrap();
    for (field, value) in
        [("_", "0"), ("host.value", "web"), ("log.value", "l"), ("a", "1"), ("a_2", "2"), ("_id_", "7")]
    {
        assert_eq!(row[field], value, "{field}");
    }
    assert_eq!((&row["host.name"], &row["log.offset"]), (&"node-1".into(), &18.into()));
}

#[test]
fn a_header_that_does_not_fit_the_schema_is_named() {
    let schema = r#"{"fields":[{"name":"a","type":"string"}]}"#;
    let error = decode(&mut foreign(Some(schema), None), b"a,b\n").unwrap_err().to_string();
    assert_eq!(error, "its column 'b' is not in the schema, which has: a");
    let error = decode(&mut foreign(None, Some("time")), b"a,b\n").unwrap_err().to_string();
    assert_eq!(error, "its header has no column 'time', the input's timestamp_field");
}

#[test]
fn every_cut_of_the_bytes_gives_the_same_rows() {
    let whole = b"a,b\n1,\"x\ny\"\n2,\"\"\"\"\n3,z\n";
    let expected = decode(&mut foreign(None, None), whole).unwrap();
    assert_eq!(expected.len(), 3);
    for cut in 0..whole.len() {
        let mut decoder = foreign(None, None);
        let (mut at, mut rows) = (0, 0);
        for end in [cut, whole.len()] {
            let mut step =
                |at| as_json(|row| decoder.step(&whole[at..end], at as u64, false, row)).0.unwrap();
            while let step @ (Step::Row(used) | Step::Nothing(used)) = step(at) {
                rows += usize::from(matches!(step, Step::Row(_)));
                at += used;
            }
        }
        assert_eq!((rows, at), (3, whole.len()), "cut at {cut}");
    }
}
