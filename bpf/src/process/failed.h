/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Failed execs, which no event tells of but the end of their system calls. Most fail while the old program is
 * still there: its memory says what was tried. Some fail after it is gone, and end the process: what they
 * were given is kept from before.
 */
#ifndef KUMON_PROCESS_FAILED_H
#define KUMON_PROCESS_FAILED_H

#include "exec.h"
#include "syscalls.h"

/* Arguments are read one by one; the loop has to have an end. */
#define MAX_FAILED_ARGS 128

/*
 * Whether the kernel says when an exec is about to replace its program: then all that it was given has been
 * read. Before Linux 6.10 what is in memory when the system call begins has to do.
 */
const volatile bool has_prepare_exec = false;

/* What the exec system calls were given, kept until it is known whether they failed. */
struct exec_call {
    const char *path;
    const char *const *argv;
    /* The memory of the program that makes it. */
    u64 mm;
    /* Where what it was given is kept; 0 for nowhere. */
    u64 ticket;
    int folder;
    int padding;
};
struct {
    __uint(type, BPF_MAP_TYPE_TASK_STORAGE);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, int);
    __type(value, struct exec_call);
} exec_calls SEC(".maps");

u64 last_ticket = 0;

/* Reads a text of the caller's. An empty one has a byte, its NUL; older kernels (6.1) say that it has none.
 */
static __always_inline long read_text(char *to, u32 size, const char *from) {
    long bytes = bpf_probe_read_user_str(to, size, from);

    return bytes ?: 1;
}

/*
 * Appends the arguments as the caller's memory still holds them. Looked at once by the verifier, too; what an
 * argument leaves to the next one lies in the buffer for the reason that append_names() tells.
 */
__noinline int append_args(u32 index, u64 argv) {
    volatile struct exec_buffer *buffer = buffer_at(index);
    const char *arg;
    u32 offset, used;
    long bytes;

    if (!buffer)
        return 0;
    offset = buffer->used;
    /* Until their end is seen. */
    buffer->event.truncated = 1;
    buffer->args_cut = 0;
    for (int i = 0; i < MAX_FAILED_ARGS; i++) {
        if (bpf_probe_read_user(&arg, sizeof(arg), (const char *const *)argv + i))
            break;
        if (!arg) {
            buffer->event.truncated = buffer->args_cut;
            break;
        }
        buffer->event.args_count++;
        used = buffer->event.args_bytes;
        if (used >= max_args_bytes) {
            buffer->args_cut = 1;
            continue;
        }
        bytes =
            read_text((char *)buffer->text + ((offset + used) & (MAX_TEXT_BYTES - 1)), MAX_ARGS_BYTES, arg);
        if (bytes <= 0)
            break;
        /* An argument that fills the room has most likely lost its rest. */
        if (bytes == MAX_ARGS_BYTES)
            buffer->args_cut = 1;
        buffer->event.args_bytes += bytes;
    }
    if (buffer->event.args_bytes > max_args_bytes) {
        buffer->event.args_bytes = max_args_bytes;
        buffer->event.truncated = 1;
    }
    return 0;
}

/* Reads what a call was given, as the caller's memory and folders still have it. */
static __always_inline void read_call(struct exec_buffer *buffer, u32 index, struct exec_call *call) {
    begin_exec(buffer);
    add_filename(buffer, read_text(buffer->text, MAX_PATH_BYTES, call->path));
    if (buffer->event.filename_bytes) {
        buffer->place = starting_place(buffer->text[0], call->folder);
        append_names_of(index);
    }
    append_args(index, (u64)call->argv);
}

static __always_inline void keep(struct exec_call *call) {
    u64 ticket = __sync_fetch_and_add(&last_ticket, 1) + 1;
    u32 slot = ticket % KEPT_EXECS;
    struct kept_exec *kept = bpf_map_lookup_elem(&kept_execs, &slot);

    if (!kept)
        return;
    kept->ticket = ticket;
    call->ticket = ticket;
    read_call(&kept->buffer, BUFFER_USERS + slot, call);
}

/* What was kept of a call; NULL where others have taken its place. */
static __always_inline struct exec_buffer *kept_buffer(struct exec_call *call) {
    u32 slot = call->ticket % KEPT_EXECS;
    struct kept_exec *kept = bpf_map_lookup_elem(&kept_execs, &slot);

    return kept && call->ticket && kept->ticket == call->ticket ? &kept->buffer : NULL;
}

static __always_inline int enter_exec(int folder, unsigned long path, unsigned long argv) {
    struct task_struct *task = bpf_get_current_task_btf();
    struct exec_call *call;

    if (is_self(task->tgid))
        return 0;
    call = bpf_task_storage_get(&exec_calls, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
    if (!call) {
        lost(METRIC_EXEC, LOSS_MAP_FULL);
        return 0;
    }
    call->path = (const char *)path;
    call->argv = (const char *const *)argv;
    call->mm = (u64)BPF_CORE_READ(task, mm);
    call->ticket = 0;
    call->folder = folder;
    if (!has_prepare_exec)
        keep(call);
    return 0;
}

/* From here on the exec replaces the program or ends the process. */
SEC("tp_btf/sched_prepare_exec")
int BPF_PROG(prepare_exec, struct task_struct *task) {
    struct exec_call *call = bpf_task_storage_get(&exec_calls, task, NULL, 0);

    if (call)
        keep(call);
    return 0;
}

static __always_inline int exit_exec(struct sys_exit *exit, u32 user) {
    struct task_struct *task = bpf_get_current_task_btf();
    struct exec_buffer *buffer, *kept = NULL;
    struct exec_call *call;

    if (exit->result >= 0 || is_self(task->tgid) || !wanted(METRIC_EXEC, task))
        return 0;
    call = bpf_task_storage_get(&exec_calls, task, NULL, 0);
    if (!call || !within_budget(METRIC_EXEC, starter_of(task)))
        return 0;
    if ((u64)BPF_CORE_READ(task, mm) != call->mm)
        kept = kept_buffer(call);
    buffer = kept ?: buffer_at(user);
    if (!buffer)
        return 0;
    if ((u64)BPF_CORE_READ(task, mm) == call->mm) {
        read_call(buffer, user, call);
    } else if (!kept) {
        begin_exec(buffer);
        buffer->event.truncated = 1;
    }
    buffer->event.return_value = exit->result;
    send_exec(buffer, task);
    return 0;
}

SEC("tracepoint/syscalls/sys_enter_execve")
int enter_execve(struct sys_enter *ctx) {
    return enter_exec(AT_FDCWD, ctx->args[0], ctx->args[1]);
}

SEC("tracepoint/syscalls/sys_exit_execve")
int exit_execve(struct sys_exit *ctx) {
    return exit_exec(ctx, BUFFER_EXECVE);
}

SEC("tracepoint/syscalls/sys_enter_execveat")
int enter_execveat(struct sys_enter *ctx) {
    return enter_exec(ctx->args[0], ctx->args[1], ctx->args[2]);
}

SEC("tracepoint/syscalls/sys_exit_execveat")
int exit_execveat(struct sys_exit *ctx) {
    return exit_exec(ctx, BUFFER_EXECVEAT);
}

#endif
