//! `process.entity_id`: what identifies a process across pid reuse and reboots.

use std::{fs, io};

use crate::clock::tick;

/// Makes entity ids of this boot.
#[derive(Debug, Clone)]
pub struct Entities {
    boot: String,
    /// Nanoseconds of a clock tick.
    tick: u64,
}

impl Entities {
    /// Reads the boot id.
    ///
    /// # Errors
    /// When /proc/sys/kernel/random/boot_id can't be read.
    pub fn of_this_boot() -> io::Result<Entities> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let boot = boot.trim().replace('-', "");
        Ok(Entities { boot, tick: tick() })
    }

    /// The id of the process `pid` (thread group id) that was started at `start` ns of CLOCK_BOOTTIME.
    ///
    /// The time goes in as clock ticks (10 ms), like field 22 of /proc/pid/stat, so that what is seen in /proc
    /// joins with what BPF programs see. No pid comes back within a tick: that would take all other pids first.
    pub fn id(&self, pid: u32, start: u64) -> String {
        format!("{}-{pid}-{}", self.boot, start / self.tick)
    }
}

#[cfg(test)]
mod tests {
    use super::Entities;

    #[test]
    fn what_proc_says_about_this_process_makes_the_same_id_within_a_tick() {
        let entities = Entities::of_this_boot().unwrap();
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let ticks: u64 = stat.rsplit_once(')').unwrap().1.split(' ').nth(20).unwrap().parse().unwrap();
        let id = entities.id(std::process::id(), ticks * entities.tick + entities.tick - 1);
        assert!(id.ends_with(&format!("-{}-{ticks}", std::process::id())), "{id}");
    }
}
