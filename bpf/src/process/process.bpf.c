/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Program executions (exec) and process ends (exit). */

enum metric { METRIC_EXEC, METRIC_EXIT };
#include "kumon.h"
#include "syscalls.h"

#define MAX_PATH_BYTES 4096
/* MAX_ARGS_BYTES of settings.rs is the same. */
#define MAX_ARGS_BYTES 4096
#define MAX_TEXT_BYTES (MAX_PATH_BYTES + MAX_ARGS_BYTES)
/* Arguments of a failed exec are read one by one; the loop has to have an end. */
#define MAX_FAILED_ARGS 128

#define EEXIST            17
#define SIGNAL_GROUP_EXIT 0x4 /* include/linux/sched/signal.h */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct linux_binprm {
    int argc;
    const char *filename;
};
struct signal_struct___exit {
    unsigned int flags;
};
#pragma clang attribute pop

const volatile u32 max_args_bytes = MAX_ARGS_BYTES;
/* Linux 6.16 and later tell at sched_process_exit whether the whole process is dead. */
const volatile bool has_group_dead = false;

EVENTS(2 * 1024 * 1024);

/* What exec and exit tell alike. */
struct process_info {
    enum metric metric;
    u32 pid;
    u32 ppid;
    u32 uid;
    u32 gid;
    u32 padding;
    u64 time;  /* CLOCK_BOOTTIME, ns */
    u64 start; /* CLOCK_BOOTTIME, ns */
    u64 cgroup;
    char name[TASK_COMM_LEN];
    char parent_name[TASK_COMM_LEN];
};

/* Followed by path_bytes of the path, then args_bytes of the arguments, each argument with its NUL. */
struct exec_event {
    struct process_info process;
    s32 return_value;
    u32 args_count;
    u32 path_bytes;
    u32 args_bytes;
    u32 truncated;
    u32 padding;
};
EXPORT_TYPE(exec_event);

struct exit_event {
    struct process_info process;
    u32 status; /* as wait(2) gives it */
    u32 padding;
};
EXPORT_TYPE(exit_event);

struct exec_buffer {
    struct exec_event event;
    /* The rest has room for one more argument of a failed exec, of which the part that fits is sent. */
    char text[MAX_TEXT_BYTES + MAX_ARGS_BYTES];
};

/*
 * An event of varying length is put together here: reserving the longest one in the ring buffer would waste
 * it. Each program has its own entry per CPU, and the kernel doesn't let a program interrupt itself on a CPU,
 * so that nobody else writes into it meanwhile.
 */
enum buffer_user { BUFFER_EXEC, BUFFER_EXECVE, BUFFER_EXECVEAT, BUFFER_USERS };
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, BUFFER_USERS);
    __type(key, u32);
    __type(value, struct exec_buffer);
} exec_buffers SEC(".maps");

static __always_inline void describe(struct process_info *info, u32 metric, struct task_struct *task) {
    struct task_struct *leader = BPF_CORE_READ(task, group_leader);
    struct task_struct *parent = BPF_CORE_READ(leader, real_parent, group_leader);

    info->metric = metric;
    info->padding = 0;
    info->time = bpf_ktime_get_boot_ns();
    info->start = process_start(task);
    info->cgroup = bpf_get_current_cgroup_id();
    info->pid = BPF_CORE_READ(task, tgid);
    info->ppid = BPF_CORE_READ(parent, tgid);
    info->uid = BPF_CORE_READ(task, cred, uid.val);
    info->gid = BPF_CORE_READ(task, cred, gid.val);
    BPF_CORE_READ_STR_INTO(&info->name, leader, comm);
    BPF_CORE_READ_STR_INTO(&info->parent_name, parent, comm);
}

static __always_inline struct exec_buffer *exec_buffer(u32 user, struct task_struct *task) {
    struct exec_buffer *buffer = bpf_map_lookup_elem(&exec_buffers, &user);

    if (!buffer)
        return NULL;
    describe(&buffer->event.process, METRIC_EXEC, task);
    buffer->event.return_value = 0;
    buffer->event.args_count = 0;
    buffer->event.args_bytes = 0;
    buffer->event.truncated = 0;
    buffer->event.padding = 0;
    return buffer;
}

static __always_inline void send_exec(struct exec_buffer *buffer) {
    u32 path = buffer->event.path_bytes, args = buffer->event.args_bytes;

    /* The verifier forgets the bounds of what went through memory. */
    if (path > MAX_PATH_BYTES || args > MAX_ARGS_BYTES)
        return;
    send_event(METRIC_EXEC, buffer, sizeof(struct exec_event) + path + args);
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *task, int old_pid, struct linux_binprm *binary) {
    struct exec_buffer *buffer;
    struct mm_struct *mm = task->mm;
    unsigned long start, bytes;
    long path;

    if (is_self(task->tgid) || !wanted(METRIC_EXEC, task))
        return 0;
    buffer = exec_buffer(BUFFER_EXEC, task);
    if (!buffer)
        return 0;

    path = bpf_probe_read_kernel_str(buffer->text, MAX_PATH_BYTES, BPF_CORE_READ(binary, filename));
    if (path < 0 || path > MAX_PATH_BYTES)
        path = 0;
    buffer->event.path_bytes = path;
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
    if (bpf_probe_read_user(buffer->text + path, bytes, (void *)start)) {
        bytes = 0;
        buffer->event.truncated = 1;
    }
    buffer->event.args_bytes = bytes;
    send_exec(buffer);
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

    if (is_self(task->tgid) || !is_last(task, ctx) || !wanted(METRIC_EXIT, task))
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

/* What the exec system calls were given, kept until it is known whether they failed. */
struct exec_call {
    const char *path;
    const char *const *argv;
};
struct {
    __uint(type, BPF_MAP_TYPE_TASK_STORAGE);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, int);
    __type(value, struct exec_call);
} exec_calls SEC(".maps");

static __always_inline int remember(unsigned long path, unsigned long argv) {
    struct task_struct *task = bpf_get_current_task_btf();
    struct exec_call *call;

    call = bpf_task_storage_get(&exec_calls, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
    if (!call) {
        lost(METRIC_EXEC, LOSS_MAP_FULL);
        return 0;
    }
    call->path = (const char *)path;
    call->argv = (const char *const *)argv;
    return 0;
}

/* The arguments as the caller's memory still holds them, because the exec didn't replace it. */
static __always_inline void read_args(struct exec_buffer *buffer, const char *const *argv, u32 offset) {
    u32 used = 0, count = 0;
    const char *arg;
    bool cut = false;
    long bytes;

    buffer->event.truncated = 1;
    for (int i = 0; i < MAX_FAILED_ARGS; i++) {
        if (bpf_probe_read_user(&arg, sizeof(arg), argv + i))
            break;
        if (!arg) {
            buffer->event.truncated = cut;
            break;
        }
        count++;
        if (used >= max_args_bytes) {
            cut = true;
            continue;
        }
        /* Both are below 4096 here; the mask tells it to the verifier. */
        bytes = bpf_probe_read_user_str(buffer->text + ((offset + used) & (MAX_TEXT_BYTES - 1)),
                                        MAX_ARGS_BYTES, arg);
        if (bytes <= 0)
            break;
        /* An argument that fills the room has most likely lost its rest. */
        cut |= bytes == MAX_ARGS_BYTES;
        used += bytes;
    }
    if (used > max_args_bytes) {
        used = max_args_bytes;
        buffer->event.truncated = 1;
    }
    buffer->event.args_count = count;
    buffer->event.args_bytes = used;
}

static __always_inline int tell_failed(struct sys_exit *exit, u32 user) {
    struct task_struct *task = bpf_get_current_task_btf();
    struct exec_buffer *buffer;
    struct exec_call *call;
    long path;

    if (exit->result >= 0 || is_self(task->tgid) || !wanted(METRIC_EXEC, task))
        return 0;
    call = bpf_task_storage_get(&exec_calls, task, NULL, 0);
    buffer = exec_buffer(user, task);
    if (!call || !buffer)
        return 0;
    buffer->event.return_value = exit->result;
    path = bpf_probe_read_user_str(buffer->text, MAX_PATH_BYTES, call->path);
    if (path < 0 || path > MAX_PATH_BYTES)
        path = 0;
    buffer->event.path_bytes = path;
    read_args(buffer, call->argv, path);
    send_exec(buffer);
    return 0;
}

SEC("tracepoint/syscalls/sys_enter_execve")
int enter_execve(struct sys_enter *ctx) {
    return remember(ctx->args[0], ctx->args[1]);
}

SEC("tracepoint/syscalls/sys_exit_execve")
int exit_execve(struct sys_exit *ctx) {
    return tell_failed(ctx, BUFFER_EXECVE);
}

SEC("tracepoint/syscalls/sys_enter_execveat")
int enter_execveat(struct sys_enter *ctx) {
    return remember(ctx->args[1], ctx->args[2]);
}

SEC("tracepoint/syscalls/sys_exit_execveat")
int exit_execveat(struct sys_exit *ctx) {
    return tell_failed(ctx, BUFFER_EXECVEAT);
}
