/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * What every collector shares: loss counters, the ring buffer, leaving out KuMon, the identity of a process.
 * A collector's file begins with
 *
 *	enum metric { METRIC_EXEC, METRIC_EXIT };
 *	#include "kumon.h"
 *
 * and its Rust side names the same metrics in the same order.
 */
#ifndef KUMON_H
#define KUMON_H

#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

/* The kernel gives the tracing helpers to GPL-compatible programs only. */
char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* Puts a type into the object's BTF, from which the skeleton makes its Rust twin. */
#define EXPORT_TYPE(name) struct name *export_##name __attribute__((unused))

/* Why something was lost; src/object.rs names them in this order. */
enum loss_reason {
    LOSS_RING_BUFFER_FULL,
    LOSS_MAP_FULL,
    LOSS_SAMPLED_OUT,
    LOSS_NO_PROCESS,
    LOSS_MISSED_SWITCH,
    LOSS_RATE_LIMIT,
    LOSS_NOT_DECODED,
    LOSS_REASONS,
};
#define MAX_METRICS 8

/* One counter for each metric and reason, all in one element, so that user space reads them at once. */
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, u32);
    __type(value, u64[MAX_METRICS * LOSS_REASONS]);
} losses SEC(".maps");

/* Counts one lost event or key of a metric (the collector's enum metric). */
static __always_inline void lost(u32 metric, enum loss_reason reason) {
    u32 all = 0, index = metric * LOSS_REASONS + reason;
    u64 *counts = bpf_map_lookup_elem(&losses, &all);

    /* Atomic, because an interrupt's program may count on the same CPU. */
    if (counts && index < MAX_METRICS * LOSS_REASONS)
        __sync_fetch_and_add(&counts[index], 1);
}

/*
 * The ring buffer of single events. Declare it with EVENTS(bytes) once per object; user space may resize it
 * before loading. Waking the reader costs fifty times what the event itself does, so nobody is woken: user
 * space polls.
 */
#define EVENTS(bytes)                                                                                        \
    struct {                                                                                                 \
        __uint(type, BPF_MAP_TYPE_RINGBUF);                                                                  \
        __uint(max_entries, bytes);                                                                          \
    } events SEC(".maps")

/* Space for an event of a type, NULL and counted as lost where there is none. */
#define reserve_event(metric, type)                                                                          \
    ({                                                                                                       \
        type *reserved_ = bpf_ringbuf_reserve(&events, sizeof(type), 0);                                     \
        if (!reserved_)                                                                                      \
            lost(metric, LOSS_RING_BUFFER_FULL);                                                             \
        reserved_;                                                                                           \
    })

#define submit_event(event) bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP)

/* Copies an event of any length; for those that are put together elsewhere because their length varies. */
#define send_event(metric, event, size)                                                                      \
    ({                                                                                                       \
        if (bpf_ringbuf_output(&events, event, size, BPF_RB_NO_WAKEUP))                                      \
            lost(metric, LOSS_RING_BUFFER_FULL);                                                             \
    })

/* What user space sets before loading in every object alike, src/selection.rs. */
struct selection {
    /* enum filter_kind */
    u32 filters;
    /* One event in so many is told; 0 and 1 tell all. */
    u32 sample;
    /* ns in which the budget earns a row, see budget.h; 0 without a budget. */
    u32 row_time;
};
struct shared_settings {
    u32 exclude_self;
    struct selection metrics[MAX_METRICS];
};
EXPORT_TYPE(shared_settings);
const volatile struct shared_settings shared SEC(".rodata.shared") = {};

/* The process ids of KuMon; user space keeps them, and fills up with -1, which is none. */
#define MAX_SELF 4
volatile u32 self_tgids[MAX_SELF] SEC(".data.self") = {-1, -1, -1, -1};

static __always_inline bool is_self(u32 tgid) {
    if (!shared.exclude_self)
        return false;
    return tgid == self_tgids[0] || tgid == self_tgids[1] || tgid == self_tgids[2] || tgid == self_tgids[3];
}

/* With the process id this makes process.entity_id: ns of CLOCK_BOOTTIME at which the process was started. */
static __always_inline u64 process_start(const struct task_struct *task) {
    return BPF_CORE_READ(task, group_leader, start_boottime);
}

#include "filter.h"

#endif
