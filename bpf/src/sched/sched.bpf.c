// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * Waits for a CPU (runqlat, runqslower) and CPU time per process (cputime), all by the kernel's own accounts.
 * A wait is read when the task is switched in (waits.h); of CPU time and switches read_tasks reads the
 * accounts of the living, the last switch of a task gives those of the ended (accounts.h).
 */
enum metric { METRIC_RUNQLAT, METRIC_RUNQSLOWER, METRIC_CPUTIME };
#include "kumon.h"
#include "budget.h"
#include "histogram.h"
#include "interval.h"

#define TASK_RUNNING 0
#define TASK_DEAD    0x80
#define PF_EXITING   0x4
#define UNKNOWN_PID  -1

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct rq {
    /* ns; sched_info has its times by it. */
    u64 clock;
};

struct cfs_rq {
    struct rq *rq;
    /* How many of the group and its ancestors are out of their CPU quota. */
    int throttle_count;
    /* How long they were so far. */
    u64 throttled_clock_pelt_time;
};

/* Before 5.19. */
struct cfs_rq___task {
    u64 throttled_clock_task_time;
};

struct sched_entity {
    u64 sum_exec_runtime;
    /* That of the task's group, also where another class schedules it. */
    struct cfs_rq *cfs_rq;
};

struct sched_info {
    /* How often it was switched in after a wait. */
    unsigned long pcount;
    /* ns, the sum of its waits that are over. */
    unsigned long long run_delay;
    /* When it was switched in last. */
    unsigned long long last_arrival;
    /* When it was put into a run queue where it waits now; else 0. */
    unsigned long long last_queued;
};

struct task_struct___sched {
    unsigned int __state;
    /* An int up to 6.18, a byte in 7.2: only of numbers without sign libbpf makes a shorter read. */
    unsigned int on_cpu;
    struct sched_entity se;
    struct sched_info sched_info;
    /* Since 6.18: off its CPU because its group's quota is used up. */
    bool throttled;
    unsigned long nvcsw;
    unsigned long nivcsw;
    u64 start_time;
};

/* Before 5.14. */
struct task_struct___state {
    volatile long state;
};

struct seq_file;

struct bpf_iter_meta {
    struct seq_file *seq;
    /* Of the task that the walk is at; 0 at the first one. */
    u64 seq_num;
};

struct bpf_iter__task {
    struct bpf_iter_meta *meta;
    struct task_struct *task;
};

#pragma clang attribute pop

/* Set before loading; the verifier drops what they switch off. */
const volatile bool with_runqlat = false;
const volatile bool waits_per_cgroup = false;
const volatile bool with_cputime = false;
/* cputime tells of threads, not of processes. */
const volatile bool per_thread = false;
const volatile bool has_task_storage = true;
/* ns; 0 without runqslower. */
const volatile u64 slow_threshold = 0;
/* CLOCK_MONOTONIC: what tasks did before is not KuMon's to tell. */
const volatile u64 collecting_since = 0;
/* iter/task lists the tasks of KuMon's own pid namespace and of those below it. */
const volatile bool lists_all_tasks = true;

/* CLOCK_MONOTONIC, ns: when the last walk over all tasks began. */
u64 listed_at = 0;

struct process_key {
    /* CLOCK_BOOTTIME, ns. */
    u64 start;
    u32 pid;
    /* 0 where the process is told as a whole. */
    u32 tid;
};

struct cpu_usage {
    /* ns. */
    u64 on_cpu;
    u64 off_cpu;
    u64 voluntary;
    u64 involuntary;
};

/* What a thread did since the last reading (read_tasks), or the sum of a process's ended threads (ended). */
struct process_usage {
    struct process_key process;
    struct cpu_usage usage;
    u64 cgroup;
    char name[TASK_COMM_LEN];
    char thread_name[TASK_COMM_LEN];
};

struct slow_wait {
    /* CLOCK_BOOTTIME, ns. */
    u64 time;
    /* ns. */
    u64 wait;
    u64 start;
    u64 cgroup;
    u32 pid;
    u32 tid;
    /* Or UNKNOWN_PID. */
    u32 previous_pid;
    u32 cpu;
    /* 0 or 1 */
    u64 throttled;
    char name[TASK_COMM_LEN];
    char thread_name[TASK_COMM_LEN];
    char previous_name[TASK_COMM_LEN];
};
EXPORT_TYPE(slow_wait);
EXPORT_TYPE(process_usage);

/* How much of the kernel's accounts of a task is reported. */
struct reported {
    /* ns. */
    u64 on_cpu;
    u64 voluntary;
    u64 involuntary;
    /* CLOCK_MONOTONIC, ns: up to here time is reported as on or off the CPU; 0 before the first reading. */
    u64 until;
};

/* Who accounts for a task that ended, see account_ended. */
enum end {
    END_NOT_YET,
    END_TO_ACCOUNT,
    END_ACCOUNTED,
};

/* What was seen of a task's waits. */
struct seen {
    /* task_struct.sched_info.run_delay as of its last switch-in. */
    u64 run_delay;
    /* And pcount, plus 1; 0 while neither is known. */
    u64 arrivals;
    /* The number of a wait that is one for quota, as `arrivals` counts them; before 6.18 that may become one.
     */
    u64 begun;
    /* Before 6.18: in which cfs_rq that wait began, and how long it had been throttled until then. */
    u64 queue;
    u64 throttled_time;
};

struct task_record {
    struct seen seen;
    /* Changed under a lock of the record, and so is `end` once it is not END_NOT_YET any more. */
    struct reported reported;
    enum end end;
};

/* A cgroup v2, by the inode of its folder. */
struct cgroup_key {
    u64 id;
    u64 is_key;
};

/* The waits of an interval. */
struct waits {
    /* Those that a CPU quota made, and ns of them; they aren't in the histogram. */
    u64 throttled;
    u64 throttled_sum;
    struct histogram histogram;
};
EXPORT_TYPE(cgroup_key);
EXPORT_TYPE(waits);

/*
 * Before 5.12 there is no task storage for tracing programs, and before 6.2 what is in it isn't always found:
 * there user space makes it a hash map by thread id.
 */
struct {
    __uint(type, BPF_MAP_TYPE_TASK_STORAGE);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, int);
    __type(value, struct task_record);
} tasks SEC(".maps");

INTERVAL_MAPS(waits, BPF_MAP_TYPE_PERCPU_ARRAY, 0, u32, struct waits);
INTERVAL_MAPS(cgroup_waits, BPF_MAP_TYPE_HASH, 0, struct cgroup_key, struct waits);
INTERVAL_MAPS(ended, BPF_MAP_TYPE_HASH, 0, struct process_key, struct process_usage);
EVENTS(256 * 1024);

static const struct waits no_waits;

static __always_inline struct task_record *record_of(struct task_struct *task) {
    u32 tid = task->pid;

    if (has_task_storage)
        return bpf_task_storage_get(&tasks, task, NULL, 0);
    return bpf_map_lookup_elem(&tasks, &tid);
}

static __always_inline struct task_record *make_record(struct task_struct *task, u64 flags) {
    struct task_record nothing = {};
    u32 tid = task->pid;

    if (has_task_storage)
        return bpf_task_storage_get(&tasks, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
    bpf_map_update_elem(&tasks, &tid, &nothing, flags);
    return bpf_map_lookup_elem(&tasks, &tid);
}

/* A task storage goes with its task. */
static __always_inline void drop_record(struct task_struct *task) {
    u32 tid = task->pid;

    if (!has_task_storage)
        bpf_map_delete_elem(&tasks, &tid);
}

/*
 * The records of tasks are made here and by read_tasks, never in the scheduler's own hooks: those hold a run
 * queue's lock, where older kernels must not allocate.
 */
SEC("tp_btf/task_newtask")
int BPF_PROG(newtask, struct task_struct *task) {
    struct task_record *record = make_record(task, BPF_ANY);

    /* It has not waited yet. */
    if (record)
        record->seen.arrivals = 1;
    return 0;
}

static __always_inline u32 state_of(struct task_struct *task) {
    struct task_struct___sched *now = (void *)task;

    if (bpf_core_field_exists(now->__state))
        return now->__state;
    return ((struct task_struct___state *)task)->state;
}

#include "waits.h"
#include "accounts.h"

SEC("tp_btf/sched_switch")
int BPF_PROG(sched_switch, bool preempt, struct task_struct *previous, struct task_struct *next) {
    u32 state = state_of(previous);

    if (with_runqlat || slow_threshold) {
        if (!was_shown(previous, next))
            catch_up(previous);
        /* A preempted task can go on, whatever state it was about to sleep in. */
        if (preempt || state == TASK_RUNNING)
            begin_wait(previous);
        end_wait(previous, next);
    }
    if (state & TASK_DEAD) {
        if (with_cputime)
            last_switch(previous);
        else
            drop_record(previous);
    }
    return 0;
}

/* Makes a record for each task that has none, and writes one process_usage for each thread. */
SEC("iter/task")
int read_tasks(struct bpf_iter__task *ctx) {
    struct task_struct *task = ctx->task;
    struct task_record *record;

    if (!ctx->meta->seq_num)
        listed_at = bpf_ktime_get_ns();
    /* Exiting tasks and zombies: their last switch gives, or has given, their account. */
    if (!task || task->flags & PF_EXITING)
        return 0;
    record = make_record(task, BPF_NOEXIST);
    if (!record) {
        lost(METRIC_CPUTIME, LOSS_MAP_FULL);
        return 0;
    }
    if (!with_cputime || is_self(task->tgid) || !try_lock(record))
        return 0;
    if (record->end == END_NOT_YET)
        read_usage(ctx->meta, task, record);
    unlock(record);
    /* It ended meanwhile and could not account for itself. */
    record = record_of(task);
    if (record && record->end == END_TO_ACCOUNT)
        account_ended(task, record);
    return 0;
}
