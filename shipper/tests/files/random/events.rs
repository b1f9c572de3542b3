//! What happens to files, folders and inputs in the random tests.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{FOLDER, Run};
use crate::compressed::packed;
use crate::copies::gzip;
use crate::support::open;

impl Run {
    /// What nobody ever saw of a file is nobody's loss but its own; what it held is known from then on, and what
    /// follows, whatever happens to shipper and sink, must not be lost.
    fn let_it_be_seen(&mut self, path: &Path) {
        self.write(path.to_owned());
        self.settle();
        for _ in 0..self.random.below(4) {
            match self.random.below(4) {
                0 => self.stop_or_start(),
                1 => self.fault(),
                _ => self.write(path.to_owned()),
            }
        }
    }

    pub(super) fn rename(&mut self, path: PathBuf) {
        self.let_it_be_seen(&path);
        self.rotations += 1;
        let extension = path.extension().unwrap().to_str().unwrap().to_owned();
        let extension = if self.random.below(2) == 0 { "old".to_owned() } else { extension };
        let to = path.with_extension(format!("{}.{extension}", self.rotations));
        fs::rename(&path, &to).unwrap();
        self.log.push(format!("rename {} to {}", path.display(), to.display()));
        self.compress(&to);
    }

    pub(super) fn copy_and_truncate(&mut self, path: PathBuf) {
        self.let_it_be_seen(&path);
        self.rotations += 1;
        // Sometimes over an older copy.
        let number = if self.random.below(3) == 0 { 0 } else { self.rotations };
        let to = PathBuf::from(format!("{}.{number}", path.display()));
        fs::copy(&path, &to).unwrap();
        self.truncate(&path);
        self.log.push(format!("copy {} to {}", path.display(), to.display()));
        self.compress(&to);
        self.settle_copy(number);
    }

    /// A copy that the next one may overwrite is given the time to be read.
    fn settle_copy(&mut self, number: u64) {
        if number == 0 {
            self.settle();
        }
    }

    fn compress(&mut self, path: &Path) {
        if self.random.below(2) == 0 {
            std::thread::sleep(Duration::from_millis(self.random.below(20)));
            if self.random.below(2) == 0 {
                gzip(path);
            } else {
                let to = PathBuf::from(format!("{}.gz", path.display()));
                // Of an older copy.
                let _ = fs::remove_file(&to);
                self.write_in_parts(&to, &packed(&fs::read(path).unwrap()));
                fs::remove_file(path).unwrap();
            }
            self.log.push(format!("compress {}", path.display()));
        }
    }

    /// Truncates the file, or deletes it and lets another one take its inode; what it held must have arrived.
    pub(super) fn replace(&mut self, path: PathBuf) {
        self.settle();
        if self.random.below(3) == 0 {
            self.stop_or_start();
        }
        if self.random.below(2) == 0 {
            self.truncate(&path);
        } else {
            fs::remove_file(&path).unwrap();
            self.log.push(format!("delete {}", path.display()));
        }
        self.write(path);
    }

    /// Truncates the file; where its writer doesn't append, a hole is where rows were.
    fn truncate(&mut self, path: &Path) {
        let (file, size) = (open(path), fs::metadata(path).unwrap().len());
        file.set_len(0).unwrap();
        let hole = if self.random.below(4) == 0 { size } else { 0 };
        file.set_len(hole).unwrap();
        self.log.push(format!("truncate {}, leaving a hole of {hole}", path.display()));
    }

    /// From a few bytes to some MiB.
    fn size_of_hole(&mut self) -> u64 {
        let bits = self.random.below(22);
        1 + self.random.below(2 << bits)
    }

    /// A hole of any size, at the beginning of a truncated file or behind what is there; then rows follow.
    pub(super) fn leave_a_hole(&mut self, path: PathBuf) {
        let hole = self.size_of_hole();
        if self.random.below(2) == 0 {
            self.settle();
            if self.random.below(3) == 0 {
                self.stop_or_start();
            }
            open(&path).set_len(0).unwrap();
        }
        let file = open(&path);
        let at = file.metadata().unwrap().len();
        file.set_len(at + hole).unwrap();
        self.log.push(format!("a hole of {hole} at {at} of {}", path.display()));
        self.write(path);
    }

    /// A writer that takes space in advance, writes into it, and sometimes gives back what is left.
    pub(super) fn take_space(&mut self, path: PathBuf) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let file = open(&path);
        let at = file.metadata().unwrap().len();
        let text = self.text(&path);
        let size = at + text.len() as u64 + self.size_of_hole();
        file.set_len(size).unwrap();
        self.log.push(format!("space up to {size} for these at {at}"));
        // Not `file`: with O_APPEND all is written at the end.
        let (file, mut done) = (File::options().write(true).open(&path).unwrap(), 0);
        while done < text.len() {
            let part = 1 + self.random.below((text.len() - done) as u64) as usize;
            file.write_all_at(&text.as_bytes()[done..done + part], at + done as u64).unwrap();
            done += part;
            match self.random.below(8) {
                0 => self.stop_or_start(),
                1 => self.fault(),
                _ => {}
            }
        }
        if self.random.below(2) == 0 {
            file.set_len(at + text.len() as u64).unwrap();
            self.log.push("the rest is given back".into());
        }
    }

    /// As rsync, `sed -i` and editors do: what was there and more is written beside it and renamed over it.
    pub(super) fn rename_over(&mut self, path: PathBuf) {
        if fs::read(&path).unwrap().first() == Some(&0) {
            // Rows without a header of their own have one only in this file, until some of them are read.
            self.write(path.clone());
            self.settle();
        }
        if !self.renamed_over.insert(path.clone()) {
            // Unseen in between, it may have its first inode again: then it looks as if it was deleted and made again.
            self.settle();
            self.renamed_over.insert(path.clone());
        }
        if self.random.below(3) == 0 {
            self.stop_or_start();
        }
        let new = path.with_file_name(".new");
        let text = self.text(&path);
        fs::write(&new, [fs::read(&path).unwrap(), text.into_bytes()].concat()).unwrap();
        if self.random.below(3) == 0 {
            // As `rsync -t` does.
            let time = fs::metadata(&path).unwrap().modified().unwrap();
            open(&new).set_modified(time).unwrap();
        }
        fs::rename(new, &path).unwrap();
        self.log.push(format!("{} renamed over with these", path.display()));
    }

    pub(super) fn move_folder(&mut self) {
        let folder = self.place.path(FOLDER);
        let path = folder.join(if self.random.below(2) == 0 { "4.ndjson" } else { "5.csv" });
        match self.random.below(3) {
            0 => {
                let away = self.place.folder.path().join("away");
                fs::rename(&folder, &away).unwrap();
                self.log.push("the folder is away".into());
                for _ in 0..self.random.below(6) {
                    // Who writes to the file has it still.
                    self.meanwhile(&away.join(path.file_name().unwrap()));
                }
                fs::rename(&away, &folder).unwrap();
                self.log.push("the folder is back".into());
            }
            1 => {
                self.settle();
                self.rotations += 1;
                let to = self.place.path(&format!("{FOLDER}{}", self.rotations));
                fs::rename(&folder, &to).unwrap();
                self.log.push(format!("the folder becomes {}", to.display()));
                self.write(to.join(path.file_name().unwrap()));
                self.write(path);
            }
            _ => {
                self.settle();
                if self.random.below(3) == 0 {
                    self.stop_or_start();
                }
                fs::remove_dir_all(&folder).unwrap();
                self.log.push("the folder is removed".into());
                self.write(path);
            }
        }
    }

    /// Starts with other inputs, and then with these again.
    pub(super) fn change_inputs(&mut self) {
        let inputs = self.place.options.inputs.clone();
        let renamed = if self.random.below(3) == 0 { Some(self.any_file()) } else { None };
        if let Some(path) = &renamed {
            // Seen by then, as in `let_it_be_seen`.
            self.write(path.clone());
            self.settle();
        }
        let before = self.shipping.stop(&mut self.random);
        self.log.extend(before);
        let change = self.random.below(4);
        let input = self.random.below(2) as usize;
        let changed = &mut self.place.options.inputs;
        match change {
            0 => _ = changed.remove(input),
            1 => changed[input].paths.iter_mut().for_each(|path| path.push('x')),
            2 => changed.reverse(),
            _ => changed[input].paths.iter_mut().for_each(|path| *path = path.replace("*.", "[0-9]*.")),
        }
        self.log.push(format!("change {change} of input {input}"));
        self.shipping.start(&self.place);
        for _ in 0..1 + self.random.below(4) {
            let path = self.any_file();
            self.meanwhile(&path);
        }
        if let Some(path) = renamed {
            self.rotations += 1;
            let to = path.with_extension(format!("{}.old", self.rotations));
            fs::rename(&path, &to).unwrap();
            self.log.push(format!("rename {} to {}", path.display(), to.display()));
            self.write(path);
        }
        let after = self.shipping.stop(&mut self.random);
        self.log.extend(after);
        self.place.options.inputs = inputs;
        self.shipping.start(&self.place);
        self.log.push("the inputs are back".into());
    }

    /// A gzip that a pattern matches, or a further member of it.
    pub(super) fn pack(&mut self) {
        let path = self.place.path(&format!("p{}.gz", self.random.below(3)));
        let text = self.text(&path);
        self.write_in_parts(&path, &packed(&text));
    }

    fn write_in_parts(&mut self, path: &Path, bytes: &[u8]) {
        let mut rest = bytes;
        for _ in 0..1 + self.random.below(2) {
            let (part, others) = rest.split_at(self.random.below(rest.len() as u64) as usize);
            open(path).write_all(part).unwrap();
            self.log.push(format!("{} bytes of {} for {}", part.len(), bytes.len(), path.display()));
            for _ in 0..1 + self.random.below(2) {
                let other = self.any_file();
                self.meanwhile(&other);
            }
            rest = others;
        }
        open(path).write_all(rest).unwrap();
        self.log.push(format!("the rest for {}", path.display()));
    }
}
