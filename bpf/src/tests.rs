//! Objects as they are opened and loaded, of several collectors.

use kumon_testing::require_bpf;
use libbpf_rs::{AsRawLibbpf, MapCore, libbpf_sys, skel::OpenSkel};

use crate::Settings;
use crate::block::Block;
use crate::object::Opened;
use crate::sched::Sched;

fn sched(settings: &Settings) -> Sched {
    crate::sched::collector(settings.object(), &settings.sched)
}

fn block(settings: &Settings) -> Block {
    crate::block::collector(settings.object(), &settings.block)
}

/// Arrays of maps, and how many keys their maps take as the kernel says. Both maps of an array must be alike in what
/// Linux before 5.10 compares with the one that the array was made for (bpf_map_meta_equal of
/// kernel/bpf/map_in_map.c), and that one must be the first of them.
fn intervals<S: OpenSkel<'static>>(mut opened: Opened<S>) -> Vec<(&'static str, u32)> {
    let mut sizes = Vec::new();
    for (name, maps) in &opened.intervals {
        let compared = maps.each_ref().map(|map| {
            let info = map.info().unwrap().info;
            [info.type_, info.key_size, info.value_size, info.map_flags, info.max_entries]
        });
        assert_eq!(compared[0], compared[1], "{name}");
        sizes.push((*name, compared[0][4]));
    }
    for map in opened.skeleton.open_object_mut().maps_mut() {
        if sizes.iter().any(|(name, _)| map.name() == *name) {
            // SAFETY: it is a map of an open object.
            let described = unsafe { libbpf_sys::bpf_map__inner_map(map.as_libbpf_object().as_ptr()) };
            assert!(described.is_null(), "{}: made for the map that is described", map.name().display());
        }
    }
    sizes
}

#[test]
fn arrays_of_maps_are_made_for_maps_of_the_very_size_that_they_get() {
    if !require_bpf() {
        return;
    }
    let mut settings = Settings::default();
    settings.sched.cputime.max_ended = 11;
    settings.block.biolatency.max_keys = 22;
    settings.block.bitesize.max_processes = 33;
    let mut sizes = intervals(sched(&settings).open().unwrap());
    settings.sched.runqlat.per_cgroup = true;
    settings.sched.runqlat.max_cgroups = 44;
    sizes.extend(intervals(sched(&settings).open().unwrap()));
    sizes.extend(intervals(block(&settings).open().unwrap()));
    let expected =
        [("ended", 12), ("waits", 1), ("ended", 12), ("cgroup_waits", 45), ("latencies", 23), ("sizes", 34)];
    assert_eq!(sizes, expected);
}

#[test]
fn a_refused_map_is_named() {
    if !require_bpf() {
        return;
    }
    let settings = Settings::default();
    let mut opened = block(&settings).open().unwrap();
    opened.size_map("queued", u32::MAX).unwrap();
    let refused = opened.load().err().unwrap().to_string();
    assert!(refused.starts_with("block: loading its BPF programs (map 'queued': "), "{refused}");
}
