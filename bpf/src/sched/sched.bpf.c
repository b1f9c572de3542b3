// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * Waits for a CPU (runqlat, runqslower) and CPU time per process (cputime). A wait begins when a task is
 * woken, created or taken off its CPU while it could go on running, and ends when it is switched in. CPU time
 * and switches are the kernel's own accounts: read_tasks reads those of the living, the last switch of a task
 * those of the ended.
 */
enum metric { METRIC_RUNQLAT, METRIC_RUNQSLOWER, METRIC_CPUTIME };
#include "kumon.h"
#include "histogram.h"
#include "interval.h"

#define TASK_RUNNING 0
#define TASK_DEAD    0x80
#define PF_EXITING   0x4
#define E2BIG        7

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct sched_entity {
    u64 sum_exec_runtime;
};

struct task_struct___sched {
    unsigned int __state;
    /* An int up to 6.18, a byte in 7.2: only of numbers without sign libbpf makes a shorter read. */
    unsigned int on_cpu;
    struct sched_entity se;
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
    u32 previous_pid;
    u32 cpu;
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

struct task_record {
    /* CLOCK_MONOTONIC, ns; 0 while the task is not waiting for a CPU. */
    u64 runnable_since;
    /* Changed under a lock of the record, and so is `end` once it is not END_NOT_YET any more. */
    struct reported reported;
    enum end end;
};

/* A cgroup v2, by the inode of its folder. */
struct cgroup_key {
    u64 id;
    u64 is_key;
};
EXPORT_TYPE(cgroup_key);
EXPORT_TYPE(histogram);

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

/*
 * When the wait of a task without record began, by thread id. iter/task lists only the tasks of KuMon's own
 * pid namespace, so that in a container all others are here until they end. User space sets the size.
 */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 8192);
    __type(key, u32);
    __type(value, u64);
} unlisted SEC(".maps");

INTERVAL_MAPS(waits, BPF_MAP_TYPE_PERCPU_ARRAY, 0, u32, struct histogram);
INTERVAL_MAPS(cgroup_waits, BPF_MAP_TYPE_HASH, 0, struct cgroup_key, struct histogram);
INTERVAL_MAPS(ended, BPF_MAP_TYPE_HASH, 0, struct process_key, struct process_usage);
EVENTS(256 * 1024);

static const struct histogram no_waits;

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
    u32 tid = task->pid;

    /*
     * Where there is no room for it, `unlisted` takes its place, without what the last thread of this id left
     * there.
     */
    if (!make_record(task, BPF_ANY))
        bpf_map_delete_elem(&unlisted, &tid);
    return 0;
}

static __always_inline u32 state_of(struct task_struct *task) {
    struct task_struct___sched *now = (void *)task;

    if (bpf_core_field_exists(now->__state))
        return now->__state;
    return ((struct task_struct___state *)task)->state;
}

/* A wait feeds runqlat and runqslower: each may lack it. */
static __always_inline void lose_wait(void) {
    lost(METRIC_RUNQLAT, LOSS_MAP_FULL);
    lost(METRIC_RUNQSLOWER, LOSS_MAP_FULL);
}

static __always_inline void begin_wait(struct task_struct *task, u64 now, u64 flags) {
    struct task_record *record;
    u32 tid = task->pid;

    if (!tid || is_self(task->tgid))
        return;
    record = record_of(task);
    if (!record) {
        /* Not long: before 6.4 the upper half of what changes to maps return is anything. */
        int error = bpf_map_update_elem(&unlisted, &tid, &now, flags);

        if (error == -E2BIG)
            lose_wait();
    } else if (flags == BPF_ANY || !record->runnable_since) {
        record->runnable_since = now;
    }
}

static __always_inline int woken(struct task_struct *task) {
    struct task_struct___sched *state = (void *)task;

    /* Woken before it came to sleep: it still has its CPU. Kernels without the field have but one CPU. */
    if (bpf_core_field_exists(state->on_cpu) ? state->on_cpu : task == (void *)bpf_get_current_task())
        return 0;
    /* Preempted when it was about to sleep: then it waits since then. */
    begin_wait(task, bpf_ktime_get_ns(), BPF_NOEXIST);
    return 0;
}

SEC("tp_btf/sched_wakeup")
int BPF_PROG(wakeup, struct task_struct *task) {
    return woken(task);
}

SEC("tp_btf/sched_wakeup_new")
int BPF_PROG(wakeup_new, struct task_struct *task) {
    return woken(task);
}

static __always_inline void report_slow(struct task_struct *previous, struct task_struct *task, u64 wait) {
    struct slow_wait *event = reserve_event(METRIC_RUNQSLOWER, struct slow_wait);

    if (!event)
        return;
    event->time = bpf_ktime_get_boot_ns();
    event->wait = wait;
    event->start = process_start(task);
    event->cgroup = cgroup_id_of(task);
    event->pid = task->tgid;
    event->tid = task->pid;
    event->previous_pid = previous->tgid;
    event->cpu = bpf_get_smp_processor_id();
    BPF_CORE_READ_INTO(&event->name, task, group_leader, comm);
    BPF_CORE_READ_INTO(&event->thread_name, task, comm);
    BPF_CORE_READ_INTO(&event->previous_name, previous, comm);
    submit_event(event);
}

/* When the task's wait began, which ends with it; 0 where it did not wait. */
static __always_inline u64 take_begin(struct task_struct *task) {
    struct task_record *record = record_of(task);
    u64 begin = 0, *found;
    u32 tid = task->pid;

    if (record) {
        begin = record->runnable_since;
        record->runnable_since = 0;
        return begin;
    }
    found = bpf_map_lookup_elem(&unlisted, &tid);
    if (found) {
        begin = *found;
        bpf_map_delete_elem(&unlisted, &tid);
    }
    return begin;
}

static __always_inline void add_wait(struct task_struct *task, u64 wait) {
    struct cgroup_key key = {.is_key = 1};
    struct histogram *histogram = NULL;
    u32 all = 0;
    void *map;

    if (!waits_per_cgroup) {
        map = current_map(&waits);
        if (map)
            histogram = bpf_map_lookup_elem(map, &all);
        if (histogram)
            histogram_add_alone(histogram, wait, LATENCY_UNIT);
        return;
    }
    key.id = cgroup_id_of(task);
    map = current_map(&cgroup_waits);
    if (map)
        histogram = value_of(map, &key, &no_waits);
    if (histogram)
        histogram_add(histogram, wait, LATENCY_UNIT);
    else
        lost(METRIC_RUNQLAT, LOSS_MAP_FULL);
}

static __always_inline void end_wait(struct task_struct *previous, struct task_struct *task, u64 now) {
    u64 begin, wait;

    if (!task->pid || is_self(task->tgid))
        return;
    begin = take_begin(task);
    if (!begin)
        return;
    /* The clocks of two CPUs may differ a little. */
    wait = now > begin ? now - begin : 0;

    if (with_runqlat && wanted(METRIC_RUNQLAT, task))
        add_wait(task, wait);
    if (slow_threshold && wait >= slow_threshold && wanted(METRIC_RUNQSLOWER, task))
        report_slow(previous, task, wait);
}

#include "accounts.h"

SEC("tp_btf/sched_switch")
int BPF_PROG(sched_switch, bool preempt, struct task_struct *previous, struct task_struct *next) {
    u32 state = state_of(previous);

    if (with_runqlat || slow_threshold) {
        u64 now = bpf_ktime_get_ns();

        /* A preempted task can go on, whatever state it was about to sleep in. */
        if (preempt || state == TASK_RUNNING)
            begin_wait(previous, now, BPF_ANY);
        end_wait(previous, next, now);
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
