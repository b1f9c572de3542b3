/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Waits for a CPU (runqlat, runqslower); a part of sched.bpf.c. A wait is what the kernel accounts as one, in
 * task_struct.sched_info, the source of /proc/PID/schedstat: from the moment that a task was put into a run
 * queue, or off its CPU while it could go on, until it is switched in. The tracepoint of the switch comes
 * just before the kernel adds the wait to run_delay, so that the wait can be read there, and nothing has to
 * be remembered of its beginning: what isn't seen of one wait never becomes part of another one.
 */
#ifndef KUMON_SCHED_WAITS_H
#define KUMON_SCHED_WAITS_H

/* Set as soon as a group was seen whose quota was used up: user space then attaches `wakeup`. */
u64 quotas_seen = 0;

/* Waits of a task that are over: one, or several of which only the sum is known. */
struct wait {
    /* ns; of several their mean. */
    u64 time;
    u64 count;
    bool throttled;
    /* It ended on this CPU, so many ns ago. */
    bool ended_here;
    u64 ago;
    /* Who had the CPU before; NULL where that was not shown. */
    struct task_struct *previous;
};

/*
 * The task whose switch-in was shown last on a CPU. Some kernels leave the tracepoint out now and then
 * (docs/kernels.md); then another one leaves the CPU.
 */
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, u32);
    __type(value, u32);
} shown SEC(".maps");

/* Since 6.18 the kernel throttles tasks one by one: each leaves its CPU for it, on its way out of the kernel.
 */
static __always_inline bool throttles_tasks(void) {
    return bpf_core_field_exists(struct task_struct___sched, throttled);
}

/* Before, it takes a whole cfs_rq off its CPU. */
static __always_inline bool throttles_queues(void) {
    return !throttles_tasks() && bpf_core_field_exists(struct cfs_rq, throttle_count);
}

/* How long the quota of the cfs_rq's group, or of an ancestor, was used up until now; grows when it is
 * refilled. */
static __always_inline u64 throttled_time(struct cfs_rq *queue) {
    if (bpf_core_field_exists(queue->throttled_clock_pelt_time))
        return queue->throttled_clock_pelt_time;
    return ((struct cfs_rq___task *)queue)->throttled_clock_task_time;
}

/* How often the task was switched in until now, plus 1: the number of the wait that it is in, or that comes
 * next. */
static __always_inline u64 arrivals_of(struct task_struct *task) {
    return ((struct task_struct___sched *)task)->sched_info.pcount + 1;
}

/* The task waits from now on: notes what will show at the end whether it waited for quota. */
static __always_inline void begin_wait(struct task_struct *task) {
    struct task_struct___sched *accounts = (void *)task;
    struct task_record *record;

    if (throttles_tasks()) {
        if (!accounts->throttled)
            return;
        record = record_of(task);
        if (record)
            record->seen.begun = arrivals_of(task);
    } else if (throttles_queues()) {
        struct cfs_rq *queue = accounts->se.cfs_rq;
        u64 time = throttled_time(queue);

        if (!time && !queue->throttle_count)
            return;
        quotas_seen = 1;
        record = record_of(task);
        if (!record)
            return;
        record->seen.begun = arrivals_of(task);
        record->seen.queue = (u64)queue;
        record->seen.throttled_time = time;
    }
}

/* A task may wake up while its group's quota is used up. Loaded only where throttles_queues(). */
SEC("tp_btf/sched_wakeup")
int BPF_PROG(wakeup, struct task_struct *task) {
    begin_wait(task);
    return 0;
}

SEC("tp_btf/sched_wakeup_new")
int BPF_PROG(wakeup_new, struct task_struct *task) {
    begin_wait(task);
    return 0;
}

/* Whether the quota was used up at some time of the wait of that number, which ends now. */
static __always_inline bool was_throttled(const struct seen *seen, u64 number, struct cfs_rq *queue) {
    if (seen->begun != number)
        return false;
    if (throttles_queues())
        return seen->queue == (u64)queue && seen->throttled_time != throttled_time(queue);
    return true;
}

static __always_inline void report_slow(struct task_struct *task, const struct wait *wait) {
    struct slow_wait *event = reserve_event(METRIC_RUNQSLOWER, struct slow_wait);
    struct task_struct *previous = wait->previous;

    if (!event)
        return;
    event->time = bpf_ktime_get_boot_ns() - wait->ago;
    event->wait = wait->time;
    event->throttled = wait->throttled;
    event->start = process_start(task);
    event->cgroup = cgroup_id_of(task);
    event->pid = task->tgid;
    event->tid = task->pid;
    event->cpu = bpf_get_smp_processor_id();
    BPF_CORE_READ_INTO(&event->name, task, group_leader, comm);
    BPF_CORE_READ_INTO(&event->thread_name, task, comm);
    if (previous) {
        event->previous_pid = previous->tgid;
        BPF_CORE_READ_INTO(&event->previous_name, previous, comm);
    } else {
        event->previous_pid = UNKNOWN_PID;
        __builtin_memset(event->previous_name, 0, sizeof(event->previous_name));
    }
    submit_event(event);
}

/* Adds to what this CPU has for itself. */
static __always_inline void add_alone(struct waits *waits, const struct wait *wait) {
    if (!wait->throttled) {
        histogram_add_alone(&waits->histogram, wait->time, wait->count, LATENCY_UNIT);
        return;
    }
    waits->throttled += wait->count;
    waits->throttled_sum += wait->time * wait->count;
}

/* Adds to what all CPUs share. */
static __always_inline void add(struct waits *waits, const struct wait *wait) {
    if (!wait->throttled) {
        histogram_add(&waits->histogram, wait->time, wait->count, LATENCY_UNIT);
        return;
    }
    __sync_fetch_and_add(&waits->throttled, wait->count);
    __sync_fetch_and_add(&waits->throttled_sum, wait->time * wait->count);
}

static __always_inline void add_wait(struct task_struct *task, const struct wait *wait) {
    struct cgroup_key key = {.is_key = 1};
    struct waits *sum = NULL;
    u32 all = 0;
    void *map;

    if (!waits_per_cgroup) {
        map = current_map(&waits);
        if (map)
            sum = bpf_map_lookup_elem(map, &all);
        if (sum)
            add_alone(sum, wait);
        return;
    }
    key.id = cgroup_id_of(task);
    map = current_map(&cgroup_waits);
    if (map)
        sum = value_of(map, &key, &no_waits);
    if (sum)
        add(sum, wait);
    else
        lost(METRIC_RUNQLAT, LOSS_MAP_FULL);
}

static __always_inline void tell(struct task_struct *task, const struct wait *wait) {
    if (with_runqlat && wanted(METRIC_RUNQLAT, task))
        add_wait(task, wait);
    if (!slow_threshold || wait->time < slow_threshold || !wanted(METRIC_RUNQSLOWER, task))
        return;
    if (!wait->ended_here)
        lost(METRIC_RUNQSLOWER, LOSS_MISSED_SWITCH);
    else if (within_budget(METRIC_RUNQSLOWER, subject_of(task)))
        report_slow(task, wait);
}

/*
 * The waits of a task that ended with switches that were not shown; false where there are none. As long as
 * the task has not waited again, their sum is exact.
 */
static __always_inline bool take_missed(struct task_struct *task, struct seen *seen, struct wait *wait) {
    struct sched_info *info = &((struct task_struct___sched *)task)->sched_info;
    u64 number = seen->arrivals, sum = info->run_delay - seen->run_delay;

    if (!number || number == arrivals_of(task))
        return false;
    wait->count = arrivals_of(task) - number;
    wait->time = sum / wait->count ?: 1;
    wait->throttled = was_throttled(seen, number, ((struct task_struct___sched *)task)->se.cfs_rq);
    seen->run_delay = info->run_delay;
    seen->arrivals = arrivals_of(task);
    return true;
}

/* Whether the switch-in of who leaves this CPU was shown. That of `next` is shown now. */
static __always_inline bool was_shown(struct task_struct *previous, struct task_struct *next) {
    u32 all = 0, *tid = bpf_map_lookup_elem(&shown, &all), expected;

    if (!tid)
        return true;
    expected = *tid;
    *tid = next->pid;
    return expected == previous->pid;
}

/* Tells what a task waited that leaves its CPU now, where its switch-in was not shown. */
static __always_inline void catch_up(struct task_struct *task) {
    struct task_struct___sched *accounts = (void *)task;
    struct task_record *record = record_of(task);
    struct wait wait = {};

    if (!task->pid || is_self(task->tgid) || !record || !take_missed(task, &record->seen, &wait))
        return;
    wait.ended_here = wait.count == 1;
    wait.ago = accounts->se.cfs_rq->rq->clock - accounts->sched_info.last_arrival;
    tell(task, &wait);
}

/*
 * A task is switched in. Beside the time since last_queued its wait has the parts that the kernel accounted
 * when it moved the waiting task to another CPU: all that run_delay has gained since the last switch-in.
 */
static __always_inline void end_wait(struct task_struct *previous, struct task_struct *task) {
    struct task_struct___sched *accounts = (void *)task;
    struct wait wait = {.count = 1, .ended_here = true, .previous = previous}, missed = {};
    struct cfs_rq *queue = accounts->se.cfs_rq;
    u64 queued = accounts->sched_info.last_queued;
    struct task_record *record;

    if (!task->pid || is_self(task->tgid))
        return;
    record = record_of(task);
    if (!queued) {
        /* Preempted when it was about to sleep: the kernel takes that for no wait, but may count it. */
        if (record)
            record->seen.arrivals = 0;
        return;
    }
    wait.time = queue->rq->clock - queued;
    if (record) {
        struct seen *seen = &record->seen;
        u64 delay = accounts->sched_info.run_delay, last_part = wait.time;

        /* What it waited before it was moved is then in these. */
        if (take_missed(task, seen, &missed))
            tell(task, &missed);
        else if (seen->arrivals)
            wait.time += delay - seen->run_delay;
        wait.throttled = was_throttled(seen, arrivals_of(task), queue);
        seen->run_delay = delay + last_part;
        seen->arrivals = arrivals_of(task) + 1;
    }
    /* The clocks of two CPUs may differ a little; and that of a run queue stands still where a wake-up
     * preempts. */
    if ((s64)wait.time < 1)
        wait.time = 1;
    tell(task, &wait);
}

#endif
