//! Child processes that end with their test.

use std::io;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::wait_for;

/// A child process, killed and reaped when dropped.
pub struct Child(std::process::Child);

impl Child {
    /// Starts `command`.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn spawn(command: &mut Command) -> Child {
        Child(command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}")))
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        // A child that has already ended and was reaped has nothing to be told.
        let _ = kill_process(self.pid(), signal);
    }

    /// SIGTERM, and its exit status.
    ///
    /// # Panics
    /// When it doesn't end within `limit`.
    pub fn terminate(mut self, limit: Duration) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait(limit)
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it doesn't end within `limit`.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let mut status = None;
        wait_for("a child process to end", limit, || {
            status = self.0.try_wait().expect("waiting for an own child");
            status.is_some()
        });
        status.expect("wait_for returned, so there is a status")
    }

    /// SIGKILL, and its end.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn kill(&mut self) -> io::Result<ExitStatus> {
        self.0.kill()?;
        self.0.wait()
    }

    /// The child's standard streams, as `std` gives them.
    pub fn inner(&mut self) -> &mut std::process::Child {
        &mut self.0
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.0.id() as i32).expect("a child's pid is not 0")
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}
