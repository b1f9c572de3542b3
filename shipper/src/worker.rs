//! Threads that do what must not hold up the loop that ships.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use crate::handle::Message;

/// A thread that does jobs, one after the other, and tells the loop of each.
#[derive(Debug)]
pub(crate) struct Worker<Job> {
    jobs: Sender<Job>,
    thread: Option<JoinHandle<()>>,
}

impl<Job: Send + 'static> Worker<Job> {
    /// Starts the thread `name`. What `work` makes of a job goes to `messages`, and so does that it died of a bug.
    pub(crate) fn start(
        name: &str,
        messages: Sender<Message>,
        work: impl FnMut(Job) -> Message + Send + 'static,
    ) -> io::Result<Worker<Job>> {
        let (jobs, to_do) = channel();
        let thread = std::thread::Builder::new().name(name.to_owned());
        let thread = thread.spawn(move || work_off(&to_do, &messages, work))?;
        Ok(Worker { jobs, thread: Some(thread) })
    }

    /// Gives it a job, to be done after those before it.
    pub(crate) fn give(&self, job: Job) {
        // Who takes it lives as long as this does, or dies of a bug, of which a message tells.
        let _ = self.jobs.send(job);
    }
}

impl<Job> Drop for Worker<Job> {
    /// Waits for the job that is under way, so that nobody uses what it uses any more.
    fn drop(&mut self) {
        (self.jobs, _) = channel();
        let Some(thread) = self.thread.take() else { return };
        let name = thread.thread().name().unwrap_or_default().to_owned();
        if thread.join().is_err() {
            log::error!("the thread '{name}' died; its rows are sent again after the next start");
        }
    }
}

fn work_off<Job>(to_do: &Receiver<Job>, messages: &Sender<Message>, mut work: impl FnMut(Job) -> Message) {
    let _guard = PanicGuard(messages);
    while let Ok(job) = to_do.recv() {
        // The shipper may have ended.
        let _ = messages.send(work(job));
    }
}

/// Tells of a thread that a bug ended: nobody is to wait for its answer in vain.
struct PanicGuard<'a>(&'a Sender<Message>);

impl Drop for PanicGuard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The shipper may have ended.
            let _ = self.0.send(Message::Died);
        }
    }
}
