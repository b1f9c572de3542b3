/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Budgets of single events: how many rows a metric may have, and who may use them. A collector asks
 *
 *	if (!within_budget(METRIC_EXEC, subject_of(task)))
 *		return 0;
 *
 * once it is sure of the row, and before it goes to any expense for it. Where there is no budget the verifier
 * drops the question. src/budget.rs is the other half; docs/collectors/budgets.md says what is promised.
 *
 * A budget is a token bucket that is kept as time: each row spends the time in which it is earned, and how
 * far what was spent is ahead of the clock says how much of the budget is in use. Half of a metric's budget
 * is for all. The other half is kept for those who use no more than their share, which is a budget of its
 * own: a cgroup has a quarter of the rate. Half of its budget is for all its processes; the other half is
 * kept for those that use no more than a quarter of the cgroup's rate. Shares are looked at only while the
 * half for all is used up: else a budget costs a look at the clock and an addition.
 *
 * Without a lock, and with nothing but atomic additions, which is all that BPF has before 5.12: nothing that
 * was spent is forgotten. CPUs that ask at the same moment may each be given the last row.
 */
#ifndef KUMON_BUDGET_H
#define KUMON_BUDGET_H

#include "kumon.h"

#define MILLISECOND 1000000LL

/* How much of its rate may be in use. Four shares take four fifths of the half that is kept for them. */
#define METRIC_BURST  (2000 * MILLISECOND)
#define CGROUP_BURST  (800 * MILLISECOND)
#define PROCESS_BURST (320 * MILLISECOND)

/* How many times the time of a metric's row one takes of who has a share. */
#define CGROUP_PART  4
#define PROCESS_PART 16

/* All zeros is a whole budget. */
struct budget {
    /* ns that were spent, ever. */
    u64 spent;
    /* CLOCK_MONOTONIC, ns: when it was whole last, less what had been spent until then. */
    u64 begin;
};

/* Who is asked about; the cgroup as a whole is process 0. */
struct share_key {
    u64 cgroup;
    u32 process;
    u32 metric;
};

struct share {
    struct budget budget;
    /* Events. */
    u64 left_out;
    /* Of the process. */
    char name[TASK_COMM_LEN];
};
EXPORT_TYPE(share_key);
EXPORT_TYPE(share);

/*
 * Those who were there while the half for all was used up, until user space has read of them. Where there is
 * no room left who comes is taken for one that uses no more than its share; user space sets the size.
 */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 1);
    __type(key, struct share_key);
    __type(value, struct share);
} shares SEC(".maps");

struct budget budgets[MAX_METRICS];

static const struct share whole_share;

/* Who uses a budget: a process in a cgroup. */
struct subject {
    u64 cgroup;
    u64 process;
    /* Where the kernel has it. */
    const char *name;
};

static __always_inline const char *name_of(struct task_struct *leader) {
    return (const char *)leader + bpf_core_field_offset(struct task_struct, comm);
}

static __always_inline struct subject subject_of(struct task_struct *task) {
    return (struct subject){
        .cgroup = cgroup_id_of(task),
        .process = BPF_CORE_READ(task, tgid),
        .name = name_of(BPF_CORE_READ(task, group_leader)),
    };
}

/* ns of it that are in use: not before the clock has caught up with what was spent it is whole again. */
static __always_inline s64 in_use(volatile struct budget *budget, u64 now) {
    u64 spent = budget->spent;
    s64 ahead = budget->begin + spent - now;

    if (ahead > 0)
        return ahead;
    budget->begin = now - spent;
    return 0;
}

static __always_inline void spend(struct budget *budget, u64 time) {
    __sync_fetch_and_add(&budget->spent, time);
}

/* NULL where it finds no room. */
static __always_inline struct share *share_of(const struct share_key *key, const char *name) {
    struct share *share = bpf_map_lookup_elem(&shares, key);

    if (share)
        return share;
    /* Another CPU may be quicker: then its value is found. */
    bpf_map_update_elem(&shares, key, &whole_share, BPF_NOEXIST);
    share = bpf_map_lookup_elem(&shares, key);
    if (share && name)
        bpf_probe_read_kernel_str(&share->name, sizeof(share->name), name);
    return share;
}

/* Takes a row out of the half that is for all. */
static __always_inline bool has_room(u32 metric) {
    u64 row = shared.metrics[metric].row_time;

    if (!row)
        return true;
    if (in_use(&budgets[metric], bpf_ktime_get_ns()) >= METRIC_BURST / 2)
        return false;
    spend(&budgets[metric], row);
    return true;
}

/* Takes a row out of what is left, for one that uses no more than its share. */
static __noinline __attribute__((unused)) bool has_share(u32 metric, const struct subject *subject) {
    struct share_key key = {.cgroup = subject->cgroup, .metric = metric};
    struct share *cgroup, *process = NULL;
    u64 row, now = bpf_ktime_get_ns();

    if (metric >= MAX_METRICS || in_use(&budgets[metric], now) >= METRIC_BURST)
        return false;
    row = shared.metrics[metric].row_time;
    cgroup = share_of(&key, NULL);
    if (cgroup) {
        s64 used = in_use(&cgroup->budget, now);

        if (used >= CGROUP_BURST)
            return false;
        if (used >= CGROUP_BURST / 2) {
            key.process = subject->process;
            process = share_of(&key, subject->name);
            if (process && in_use(&process->budget, now) >= PROCESS_BURST)
                return false;
        }
        spend(&cgroup->budget, CGROUP_PART * row);
        if (process)
            spend(&process->budget, PROCESS_PART * row);
    }
    spend(&budgets[metric], row);
    return true;
}

/* Counts a row that finds no room, and whose it would have been. */
static __noinline __attribute__((unused)) void leave_out(u32 metric, const struct subject *subject) {
    struct share_key key = {.cgroup = subject->cgroup, .process = subject->process, .metric = metric};
    struct share *share = share_of(&key, subject->name);

    if (!share) {
        key.process = 0;
        share = bpf_map_lookup_elem(&shares, &key);
    }
    if (share)
        __sync_fetch_and_add(&share->left_out, 1);
    lost(metric, LOSS_RATE_LIMIT);
}

/*
 * Whether a row finds room; `who` is looked at only where that depends on it, and `otherwise` is done
 * where there is none.
 */
#define admitted_or(metric, who, otherwise)                                                                  \
    ({                                                                                                       \
        bool admitted_ = has_room(metric);                                                                   \
        if (!admitted_) {                                                                                    \
            struct subject subject_ = who;                                                                   \
            admitted_ = has_share(metric, &subject_);                                                        \
            if (!admitted_)                                                                                  \
                otherwise;                                                                                   \
        }                                                                                                    \
        admitted_;                                                                                           \
    })

#define admitted(metric, who) admitted_or(metric, who, )

/* As admitted(); counts one that finds no room. */
#define within_budget(metric, who) admitted_or(metric, who, leave_out(metric, &subject_))

#endif
