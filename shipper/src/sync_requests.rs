//! Those who wait until what stood in the files is delivered for good.

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;
use std::sync::mpsc::Sender;

/// Where files end, by generation, in bytes.
pub(crate) type Ends = HashMap<Arc<str>, u64>;

#[derive(Debug, Default)]
pub(crate) struct SyncRequests(Vec<Request>);

#[derive(Debug)]
struct Request {
    /// `None` while files are being decompressed: nobody knows where those end.
    ends: Option<Ends>,
    reply: Sender<bool>,
}

impl SyncRequests {
    pub(crate) fn push(&mut self, ends: Option<Ends>, reply: Sender<bool>) {
        self.0.push(Request { ends, reply });
    }

    /// Whether some wait until it is known where the files end.
    pub(crate) fn lack_ends(&self) -> bool {
        self.0.iter().any(|request| request.ends.is_none())
    }

    /// Tells those where the files end.
    pub(crate) fn set_ends(&mut self, ends: &Ends) {
        for request in self.0.iter_mut().filter(|request| request.ends.is_none()) {
            request.ends = Some(ends.clone());
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether for one of them everything is taken by the sink, as `is_reached` tells of ends that are known.
    pub(crate) fn is_any_reached(&self, is_reached: impl Fn(&Ends) -> bool) -> bool {
        self.0.iter().filter_map(|request| request.ends.as_ref()).any(is_reached)
    }

    /// Answers those that wait for nothing more; where shipping is `halted`, all.
    pub(crate) fn answer(&mut self, is_done: impl Fn(&Ends) -> bool, halted: bool) {
        for request in mem::take(&mut self.0) {
            let done = request.ends.as_ref().is_some_and(&is_done);
            if done || halted {
                // Who asked may have given up waiting.
                let _ = request.reply.send(done);
            } else {
                self.0.push(request);
            }
        }
    }
}
