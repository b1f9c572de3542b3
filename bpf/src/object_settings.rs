//! What the settings say about every object alike.

/// What the settings say about every BPF object alike.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ObjectSettings {
    /// KuMon's own processes are left out.
    pub(crate) exclude_self: bool,
    /// Size of the ring buffer of single events.
    pub(crate) ring_buffer_bytes: u32,
    /// Takes the ways that older kernels need.
    pub(crate) as_on_old_kernels: bool,
}

/// More than a poll's worth of events on the largest machines.
pub(crate) const MAX_RING_BUFFER_BYTES: u32 = 256 << 20;
