/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Paths of files: the names from a file or folder up to the root of its mount namespace, across mounts, as
 * the kernel itself has them. src/path.rs puts them together.
 */
#ifndef KUMON_PATH_H
#define KUMON_PATH_H

#include "kumon.h"

#define MAX_PATH_BYTES 4096 /* PATH_MAX, the NUL included */
#define MAX_NAME_BYTES 256  /* NAME_MAX and the NUL */
/* Names and mounts on the way from a folder to the root; the loop has to have an end. */
#define MAX_DEPTH 128

#define AT_FDCWD -100 /* include/uapi/linux/fcntl.h */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct qstr {
    const unsigned char *name;
};
struct inode {
    s64 i_size;
};
struct hlist_bl_node {
    struct hlist_bl_node **pprev;
};
struct dentry {
    struct hlist_bl_node d_hash;
    struct dentry *d_parent;
    struct qstr d_name;
    struct inode *d_inode;
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
struct task_struct___folders {
    struct fs_struct *fs;
    struct files_struct *files;
};
#pragma clang attribute pop

/* Only to ask whether the kernel has it, since 5.11. */
enum bpf_func_id { BPF_FUNC_get_current_task_btf };

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

/* A file or folder, and the mount through which it is seen. */
struct place {
    struct dentry *dentry;
    struct vfsmount *mount;
};

static __always_inline struct place place_of(struct file *file) {
    return (struct place){BPF_CORE_READ(file, f_path.dentry), BPF_CORE_READ(file, f_path.mnt)};
}

/* Where the current task looks for a path with this first character, given with this descriptor of a folder.
 */
static __always_inline struct place starting_place(char first, int folder) {
    struct task_struct___folders *task = (void *)bpf_get_current_task();

    if (first == '/')
        return (struct place){BPF_CORE_READ(task, fs, root.dentry), BPF_CORE_READ(task, fs, root.mnt)};
    if (folder == AT_FDCWD)
        return (struct place){BPF_CORE_READ(task, fs, pwd.dentry), BPF_CORE_READ(task, fs, pwd.mnt)};
    return place_of(open_file(folder));
}

/* How far the names of a place lead. */
enum way {
    WAY_TO_ROOT,
    /* Only the last of them are told: there are too many, or they end before the root. */
    WAY_INCOMPLETE,
    /* The file lies in no folder, as one of memfd_create(2). */
    WAY_NOWHERE,
};

/*
 * Appends the names from a place up to the root of its mount namespace at text + *used, the innermost first,
 * each with its NUL, and leaves the place where it ended. `room` is the power of two that *used stays below;
 * the text has MAX_PATH_BYTES more.
 *
 * What a step leaves to the next one has to lie in a map: the verifier knows nothing of it there, so all ways
 * through a step look alike. Registers differ after each, and the verifier follows each one to the loop's
 * end: ten times the instructions, and 0.2 s of a start for each program that comes here.
 */
static __always_inline enum way append_names(char *text, u32 room, volatile u32 *used,
                                             volatile struct place *place) {
    struct dentry *dentry, *parent;
    struct mount *mount, *above;
    u32 begin = *used;
    long bytes;

    for (int i = 0; i < MAX_DEPTH; i++) {
        dentry = place->dentry;
        mount = (void *)place->mount - bpf_core_field_offset(struct mount, mnt);
        if (dentry == BPF_CORE_READ(mount, mnt.mnt_root)) {
            above = BPF_CORE_READ(mount, mnt_parent);
            if (above == mount)
                return WAY_TO_ROOT;
            if (!above)
                return WAY_INCOMPLETE;
            place->dentry = BPF_CORE_READ(mount, mnt_mountpoint);
            place->mount = (void *)above + bpf_core_field_offset(struct mount, mnt);
            continue;
        }
        parent = BPF_CORE_READ(dentry, d_parent);
        if (!parent || *used - begin > MAX_PATH_BYTES - MAX_NAME_BYTES)
            return WAY_INCOMPLETE;
        /* A file system's root that isn't the mount's: the folder was moved out of a bind mount. */
        if (parent == dentry && *used != begin)
            return WAY_INCOMPLETE;
        bytes = bpf_probe_read_kernel_str(text + (*used & (room - 1)), MAX_NAME_BYTES,
                                          BPF_CORE_READ(dentry, d_name.name));
        if (bytes <= 0)
            return WAY_INCOMPLETE;
        *used += bytes;
        if (parent == dentry)
            return WAY_NOWHERE;
        place->dentry = parent;
    }
    return WAY_INCOMPLETE;
}

#endif
