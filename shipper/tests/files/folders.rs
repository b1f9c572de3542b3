//! Folders that come and go.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use kumon_testing::{SmallDisk, wait_for};

use crate::stand_in::StandIn;
use crate::support::{LIMIT, Place, append, exactly, lines};

/// What happens to folders, and where a new file is then.
type Happening = fn(&Path) -> std::path::PathBuf;

fn make(folder: &Path) -> std::path::PathBuf {
    fs::create_dir_all(folder).unwrap();
    folder.join("app.log")
}

/// Looks alone would take two seconds for each.
#[test]
fn short_lived_files_in_folders_that_come_and_go_are_found_by_events() {
    let happenings: [(&str, Happening); 10] = [
        ("a new folder", |root| make(&root.join("pods/a/b"))),
        ("a new folder in a known one", |root| make(&root.join("pods/a/c"))),
        ("new folders at every depth", |root| make(&root.join("pods/d/e"))),
        ("removed and made again", |root| {
            fs::remove_dir_all(root.join("pods/d")).unwrap();
            make(&root.join("pods/d/e"))
        }),
        ("renamed", |root| {
            fs::rename(root.join("pods/a"), root.join("pods/f")).unwrap();
            make(&root.join("pods/f/b"))
        }),
        ("the old name given again", |root| make(&root.join("pods/a/b"))),
        ("all of them removed and made again", |root| {
            fs::remove_dir_all(root.join("pods")).unwrap();
            make(&root.join("pods/a/b"))
        }),
        ("a folder on the way renamed and made again", |root| {
            fs::rename(root, root.with_extension("old")).unwrap();
            make(&root.join("pods/a/b"))
        }),
        ("moved in from elsewhere", |root| {
            let elsewhere = root.with_extension("new");
            make(&elsewhere.join("x"));
            fs::rename(elsewhere, root.join("pods/x")).unwrap();
            make(&root.join("pods/x/x"))
        }),
        ("a link to a folder elsewhere", |root| {
            let elsewhere = root.with_extension("elsewhere");
            fs::create_dir(&elsewhere).unwrap();
            std::os::unix::fs::symlink(&elsewhere, root.join("pods/link")).unwrap();
            make(&root.join("pods/link/x"))
        }),
    ];
    for pattern in ["pods/*/*/app.log", "**/app.log"] {
        let (mut place, sink) = (Place::new(), StandIn::default());
        let root = place.path("root");
        fs::create_dir(&root).unwrap();
        place.options.inputs[0].paths = vec![root.join(pattern).to_str().unwrap().to_owned()];
        let ship = place.ship(&sink);
        ship.sync();
        let start = Instant::now();
        let mut written = 0;
        for (what, happening) in happenings {
            // Links are no way for `**`: they may lead round in a circle.
            if pattern.starts_with("**") && what.contains("link") {
                continue;
            }
            let file = happening(&root);
            append(&file, &lines(written..written + 1));
            written += 1;
            wait_for(what, LIMIT, || sink.len() as u64 == written);
            fs::remove_file(file).unwrap();
        }
        let took = start.elapsed();
        assert!(took < Duration::from_secs(written), "{written} were found in {took:?}");
        exactly(&sink, 0..written);
    }
}

#[test]
fn files_of_a_file_system_that_is_mounted_over_a_folder_are_found_by_events() {
    if !kumon_testing::require_root() {
        return;
    }
    let (mut place, sink) = (Place::new(), StandIn::default());
    let root = place.path("pods");
    append(&make(&root.join("a")), &lines(0..1));
    place.options.inputs[0].paths = vec![root.join("*/app.log").to_str().unwrap().to_owned()];
    let ship = place.ship(&sink);
    ship.sync();
    let start = Instant::now();
    let disk = SmallDisk::mount(root.join("a"), c"size=1m");
    append(&disk.path().join("app.log"), &lines(1..2));
    wait_for("the row of the mounted file system", LIMIT, || sink.len() == 2);
    append(&disk.path().join("app.log"), &lines(2..3));
    wait_for("its next row", LIMIT, || sink.len() == 3);
    drop(disk);
    append(&root.join("a/app.log"), &lines(3..4));
    wait_for("the next row of what was under it", LIMIT, || sink.len() == 4);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    exactly(&sink, 0..4);
}
