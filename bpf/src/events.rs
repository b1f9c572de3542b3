//! Reading an object's ring buffer.

use std::cell::RefCell;
use std::rc::Rc;

use libbpf_rs::{MapCore, RingBuffer, RingBufferBuilder};

/// How many events are copied out at a time; bounds the memory of a batch.
const BATCH: usize = 256;
/// How many batches one poll takes at most: a storm must not keep the poll thread from its other collectors.
const BATCHES: usize = 256;

/// The reading side of a ring buffer.
pub(crate) struct Events {
    ring: RingBuffer<'static>,
    batch: Rc<RefCell<Batch>>,
}

/// Events one after the other, with their ends.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Events {
    /// Opens the ring buffer `map`.
    pub(crate) fn new(map: &dyn MapCore) -> libbpf_rs::Result<Events> {
        let batch = Rc::new(RefCell::new(Batch::default()));
        let filled = Rc::clone(&batch);
        let mut builder = RingBufferBuilder::new();
        builder.add(map, move |event| {
            let mut batch = filled.borrow_mut();
            batch.bytes.extend_from_slice(event);
            let end = batch.bytes.len();
            batch.ends.push(end);
            0
        })?;
        Ok(Events { ring: builder.build()?, batch })
    }

    /// Hands over what is there; where more than one poll's share has come, the rest waits for the next one, unless
    /// `all` is asked for (nothing may be filling the buffer then).
    ///
    /// # Errors
    /// When the ring buffer can't be read.
    pub(crate) fn take(&mut self, all: bool, mut event: impl FnMut(&[u8])) -> libbpf_rs::Result<()> {
        let mut batches = 0;
        loop {
            let taken = self.ring.consume_raw_n(BATCH);
            if taken < 0 {
                return Err(libbpf_rs::Error::from_raw_os_error(-taken));
            }
            let mut batch = self.batch.borrow_mut();
            let mut start = 0;
            for &end in &batch.ends {
                event(&batch.bytes[start..end]);
                start = end;
            }
            batch.bytes.clear();
            batch.ends.clear();
            batches += 1;
            if taken == 0 || (batches == BATCHES && !all) {
                return Ok(());
            }
        }
    }
}

/// Reads a C struct at the start of an event.
///
/// # Safety
/// Every bit pattern must be a valid `T`: integers and arrays of them, no references, no `bool`.
pub(crate) unsafe fn read<T: Copy>(event: &[u8]) -> Option<T> {
    // SAFETY: the length is checked, unaligned reads are fine, and the caller vouches for the bit pattern.
    (event.len() >= size_of::<T>()).then(|| unsafe { event.as_ptr().cast::<T>().read_unaligned() })
}

/// A NUL-terminated name in a fixed array, without its end.
pub(crate) fn name(array: &[i8]) -> &[u8] {
    // SAFETY: i8 and u8 have the same layout.
    let bytes = unsafe { std::slice::from_raw_parts(array.as_ptr().cast::<u8>(), array.len()) };
    bytes.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// The bytes of an event as the ring buffer has them, for tests: a C struct and what follows it.
#[cfg(test)]
pub(crate) fn event_bytes<T: Copy>(head: &T, text: &[u8]) -> Vec<u8> {
    // SAFETY: the types of events are integers and arrays of them, made as a whole by the test.
    let bytes = unsafe { std::slice::from_raw_parts(std::ptr::from_ref(head).cast::<u8>(), size_of::<T>()) };
    [bytes, text].concat()
}

/// A name as the kernel keeps it, for tests.
#[cfg(test)]
pub(crate) fn comm(name: &[u8]) -> [i8; 16] {
    let mut comm = [0; 16];
    comm.iter_mut().zip(name).for_each(|(to, &from)| *to = from as i8);
    comm
}
