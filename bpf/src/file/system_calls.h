/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * The lowest rung: tracepoints of the system calls, which every kernel has. A deletion is told with the path
 * that was asked for; which file that names, user space has to find out.
 */
#include "event.h"
#include "syscalls.h"

#define AT_REMOVEDIR 0x200 /* include/uapi/linux/fcntl.h */

/* What a system call was given, kept until it is known whether it succeeded. */
struct file_call {
    enum action action;
    int folders[2];
    const char *paths[2];
};

/* Calls under way, by thread. Each one leaves by its exit, so what stands here are threads at work. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 8192);
    __type(key, u64);
    __type(value, struct file_call);
} file_calls SEC(".maps");

/* A path as the caller's memory still holds it, and the folder where it starts. */
static __always_inline void append_path(struct file_buffer *buffer, u32 slot, struct file_call *call,
                                        u32 which) {
    char *text = buffer->text + (buffer->used & (MAX_TEXT_BYTES - 1));
    long bytes;

    bytes = bpf_probe_read_user_str(text, MAX_PATH_BYTES, call->paths[which]);
    if (bytes <= 0 || bytes > MAX_PATH_BYTES) {
        buffer->event.incomplete = 1;
        return;
    }
    buffer->place = starting_place(*text, call->folders[which]);
    buffer->event.path_bytes[which] = bytes;
    buffer->used += bytes;
    append_folder(slot, which);
}

/* Tells what a successful system call removed or renamed. Looked at once by the verifier, too. */
__noinline int tell_gone(u32 padding) {
    u64 thread = bpf_get_current_pid_tgid();
    struct file_call *call = bpf_map_lookup_elem(&file_calls, &thread);
    struct file_buffer *buffer;
    u32 slot;

    if (!call)
        return 0;
    buffer = begin_event(call->action, UNPREEMPTED, &slot);
    if (!buffer)
        return 0;
    append_path(buffer, slot, call, 0);
    if (call->action == ACTION_RENAME || call->action == ACTION_EXCHANGE)
        append_path(buffer, slot, call, 1);
    send(buffer, UNPREEMPTED);
    return 0;
}

static __always_inline int exit_call(struct sys_exit *ctx) {
    u64 thread = bpf_get_current_pid_tgid();

    if (!ctx->result)
        tell_gone(0);
    bpf_map_delete_elem(&file_calls, &thread);
    return 0;
}

static __always_inline int enter_call(enum action action, int old_folder, unsigned long old_path,
                                      int new_folder, unsigned long new_path) {
    u64 thread = bpf_get_current_pid_tgid();
    struct file_call call = {
        .action = action,
        .folders = {old_folder, new_folder},
        .paths = {(const char *)old_path, (const char *)new_path},
    };

    if (is_self(thread >> 32) || (action == ACTION_RMDIR && !filegone))
        return 0;
    if (bpf_map_update_elem(&file_calls, &thread, &call, BPF_ANY))
        lost_event(action, filegone);
    return 0;
}

SEC("tracepoint/syscalls/sys_enter_unlink")
int enter_unlink(struct sys_enter *ctx) {
    return enter_call(ACTION_UNLINK, AT_FDCWD, ctx->args[0], 0, 0);
}

SEC("tracepoint/syscalls/sys_enter_unlinkat")
int enter_unlinkat(struct sys_enter *ctx) {
    enum action action = ctx->args[2] & AT_REMOVEDIR ? ACTION_RMDIR : ACTION_UNLINK;

    return enter_call(action, ctx->args[0], ctx->args[1], 0, 0);
}

SEC("tracepoint/syscalls/sys_enter_rmdir")
int enter_rmdir(struct sys_enter *ctx) {
    return enter_call(ACTION_RMDIR, AT_FDCWD, ctx->args[0], 0, 0);
}

SEC("tracepoint/syscalls/sys_enter_rename")
int enter_rename(struct sys_enter *ctx) {
    return enter_call(ACTION_RENAME, AT_FDCWD, ctx->args[0], AT_FDCWD, ctx->args[1]);
}

SEC("tracepoint/syscalls/sys_enter_renameat")
int enter_renameat(struct sys_enter *ctx) {
    return enter_call(ACTION_RENAME, ctx->args[0], ctx->args[1], ctx->args[2], ctx->args[3]);
}

SEC("tracepoint/syscalls/sys_enter_renameat2")
int enter_renameat2(struct sys_enter *ctx) {
    enum action action = ctx->args[4] & RENAME_EXCHANGE ? ACTION_EXCHANGE : ACTION_RENAME;

    return enter_call(action, ctx->args[0], ctx->args[1], ctx->args[2], ctx->args[3]);
}

static __always_inline int exit_open_call(struct sys_exit *ctx) {
    struct file *file;

    if (ctx->result < 0 || is_self(bpf_get_current_pid_tgid() >> 32))
        return 0;
    file = open_file(ctx->result);
    if (was_created(file))
        tell_created(place_of(file), UNPREEMPTED);
    return 0;
}

/* Each system call has a tracepoint, and so a program, of its own. */
#define ON_EXIT(call, handler)                                                                               \
    SEC("tracepoint/syscalls/sys_exit_" #call)                                                               \
    int exit_##call(struct sys_exit *ctx) {                                                                  \
        return handler(ctx);                                                                                 \
    }

ON_EXIT(unlink, exit_call)
ON_EXIT(unlinkat, exit_call)
ON_EXIT(rmdir, exit_call)
ON_EXIT(rename, exit_call)
ON_EXIT(renameat, exit_call)
ON_EXIT(renameat2, exit_call)
ON_EXIT(open, exit_open_call)
ON_EXIT(openat, exit_open_call)
ON_EXIT(openat2, exit_open_call)
ON_EXIT(creat, exit_open_call)
