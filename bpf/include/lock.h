/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Locks for what two CPUs must not change at once. Tracing programs may not take bpf_spin_lock, and kernels
 * before 5.12 have no compare-and-swap for BPF; what every kernel does is to insert a key only once.
 */
#ifndef KUMON_LOCK_H
#define KUMON_LOCK_H

#include "kumon.h"

/* What is locked now, by its address: at most one on each CPU and one in each interrupt of it. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 4096);
    __type(key, u64);
    __type(value, u8);
} locks SEC(".maps");

/* False while somebody else has it: a program must not wait, it may have interrupted the holder. */
static __always_inline bool try_lock(const volatile void *what) {
    u64 key = (u64)what;
    u8 held = 1;

    return bpf_map_update_elem(&locks, &key, &held, BPF_NOEXIST) == 0;
}

static __always_inline void unlock(const volatile void *what) {
    u64 key = (u64)what;

    bpf_map_delete_elem(&locks, &key);
}

#endif
