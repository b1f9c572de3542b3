/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* File names that appear and go: creations for filelife, deletions and renames for filelife and filegone. */

enum metric { METRIC_FILELIFE, METRIC_FILEGONE };
#include "kumon.h"
#include "syscalls.h"

#define MAX_PATH_BYTES 4096 /* PATH_MAX, the NUL included */
#define MAX_NAME_BYTES 256  /* NAME_MAX and the NUL */
/* The two paths of a rename, each of them with the folder it starts from. */
#define MAX_TEXT_BYTES (4 * MAX_PATH_BYTES)
/* Names and mounts on the way from a folder to the root; the loop has to have an end. */
#define MAX_DEPTH 128

#define FMODE_CREATED   (1 << 20) /* include/linux/fs.h, since Linux 4.19 */
#define UNNAMED         020000000 /* __O_TMPFILE, include/uapi/asm-generic/fcntl.h */
#define AT_FDCWD        -100      /* include/uapi/linux/fcntl.h */
#define AT_REMOVEDIR    0x200     /* include/uapi/linux/fcntl.h */
#define RENAME_EXCHANGE (1 << 1)  /* include/uapi/linux/fs.h */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct qstr {
    const unsigned char *name;
};
struct dentry {
    struct dentry *d_parent;
    struct qstr d_name;
};
struct vfsmount {
    struct dentry *mnt_root;
};
struct mount {
    struct mount *mnt_parent;
    struct dentry *mnt_mountpoint;
    struct vfsmount mnt;
};
struct path {
    struct vfsmount *mnt;
    struct dentry *dentry;
};
struct file {
    unsigned int f_mode;
    unsigned int f_flags;
    struct path f_path;
};
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
struct ns_common {
    unsigned int inum;
};
struct mnt_namespace {
    struct ns_common ns;
};
struct nsproxy {
    struct mnt_namespace *mnt_ns;
};
struct task_struct___file {
    struct fs_struct *fs;
    struct files_struct *files;
    struct nsproxy *nsproxy;
};
#pragma clang attribute pop

/* Which of the two are enabled; set before loading. */
const volatile bool filelife = true;
const volatile bool filegone = true;

EVENTS(2 * 1024 * 1024);

enum action { ACTION_CREATE, ACTION_UNLINK, ACTION_RMDIR, ACTION_RENAME, ACTION_EXCHANGE };

/*
 * Followed by what the two paths are made of (one path unless it is a rename): path_bytes of the path as it
 * was given, with its NUL, then folder_bytes of the names of the folder it starts from, the innermost first,
 * each with its NUL.
 */
struct file_event {
    enum action action;
    u32 pid;
    u32 uid;
    u32 gid;
    u32 mount_namespace;
    u32 incomplete; /* a path could not be read or told to its root */
    u64 time;       /* CLOCK_BOOTTIME, ns */
    u64 start;      /* CLOCK_BOOTTIME, ns */
    u64 cgroup;
    char name[TASK_COMM_LEN];
    u32 path_bytes[2];
    u32 folder_bytes[2];
};
EXPORT_TYPE(file_event);

/*
 * Events are put together here, because their length varies. The kernel runs one tracepoint program at a time
 * on a CPU and doesn't move it meanwhile, so all of them share the CPU's buffer.
 */
struct file_buffer {
    struct file_event event;
    /* Room for one more path than there can be: the offset is masked for the verifier, the length is not. */
    char text[MAX_TEXT_BYTES + MAX_PATH_BYTES];
    u32 used;
    u32 padding;
    /* Where append_folder() begins. */
    struct dentry *dentry;
    struct vfsmount *mount;
};
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, u32);
    __type(value, struct file_buffer);
} file_buffers SEC(".maps");

/* What a system call was given, kept until it is known whether it succeeded. */
struct file_call {
    u64 pending;
    enum action action;
    int folders[2];
    const char *paths[2];
};
struct {
    __uint(type, BPF_MAP_TYPE_TASK_STORAGE);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, int);
    __type(value, struct file_call);
} file_calls SEC(".maps");

static __always_inline struct file_buffer *file_buffer(void) {
    u32 zero = 0;

    return bpf_map_lookup_elem(&file_buffers, &zero);
}

static __always_inline void describe(struct file_event *event, enum action action, struct task_struct *task) {
    struct task_struct___file *paths = (void *)task;

    event->action = action;
    event->pid = BPF_CORE_READ(task, tgid);
    event->uid = BPF_CORE_READ(task, cred, uid.val);
    event->gid = BPF_CORE_READ(task, cred, gid.val);
    event->mount_namespace = BPF_CORE_READ(paths, nsproxy, mnt_ns, ns.inum);
    event->incomplete = 0;
    event->time = bpf_ktime_get_boot_ns();
    event->start = process_start(task);
    event->cgroup = bpf_get_current_cgroup_id();
    BPF_CORE_READ_STR_INTO(&event->name, task, group_leader, comm);
    for (int i = 0; i < 2; i++) {
        event->path_bytes[i] = 0;
        event->folder_bytes[i] = 0;
    }
}

/*
 * Appends the names from the buffer's dentry up to the root of its mount namespace. A function of its own
 * that the verifier looks at once, not at each use.
 */
__noinline int append_folder(u32 which) {
    struct file_buffer *buffer = file_buffer();
    struct dentry *dentry, *parent;
    struct mount *mount, *above;
    u32 begin, used;
    long bytes;

    if (!buffer || which > 1)
        return 0;
    dentry = buffer->dentry;
    mount = (void *)buffer->mount - bpf_core_field_offset(struct mount, mnt);
    begin = used = buffer->used;
    buffer->event.incomplete = 1;
    for (int i = 0; i < MAX_DEPTH; i++) {
        if (dentry == BPF_CORE_READ(mount, mnt.mnt_root)) {
            above = BPF_CORE_READ(mount, mnt_parent);
            if (above == mount)
                buffer->event.incomplete = 0;
            if (!above || above == mount)
                break;
            dentry = BPF_CORE_READ(mount, mnt_mountpoint);
            mount = above;
            continue;
        }
        parent = BPF_CORE_READ(dentry, d_parent);
        /* A file system's root that isn't the mount's: the folder was moved out of a bind mount. */
        if (!parent || parent == dentry || used - begin > MAX_PATH_BYTES - MAX_NAME_BYTES)
            break;
        bytes = bpf_probe_read_kernel_str(buffer->text + (used & (MAX_TEXT_BYTES - 1)), MAX_NAME_BYTES,
                                          BPF_CORE_READ(dentry, d_name.name));
        if (bytes <= 0)
            break;
        used += bytes;
        dentry = parent;
    }
    buffer->event.folder_bytes[which] = used - begin;
    buffer->used = used;
    return 0;
}

static __always_inline struct file *open_file(struct task_struct *task, int fd) {
    struct task_struct___file *holder = (void *)task;
    struct fdtable *table = BPF_CORE_READ(holder, files, fdt);
    struct file **files, *file = NULL;

    if (fd < 0 || (u32)fd >= BPF_CORE_READ(table, max_fds))
        return NULL;
    files = BPF_CORE_READ(table, fd);
    bpf_probe_read_kernel(&file, sizeof(file), files + fd);
    return file;
}

static __always_inline void send(struct file_buffer *buffer, bool of_filelife, bool of_filegone) {
    u32 bytes = buffer->used;

    /* The verifier forgets the bounds of what went through memory. */
    if (bytes > MAX_TEXT_BYTES)
        return;
    if (bpf_ringbuf_output(&events, buffer, sizeof(struct file_event) + bytes, BPF_RB_NO_WAKEUP)) {
        if (of_filelife)
            lost(METRIC_FILELIFE, LOSS_RING_BUFFER_FULL);
        if (of_filegone)
            lost(METRIC_FILEGONE, LOSS_RING_BUFFER_FULL);
    }
}

/* A path as the caller's memory still holds it, and the folder where it starts. */
static __always_inline void append_path(struct file_buffer *buffer, struct task_struct *task,
                                        struct file_call *call, u32 which) {
    struct task_struct___file *holder = (void *)task;
    struct file *folder;
    char *text = buffer->text + (buffer->used & (MAX_TEXT_BYTES - 1));
    u32 incomplete = buffer->event.incomplete;
    long bytes;

    bytes = bpf_probe_read_user_str(text, MAX_PATH_BYTES, call->paths[which]);
    if (bytes <= 0 || bytes > MAX_PATH_BYTES) {
        buffer->event.incomplete = 1;
        return;
    }
    if (*text == '/') {
        buffer->mount = BPF_CORE_READ(holder, fs, root.mnt);
        buffer->dentry = BPF_CORE_READ(holder, fs, root.dentry);
    } else if (call->folders[which] == AT_FDCWD) {
        buffer->mount = BPF_CORE_READ(holder, fs, pwd.mnt);
        buffer->dentry = BPF_CORE_READ(holder, fs, pwd.dentry);
    } else {
        folder = open_file(task, call->folders[which]);
        buffer->mount = BPF_CORE_READ(folder, f_path.mnt);
        buffer->dentry = BPF_CORE_READ(folder, f_path.dentry);
    }
    buffer->event.path_bytes[which] = bytes;
    buffer->used += bytes;
    append_folder(which);
    buffer->event.incomplete |= incomplete;
}

/* Tells what a successful system call removed or renamed. Looked at once by the verifier, too. */
__noinline int tell_gone(u32 padding) {
    struct task_struct *task = bpf_get_current_task_btf();
    struct file_buffer *buffer = file_buffer();
    struct file_call *call = bpf_task_storage_get(&file_calls, task, NULL, 0);

    if (!buffer || !call || !call->pending)
        return 0;
    call->pending = 0;
    describe(&buffer->event, call->action, task);
    buffer->used = 0;
    append_path(buffer, task, call, 0);
    if (call->action == ACTION_RENAME || call->action == ACTION_EXCHANGE)
        append_path(buffer, task, call, 1);
    send(buffer, filelife && call->action != ACTION_RMDIR, filegone);
    return 0;
}

static __always_inline int exit_call(struct sys_exit *ctx) {
    return ctx->result ? 0 : tell_gone(0);
}

static __always_inline int enter_call(enum action action, int old_folder, unsigned long old_path,
                                      int new_folder, unsigned long new_path) {
    struct task_struct *task = bpf_get_current_task_btf();
    struct file_call *call;

    if (is_self(task->tgid) || (action == ACTION_RMDIR && !filegone))
        return 0;
    call = bpf_task_storage_get(&file_calls, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
    if (!call) {
        if (filelife && action != ACTION_RMDIR)
            lost(METRIC_FILELIFE, LOSS_MAP_FULL);
        if (filegone)
            lost(METRIC_FILEGONE, LOSS_MAP_FULL);
        return 0;
    }
    call->pending = 1;
    call->action = action;
    call->folders[0] = old_folder;
    call->paths[0] = (const char *)old_path;
    call->folders[1] = new_folder;
    call->paths[1] = (const char *)new_path;
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

SEC("tracepoint/syscalls/sys_exit_unlink")
int exit_unlink(struct sys_exit *ctx) {
    return exit_call(ctx);
}

SEC("tracepoint/syscalls/sys_exit_unlinkat")
int exit_unlinkat(struct sys_exit *ctx) {
    return exit_call(ctx);
}

SEC("tracepoint/syscalls/sys_exit_rmdir")
int exit_rmdir(struct sys_exit *ctx) {
    return exit_call(ctx);
}

SEC("tracepoint/syscalls/sys_exit_rename")
int exit_rename(struct sys_exit *ctx) {
    return exit_call(ctx);
}

SEC("tracepoint/syscalls/sys_exit_renameat")
int exit_renameat(struct sys_exit *ctx) {
    return exit_call(ctx);
}

SEC("tracepoint/syscalls/sys_exit_renameat2")
int exit_renameat2(struct sys_exit *ctx) {
    return exit_call(ctx);
}

/* Tells of a file that this very open has created; the descriptor's own dentry is the exact one. */
static __always_inline int exit_open_call(struct sys_exit *ctx) {
    struct task_struct *task = bpf_get_current_task_btf();
    struct file_buffer *buffer;
    struct file *file;

    if (ctx->result < 0 || is_self(task->tgid))
        return 0;
    file = open_file(task, ctx->result);
    if (!(BPF_CORE_READ(file, f_mode) & FMODE_CREATED) || BPF_CORE_READ(file, f_flags) & UNNAMED)
        return 0;
    buffer = file_buffer();
    if (!buffer)
        return 0;
    describe(&buffer->event, ACTION_CREATE, task);
    buffer->used = 0;
    buffer->mount = BPF_CORE_READ(file, f_path.mnt);
    buffer->dentry = BPF_CORE_READ(file, f_path.dentry);
    append_folder(0);
    send(buffer, true, false);
    return 0;
}

SEC("tracepoint/syscalls/sys_exit_open")
int exit_open(struct sys_exit *ctx) {
    return exit_open_call(ctx);
}

SEC("tracepoint/syscalls/sys_exit_openat")
int exit_openat(struct sys_exit *ctx) {
    return exit_open_call(ctx);
}

SEC("tracepoint/syscalls/sys_exit_openat2")
int exit_openat2(struct sys_exit *ctx) {
    return exit_open_call(ctx);
}

SEC("tracepoint/syscalls/sys_exit_creat")
int exit_creat(struct sys_exit *ctx) {
    return exit_open_call(ctx);
}
