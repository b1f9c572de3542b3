//! A FUSE file system with nothing in it whose server can be stopped, as a network file system's may be.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

use kumon_testing::wait_for;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// What it says it has: blocks of 4 KiB, and inodes.
pub(crate) const BLOCKS: [u64; 3] = [1000, 400, 300];
pub(crate) const INODES: [u64; 2] = [50, 20];

/// Unmounted when dropped.
pub(crate) struct Fuse {
    folder: PathBuf,
    shared: Arc<Shared>,
    server: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stopped: AtomicBool,
    /// Whether it has come to know that.
    stands: AtomicBool,
    ends: AtomicBool,
    statfs: AtomicUsize,
}

impl Fuse {
    pub(crate) fn mount(folder: &Path) -> Fuse {
        std::fs::create_dir_all(folder).unwrap();
        let device = File::options().read(true).write(true).open("/dev/fuse").unwrap();
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
        let options = CString::new(options).unwrap();
        mount("kumon-test", folder, "fuse", MountFlags::empty(), options.as_c_str()).unwrap();
        let shared = Arc::<Shared>::default();
        let of_server = Arc::clone(&shared);
        let server = Some(spawn(move || serve(device, &of_server)));
        Fuse { folder: folder.into(), shared, server }
    }

    /// As SIGSTOP does it: requests stay unanswered until it goes on.
    pub(crate) fn stop(&self, stopped: bool) {
        self.shared.stopped.store(stopped, SeqCst);
        wait_for("the server to heed it", Duration::from_secs(30), || {
            self.shared.stands.load(SeqCst) == stopped
        });
    }

    /// How often it was asked how full it is, as far as it has answered.
    pub(crate) fn asked(&self) -> usize {
        self.shared.statfs.load(SeqCst)
    }

    /// Ends the server and leaves the mount, as a crash does.
    pub(crate) fn crash(&mut self) {
        self.shared.ends.store(true, SeqCst);
        if let Some(server) = self.server.take() {
            server.join().unwrap();
        }
    }
}

impl Drop for Fuse {
    fn drop(&mut self) {
        // Whoever waits for an answer gets an error.
        self.crash();
        let _ = unmount(&self.folder, UnmountFlags::DETACH);
    }
}

fn serve(mut device: File, shared: &Shared) {
    let mut request = vec![0; 64 << 10];
    let moment = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
    while !shared.ends.load(SeqCst) {
        let stopped = shared.stopped.load(SeqCst);
        shared.stands.store(stopped, SeqCst);
        if stopped {
            sleep(Duration::from_millis(10));
            continue;
        }
        if poll(&mut [PollFd::new(&device, PollFlags::IN)], Some(&moment)).unwrap() == 0 {
            continue;
        }
        // Nobody reads any more once it is unmounted.
        let Ok(length) = device.read(&mut request) else { return };
        assert!(length >= 16);
        let unique = &request[8..16];
        let Some(answer) = answer(u32::from_ne_bytes(request[4..8].try_into().unwrap()), shared) else {
            continue;
        };
        let (error, body) = answer.map_or_else(|errno| (-errno, Vec::new()), |body| (0, body));
        let length = (16 + body.len()) as u32;
        let reply = [&length.to_ne_bytes()[..], &error.to_ne_bytes(), unique, &body].concat();
        // One that was interrupted meanwhile takes no answer.
        let _ = device.write(&reply);
    }
}

/// To a request by its number in linux/fuse.h; an error is an errno. Some want no answer.
fn answer(operation: u32, shared: &Shared) -> Option<Result<Vec<u8>, i32>> {
    let bytes = |numbers: &[u32]| numbers.iter().flat_map(|number| number.to_ne_bytes()).collect::<Vec<u8>>();
    let long = |numbers: &[u64]| numbers.iter().flat_map(|number| number.to_ne_bytes()).collect::<Vec<u8>>();
    match operation {
        // FUSE_FORGET, FUSE_INTERRUPT, FUSE_BATCH_FORGET
        2 | 36 | 42 => None,
        // FUSE_INIT: version 7.31, 64 KiB read ahead, 4 KiB written at once.
        26 => {
            let mut numbers = [0; 16];
            numbers[..3].copy_from_slice(&[7, 31, 64 << 10]);
            (numbers[5], numbers[6]) = (4 << 10, 1);
            Some(Ok(bytes(&numbers)))
        }
        // FUSE_GETATTR: a folder.
        3 => {
            let mut attributes = [0; 10];
            attributes[3..5].copy_from_slice(&[0o40_755, 2]);
            Some(Ok([long(&[0, 0, 1, 0, 0, 0, 0, 0]), bytes(&attributes)].concat()))
        }
        // FUSE_STATFS
        17 => {
            shared.statfs.fetch_add(1, SeqCst);
            let sizes = [4096, 255, 4096, 0, 0, 0, 0, 0, 0, 0];
            Some(Ok([long(&BLOCKS), long(&INODES), bytes(&sizes)].concat()))
        }
        // ENOSYS
        _ => Some(Err(38)),
    }
}
