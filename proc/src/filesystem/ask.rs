//! Asks file systems how full they are. A network file system whose server is gone, or a FUSE one whose process is stuck,
//! doesn't answer: each is asked in a thread of its own, so that it takes none but itself with it.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags, fstatvfs, open, statx};
use rustix::io::Errno;

use super::mounts::{Device, Place};

/// How many may be asked at once, those that hang among them.
const MOST: usize = 64;
/// How long answers are waited for. It takes microseconds on a sound disk, milliseconds over a network.
const PATIENCE: Duration = Duration::from_secs(1);
/// A thread that asks needs little.
const STACK: usize = 64 << 10;

/// What a file system answers.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// How full it is, and which of its mounts is there.
    Numbers(Numbers, usize),
    /// It holds nothing that could be full.
    Nothing,
    /// Something else lies over each of its mounts, or it was unmounted just now.
    OutOfSight,
    Unreadable(String),
    /// It has not answered, neither now nor since it was asked an interval or more ago.
    Hanging,
}

/// In bytes, and inodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Numbers {
    pub(super) total: u64,
    pub(super) free: u64,
    /// What is free to others than root.
    pub(super) available: u64,
    pub(super) inodes: u64,
    pub(super) inodes_free: u64,
}

#[derive(Debug)]
pub(super) struct Asker {
    /// Those whose thread has not come back. None of them is asked again before.
    asked: HashSet<Device>,
    sender: Sender<(Device, Answer)>,
    answers: Receiver<(Device, Answer)>,
}

impl Default for Asker {
    fn default() -> Asker {
        let (sender, answers) = channel();
        Asker { asked: HashSet::new(), sender, answers }
    }
}

impl Asker {
    /// Asks each; one without an answer was not asked, as too many hang.
    pub(super) fn ask(&mut self, mut questions: Vec<(Device, Vec<Place>)>) -> HashMap<Device, Answer> {
        // They have come back too late for their interval.
        for (device, _) in self.answers.try_iter() {
            self.asked.remove(&device);
        }
        let mut answers = HashMap::new();
        questions.retain(|(device, _)| {
            let hangs = self.asked.contains(device);
            if hangs {
                answers.insert(*device, Answer::Hanging);
            }
            !hangs
        });
        // Those on a disk of this node come first, so that others leave them room.
        questions.sort_by_key(|((major, _), _)| *major == 0);
        let mut questions = questions.into_iter();
        loop {
            let room = MOST.saturating_sub(self.asked.len());
            let wave: HashSet<Device> =
                questions.by_ref().take(room).filter_map(|question| self.begin(question)).collect();
            if wave.is_empty() {
                return answers;
            }
            self.wait_for(wave, &mut answers);
        }
    }

    /// None where there can be no more threads.
    fn begin(&mut self, (device, places): (Device, Vec<Place>)) -> Option<Device> {
        let sender = self.sender.clone();
        // Whoever asked may be gone by then.
        let work = move || _ = sender.send((device, answer(&places)));
        let thread = thread::Builder::new().name("filesystem".into()).stack_size(STACK);
        thread.spawn(work).ok()?;
        self.asked.insert(device);
        Some(device)
    }

    fn wait_for(&mut self, mut wave: HashSet<Device>, answers: &mut HashMap<Device, Answer>) {
        let deadline = Instant::now() + PATIENCE;
        while !wave.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok((device, answer)) = self.answers.recv_timeout(left) else { break };
            self.asked.remove(&device);
            if wave.remove(&device) {
                answers.insert(device, answer);
            }
        }
        answers.extend(wave.into_iter().map(|device| (device, Answer::Hanging)));
    }
}

/// Asks where it can be reached.
fn answer(places: &[Place]) -> Answer {
    let mut refused = None;
    for place in places {
        match numbers(place) {
            Ok(Some(Numbers { total: 0, .. })) => return Answer::Nothing,
            Ok(Some(numbers)) => return Answer::Numbers(numbers, place.mount),
            Ok(None) | Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(error) => refused = Some(io::Error::from(error).to_string()),
        }
    }
    refused.map_or(Answer::OutOfSight, Answer::Unreadable)
}

/// None where another mount is there.
fn numbers(place: &Place) -> rustix::io::Result<Option<Numbers>> {
    // Nothing is opened by that, and nothing mounted; it needs no right to read.
    let mount = open(&place.path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    // Nothing is asked for: what the mount's id is the kernel knows without the file system, since Linux 5.8.
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let there = statx(&mount, c"", flags, StatxFlags::empty())?;
    if there.stx_mask & StatxFlags::MNT_ID.bits() != 0 && there.stx_mnt_id != place.id {
        return Ok(None);
    }
    let of = fstatvfs(&mount)?;
    let bytes = |blocks: u64| blocks.saturating_mul(of.f_frsize);
    Ok(Some(Numbers {
        total: bytes(of.f_blocks),
        free: bytes(of.f_bfree),
        available: bytes(of.f_bavail),
        inodes: of.f_files,
        inodes_free: of.f_ffree,
    }))
}
