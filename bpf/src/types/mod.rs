//! The types of include/, which are the same in every object.

#[allow(
    unreachable_pub,
    dead_code,
    clippy::all,
    clippy::unwrap_used,
    reason = "generated, and of it the types are used"
)]
mod skeleton {
    include!(concat!(env!("OUT_DIR"), "/types.skel.rs"));
}

pub(crate) use skeleton::types::{
    filter_key, filter_kind, histogram, selection, share, share_key, shared_settings,
};
