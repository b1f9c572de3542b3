/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * The upper rungs: functions of the kernel, by fentry or else by kprobes. The paths are those of the files
 * themselves, and calls by io_uring and by 32-bit programs come this way too.
 *
 * Of a deletion or rename security_path_*() know the mount, before it is tried; that it succeeded shows when
 * the dentry is deleted or moved. These functions have had the same parameters since Linux 5.8; vfs_unlink()
 * and vfs_rename() haven't.
 */
#include "event.h"
#include "registers.h"

/* What the current thread is about to delete or rename. */
struct removal {
    struct dentry *dentry;
    struct dentry *new_dentry;
    struct vfsmount *mount;
    struct vfsmount *new_mount;
    enum action action;
};

/* By thread; what fails is overwritten by the thread's next one and goes with the thread. */
struct {
    __uint(type, BPF_MAP_TYPE_TASK_STORAGE);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, int);
    __type(value, struct removal);
} removals SEC(".maps");

static __always_inline int begin_removal(enum action action, const struct path *folder, struct dentry *dentry,
                                         const struct path *new_folder, struct dentry *new_dentry) {
    struct task_struct *task = bpf_get_current_task_btf();
    struct removal *removal;

    if (is_self(task->tgid) || (action == ACTION_RMDIR && !filegone))
        return 0;
    removal = bpf_task_storage_get(&removals, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
    if (!removal) {
        lost_event(action, filegone);
        return 0;
    }
    removal->action = action;
    removal->dentry = dentry;
    removal->mount = BPF_CORE_READ(folder, mnt);
    removal->new_dentry = new_dentry;
    removal->new_mount = new_folder ? BPF_CORE_READ(new_folder, mnt) : NULL;
    return 0;
}

/* The kernel deletes or moves a dentry, whose names are still the old ones. */
static __always_inline int end_removal(struct dentry *dentry) {
    struct removal *removal = bpf_task_storage_get(&removals, bpf_get_current_task_btf(), NULL, 0);
    struct dentry *gone = dentry;
    struct file_buffer *buffer;
    struct inode *inode;
    u32 slot;

    /* Below an overlay there is another dentry. */
    if (!removal || removal->dentry != dentry)
        return 0;
    removal->dentry = NULL;
    buffer = begin_event(removal->action, PREEMPTIBLE, &slot);
    if (!buffer)
        return 0;
    buffer->event.exact = 1;
    buffer->place = (struct place){dentry, removal->mount};
    append_folder(slot, 0);
    if (removal->action == ACTION_RENAME || removal->action == ACTION_EXCHANGE) {
        gone = removal->new_dentry;
        buffer->place = (struct place){gone, removal->new_mount};
        append_folder(slot, 1);
    }
    /* What a rename pushes out is gone, too. */
    inode = BPF_CORE_READ(gone, d_inode);
    if (inode && (removal->action == ACTION_UNLINK || removal->action == ACTION_RENAME))
        buffer->event.size = BPF_CORE_READ(inode, i_size);
    send(buffer, PREEMPTIBLE);
    return 0;
}

static __always_inline enum action rename_action(unsigned int flags) {
    return flags & RENAME_EXCHANGE ? ACTION_EXCHANGE : ACTION_RENAME;
}

static __always_inline bool by_self(void) {
    return is_self(bpf_get_current_pid_tgid() >> 32);
}

static __always_inline int opened(struct file *file) {
    /* An error is no address: nothing can be read there. */
    if (!by_self() && was_created(file))
        tell_created(place_of(file), PREEMPTIBLE);
    return 0;
}

/* Everything that opens by a path ends here, whatever the file system. */
SEC("fexit/do_filp_open")
int BPF_PROG(fexit_open, int folder, void *name, void *flags, struct file *file) {
    return opened(file);
}

/* The same function as 7.2 names it, 6.18 not yet. */
SEC("fexit/do_file_open")
int BPF_PROG(fexit_open_renamed, int folder, void *name, void *flags, struct file *file) {
    return opened(file);
}

/* A kprobe at a function's end would miss some; this one is called where the file is created. */
SEC("kprobe/vfs_open")
int BPF_KPROBE(kprobe_open, const struct path *path, struct file *file) {
    if (!by_self() && was_created(file))
        tell_created((struct place){BPF_CORE_READ(path, dentry), BPF_CORE_READ(path, mnt)}, PREEMPTIBLE);
    return 0;
}

/* A program at the beginning of a function, by fentry and by a kprobe. */
#define ON_CALL(name, function, handler, ...)                                                                \
    SEC("fentry/" #function)                                                                                 \
    int BPF_PROG(fentry_##name, __VA_ARGS__) {                                                               \
        return handler;                                                                                      \
    }                                                                                                        \
    SEC("kprobe/" #function)                                                                                 \
    int BPF_KPROBE(kprobe_##name, __VA_ARGS__) {                                                             \
        return handler;                                                                                      \
    }

ON_CALL(unlink, security_path_unlink, begin_removal(ACTION_UNLINK, folder, dentry, NULL, NULL),
        const struct path *folder, struct dentry *dentry)
ON_CALL(rmdir, security_path_rmdir, begin_removal(ACTION_RMDIR, folder, dentry, NULL, NULL),
        const struct path *folder, struct dentry *dentry)
ON_CALL(rename, security_path_rename,
        begin_removal(rename_action(flags), folder, dentry, new_folder, new_dentry),
        const struct path *folder, struct dentry *dentry, const struct path *new_folder,
        struct dentry *new_dentry, unsigned int flags)
ON_CALL(deleted, d_delete, end_removal(dentry), struct dentry *dentry)
ON_CALL(moved, d_move, end_removal(dentry), struct dentry *dentry)
ON_CALL(exchanged, d_exchange, end_removal(dentry), struct dentry *dentry)
