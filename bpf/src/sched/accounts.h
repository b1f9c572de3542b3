/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * CPU time and switches of tasks, from the kernel's own accounts (cputime); a part of sched.bpf.c. read_tasks
 * reads those of the living, the last switch of a task gives those of the ended.
 */
#ifndef KUMON_SCHED_ACCOUNTS_H
#define KUMON_SCHED_ACCOUNTS_H

/* What the kernel accounted to the task since `reported`, which moves on. */
static __always_inline struct cpu_usage take_usage(struct task_struct *task, struct reported *reported) {
    struct task_struct___sched *accounts = (void *)task;
    struct cpu_usage usage = {};
    u64 now = bpf_ktime_get_ns();

    if (!reported->until && accounts->start_time < collecting_since) {
        reported->on_cpu = accounts->se.sum_exec_runtime;
        reported->voluntary = accounts->nvcsw;
        reported->involuntary = accounts->nivcsw;
        reported->until = now;
        return usage;
    }
    if (!reported->until)
        reported->until = accounts->start_time;

    usage.on_cpu = accounts->se.sum_exec_runtime - reported->on_cpu;
    usage.voluntary = accounts->nvcsw - reported->voluntary;
    usage.involuntary = accounts->nivcsw - reported->involuntary;
    reported->on_cpu += usage.on_cpu;
    reported->voluntary += usage.voluntary;
    reported->involuntary += usage.involuntary;

    /*
     * The account of a running task is as old as the last timer tick, so on-CPU time may come late: then it
     * was taken for off-CPU time, and the next off-CPU time is that much less.
     */
    reported->until += usage.on_cpu;
    if (now > reported->until) {
        usage.off_cpu = now - reported->until;
        reported->until = now;
    }
    return usage;
}

static __always_inline void identify(struct task_struct *task, struct process_usage *usage) {
    usage->process.start = process_start(task);
    usage->process.pid = task->tgid;
    usage->cgroup = cgroup_id_of(task);
    BPF_CORE_READ_INTO(&usage->name, task, group_leader, comm);
    if (per_thread) {
        usage->process.tid = task->pid;
        BPF_CORE_READ_INTO(&usage->thread_name, task, comm);
    }
}

static __always_inline void add_ended(struct task_struct *task, struct reported *reported) {
    struct cpu_usage usage = take_usage(task, reported);
    struct process_usage initial = {}, *sum = NULL;
    void *map;

    identify(task, &initial);
    map = current_map(&ended);
    if (map)
        sum = value_of(map, &initial.process, &initial);
    if (!sum) {
        lost(METRIC_CPUTIME, LOSS_MAP_FULL);
        return;
    }
    __sync_fetch_and_add(&sum->usage.on_cpu, usage.on_cpu);
    __sync_fetch_and_add(&sum->usage.off_cpu, usage.off_cpu);
    __sync_fetch_and_add(&sum->usage.voluntary, usage.voluntary);
    __sync_fetch_and_add(&sum->usage.involuntary, usage.involuntary);
}

/*
 * Accounts once for a task that ended, whoever comes first: its last switch, or read_tasks, which had the
 * record locked at that moment.
 */
static __always_inline void account_ended(struct task_struct *task, struct task_record *record) {
    if (!try_lock(record))
        return;
    if (record->end == END_TO_ACCOUNT) {
        add_ended(task, &record->reported);
        record->end = END_ACCOUNTED;
        drop_record(task);
    }
    unlock(record);
}

/*
 * Whether the task was there at the last reading, which had no account of it: it is outside of KuMon's pid
 * namespace. What it did since then isn't known.
 */
static __always_inline bool is_unlisted(struct task_struct *task, struct task_record *record) {
    if (lists_all_tasks || (record && record->reported.until))
        return false;
    return ((struct task_struct___sched *)task)->start_time < listed_at;
}

static __always_inline void last_switch(struct task_struct *task) {
    struct task_record *record = record_of(task);
    struct reported nothing = {};

    if (is_self(task->tgid) || is_unlisted(task, record) || !selected(METRIC_CPUTIME, task)) {
        drop_record(task);
        return;
    }
    if (record) {
        record->end = END_TO_ACCOUNT;
        account_ended(task, record);
    } else {
        /* It came and went between two readings. */
        add_ended(task, &nothing);
    }
}

/* Writes what a thread did since the last reading. */
static __always_inline void read_usage(struct bpf_iter_meta *meta, struct task_struct *task,
                                       struct task_record *record) {
    struct reported reported = record->reported;
    struct process_usage usage = {};

    usage.usage = take_usage(task, &reported);
    /* What it does while it isn't selected is not told later either. */
    if (!selected(METRIC_CPUTIME, task)) {
        record->reported = reported;
        return;
    }
    identify(task, &usage);
    /* Where the buffer is full the kernel comes back to this task once it is read. */
    if (!bpf_seq_write(meta->seq, &usage, sizeof(usage)))
        record->reported = reported;
}

#endif
