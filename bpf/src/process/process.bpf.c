/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Program executions (exec) and process ends (exit). */

enum metric { METRIC_EXEC, METRIC_EXIT };
#include "exec.h"
#include "failed.h"

#define EEXIST            17
#define SIGNAL_GROUP_EXIT 0x4 /* include/linux/sched/signal.h */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct signal_struct___exit {
    unsigned int flags;
};
#pragma clang attribute pop

/* Linux 6.16 and later tell at sched_process_exit whether the whole process is dead. */
const volatile bool has_group_dead = false;

struct exit_event {
    struct process_info process;
    u32 status; /* as wait(2) gives it */
    u32 padding;
};
EXPORT_TYPE(exit_event);

SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *task, int old_pid, struct linux_binprm *binary) {
    struct mm_struct *mm = task->mm;
    struct exec_buffer *buffer;
    unsigned long start, bytes;
    const char *filename;
    struct dentry *dentry;

    if (is_self(task->tgid) || !wanted(METRIC_EXEC, task) || !within_budget(METRIC_EXEC, starter_of(task)))
        return 0;
    buffer = buffer_at(BUFFER_EXEC);
    if (!buffer)
        return 0;

    begin_exec(buffer);
    filename = BPF_CORE_READ(binary, filename);
    add_filename(buffer, bpf_probe_read_kernel_str(buffer->text, MAX_PATH_BYTES, filename));
    /* Of a script that is its interpreter. */
    buffer->place = place_of(BPF_CORE_READ((struct mm_struct___exec *)mm, exe_file));
    dentry = buffer->place.dentry;
    buffer->event.deleted = !BPF_CORE_READ(dentry, d_hash.pprev);
    append_names_of(BUFFER_EXEC);

    buffer->event.args_count = BPF_CORE_READ(binary, argc);
    start = BPF_CORE_READ(mm, arg_start);
    bytes = BPF_CORE_READ(mm, arg_end) - start;
    if (bytes > max_args_bytes) {
        bytes = max_args_bytes;
        buffer->event.truncated = 1;
    }
    if (bytes > MAX_ARGS_BYTES)
        bytes = MAX_ARGS_BYTES;
    /* The kernel has just written the arguments there; should the page be gone, they are flagged as cut. */
    if (bpf_probe_read_user(buffer->text + (buffer->used & (MAX_TEXT_BYTES - 1)), bytes, (void *)start)) {
        bytes = 0;
        buffer->event.truncated = 1;
    }
    buffer->event.args_bytes = bytes;
    send_exec(buffer, task);
    return 0;
}

/*
 * The processes whose end was told, until their parents reap them; only for kernels that don't say at the
 * tracepoint which thread is the last. User space sets the size.
 */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 1);
    __type(key, u32);
    __type(value, u8);
} ended SEC(".maps");

/*
 * Whether the process ends with this thread. Threads that end at the same time on several CPUs may all see
 * that none is alive, so the first of them to say so is taken.
 */
static __always_inline bool is_last(struct task_struct *task, u64 *ctx) {
    u32 process = task->tgid;
    /* Not long: before 6.4 the upper half of what changes to maps return is anything. */
    int result;
    u8 one = 1;

    if (has_group_dead)
        return (u8)ctx[1];
    if (BPF_CORE_READ(task, signal, live.counter) > 0)
        return false;
    result = bpf_map_update_elem(&ended, &process, &one, BPF_NOEXIST);
    if (result && result != -EEXIST)
        lost(METRIC_EXIT, LOSS_MAP_FULL);
    return result == 0;
}

/* The id is free for another process. Without this program where has_group_dead. */
SEC("tp_btf/sched_process_free")
int BPF_PROG(on_free, struct task_struct *task) {
    u32 process = task->tgid;

    if (task->pid == process)
        bpf_map_delete_elem(&ended, &process);
    return 0;
}

SEC("tp_btf/sched_process_exit")
int on_exit(u64 *ctx) {
    struct task_struct *task = (struct task_struct *)ctx[0];
    struct signal_struct___exit *signal;
    struct exit_event *event;

    if (is_self(task->tgid) || !is_last(task, ctx) || !wanted(METRIC_EXIT, task) ||
        !within_budget(METRIC_EXIT, starter_of(task)))
        return 0;
    event = reserve_event(METRIC_EXIT, struct exit_event);
    if (!event)
        return 0;
    describe(&event->process, METRIC_EXIT, task);
    signal = (void *)BPF_CORE_READ(task, signal);
    /* The same choice as wait(2) makes. */
    if (BPF_CORE_READ(signal, flags) & SIGNAL_GROUP_EXIT)
        event->status = BPF_CORE_READ(task, signal, group_exit_code);
    else
        event->status = BPF_CORE_READ(task, group_leader, exit_code);
    event->padding = 0;
    submit_event(event);
    return 0;
}
