/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Aggregates of an interval live in one of two maps that take turns in an array of maps: programs fill the
 * one in the array, user space reads and empties the other. The kernel returns from replacing the map in the
 * array only after every program that may still use the old one has ended: nothing is lost between reading
 * and emptying. This tells what the maps are like, src/interval.rs makes them.
 *
 *	INTERVAL_MAPS(sizes, BPF_MAP_TYPE_HASH, BPF_F_NO_PREALLOC, struct process_key, struct sizes);
 */
#ifndef KUMON_INTERVAL_H
#define KUMON_INTERVAL_H

#include "kumon.h"

#define INTERVAL_MAPS(name, map_type, flags, key_type, value_type)                                           \
    struct name##_map {                                                                                      \
        __uint(type, map_type);                                                                              \
        __uint(max_entries, 1);                                                                              \
        __uint(map_flags, flags);                                                                            \
        __uint(key_size, sizeof(key_type));                                                                  \
        __uint(value_size, sizeof(value_type));                                                              \
    };                                                                                                       \
    struct {                                                                                                 \
        __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);                                                            \
        __uint(max_entries, 1);                                                                              \
        __type(key, u32);                                                                                    \
        __array(values, struct name##_map);                                                                  \
    } name SEC(".maps")

/* The key whose value takes in what finds no place of its own; user space puts it into each map at first. */
static const u64 other_key[4];

/* The map to fill now. */
static __always_inline void *current_map(void *maps) {
    u32 zero = 0;

    return bpf_map_lookup_elem(maps, &zero);
}

/* The value of `key` in a hash, begun as a copy of `initial`; that of other_key where the hash is full. */
static __always_inline void *value_of(void *map, const void *key, const void *initial) {
    void *value = bpf_map_lookup_elem(map, key);

    if (value)
        return value;
    /* Another CPU may be quicker: then its value is found. */
    bpf_map_update_elem(map, key, initial, BPF_NOEXIST);
    value = bpf_map_lookup_elem(map, key);
    return value ?: bpf_map_lookup_elem(map, &other_key);
}

#endif
