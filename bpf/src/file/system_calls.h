/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * The lowest rung: tracepoints of the system calls, which every kernel has. A deletion is told with the path
 * that was asked for; which file that names, user space has to find out.
 */
#include "event.h"
#include "syscalls.h"

#define AT_FDCWD     -100  /* include/uapi/linux/fcntl.h */
#define AT_REMOVEDIR 0x200 /* include/uapi/linux/fcntl.h */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct fdtable {
    unsigned int max_fds;
    struct file **fd;
};
struct files_struct {
    struct fdtable *fdt;
};
struct fs_struct {
    struct path root;
    struct path pwd;
};
struct task_struct___folders {
    struct fs_struct *fs;
    struct files_struct *files;
};
#pragma clang attribute pop

/* Only to ask whether the kernel has it, since 5.11. */
enum bpf_func_id { BPF_FUNC_get_current_task_btf };

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

/*
 * The file of one of the current task's descriptors. Every open() comes here: where the kernel knows a
 * pointer's type a program follows it without calling a function for each step.
 */
static __always_inline struct file *open_file(int fd) {
    struct file **files, *file = NULL;
    struct fdtable *table;
    u32 size;

    if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_get_current_task_btf)) {
        table = ((struct task_struct___folders *)bpf_get_current_task_btf())->files->fdt;
        size = table->max_fds;
        files = table->fd;
    } else {
        table = BPF_CORE_READ((struct task_struct___folders *)bpf_get_current_task(), files, fdt);
        size = BPF_CORE_READ(table, max_fds);
        files = BPF_CORE_READ(table, fd);
    }
    if (fd < 0 || (u32)fd >= size)
        return NULL;
    bpf_probe_read_kernel(&file, sizeof(file), files + fd);
    return file;
}

/* A path as the caller's memory still holds it, and the folder where it starts. */
static __always_inline void append_path(struct file_buffer *buffer, u32 slot, struct file_call *call,
                                        u32 which) {
    struct task_struct___folders *task = (void *)bpf_get_current_task();
    char *text = buffer->text + (buffer->used & (MAX_TEXT_BYTES - 1));
    struct file *folder;
    long bytes;

    bytes = bpf_probe_read_user_str(text, MAX_PATH_BYTES, call->paths[which]);
    if (bytes <= 0 || bytes > MAX_PATH_BYTES) {
        buffer->event.incomplete = 1;
        return;
    }
    if (*text == '/') {
        buffer->mount = BPF_CORE_READ(task, fs, root.mnt);
        buffer->dentry = BPF_CORE_READ(task, fs, root.dentry);
    } else if (call->folders[which] == AT_FDCWD) {
        buffer->mount = BPF_CORE_READ(task, fs, pwd.mnt);
        buffer->dentry = BPF_CORE_READ(task, fs, pwd.dentry);
    } else {
        folder = open_file(call->folders[which]);
        buffer->mount = BPF_CORE_READ(folder, f_path.mnt);
        buffer->dentry = BPF_CORE_READ(folder, f_path.dentry);
    }
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
        lost_event(action);
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
        tell_created(BPF_CORE_READ(file, f_path.mnt), BPF_CORE_READ(file, f_path.dentry), UNPREEMPTED);
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
