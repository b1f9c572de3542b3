/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * The event of a file's name that appears or goes, and how it is put together: all ways to see one share
 * this.
 */
#ifndef KUMON_FILE_EVENT_H
#define KUMON_FILE_EVENT_H

#include "budget.h"
#include "path.h"

/* The two paths of a rename, each of them with the folder it starts from. */
#define MAX_TEXT_BYTES (4 * MAX_PATH_BYTES)

#define FMODE_CREATED   (1 << 20) /* include/linux/fs.h, since Linux 4.19 */
#define UNNAMED         020000000 /* __O_TMPFILE, include/uapi/asm-generic/fcntl.h */
#define RENAME_EXCHANGE (1 << 1)  /* include/uapi/linux/fs.h */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
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
    struct nsproxy *nsproxy;
};
#pragma clang attribute pop

/* Which of the two are enabled; set before loading. */
const volatile bool filelife = true;
const volatile bool filegone = true;

EVENTS(2 * 1024 * 1024);

enum action { ACTION_CREATE, ACTION_UNLINK, ACTION_RMDIR, ACTION_RENAME, ACTION_EXCHANGE };

/* Which rows the event may become, as filters and samples decide. */
enum told {
    TOLD_FILEGONE = 1,
    TOLD_FILELIFE = 2,
    /* If it becomes a row of filelife it is one that the sample leaves out. */
    TOLD_SAMPLED_OUT = 4,
    /* Or one for which the budget has no room. */
    TOLD_RATE_LIMITED = 8,
};

/*
 * Followed by what the two paths are made of (one path unless it is a rename): path_bytes of the path as it
 * was given, with its NUL, then folder_bytes of the names of the folder it starts from, the innermost first,
 * each with its NUL. An exact path is all folder: it names the file itself, whatever the caller gave.
 */
struct file_event {
    enum action action;
    enum told told;
    u32 pid;
    u32 uid;
    u32 gid;
    u32 mount_namespace;
    u32 exact;
    u32 incomplete; /* a path could not be read or told to its root */
    u64 time;       /* CLOCK_BOOTTIME, ns */
    u64 start;      /* CLOCK_BOOTTIME, ns */
    u64 cgroup;
    s64 size; /* of the file that is gone; -1 where that isn't known */
    char name[TASK_COMM_LEN];
    u32 path_bytes[2];
    u32 folder_bytes[2];
};
EXPORT_TYPE(file_event);

/* Events are put together here, because their length varies. */
struct file_buffer {
    struct file_event event;
    /* Room for one more path than there can be: the offset is masked for the verifier, the length is not. */
    char text[MAX_TEXT_BYTES + MAX_PATH_BYTES];
    u32 used;
    u32 taken;
    /* Where append_folder() begins. */
    struct place place;
};

/*
 * Some for each CPU. Programs of tracepoints and kprobes run one at a time; those of fentry may be preempted
 * by a task that runs one on the same CPU.
 */
#define BUFFERS 3
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, BUFFERS);
    __type(key, u32);
    __type(value, struct file_buffer);
} file_buffers SEC(".maps");

static __always_inline void lost_event(enum action action, bool of_filegone) {
    if (filelife && action != ACTION_RMDIR)
        lost(METRIC_FILELIFE, LOSS_MAP_FULL);
    if (of_filegone)
        lost(METRIC_FILEGONE, LOSS_MAP_FULL);
}

/*
 * filelife has to know of every file that appears or goes, so that its filter, sample and budget decide about
 * rows only. Which deletion becomes one shows in user space: the budget has to take each for a row.
 */
static __always_inline u32 told(enum action action, struct task_struct *task) {
    u32 sample = shared.metrics[METRIC_FILELIFE].sample;
    u32 told = 0;

    if (action == ACTION_CREATE)
        return 0;
    if (filegone && wanted(METRIC_FILEGONE, task) && within_budget(METRIC_FILEGONE, subject_of(task)))
        told |= TOLD_FILEGONE;
    if (filelife && selected(METRIC_FILELIFE, task))
        told |= TOLD_FILELIFE;
    if (sample > 1 && bpf_get_prandom_u32() % sample)
        told |= TOLD_SAMPLED_OUT;
    else if (told & TOLD_FILELIFE && (action == ACTION_UNLINK || action == ACTION_RENAME) &&
             !admitted(METRIC_FILELIFE, subject_of(task)))
        told |= TOLD_RATE_LIMITED;
    return told;
}

/* How the kernel runs a program. */
enum { UNPREEMPTED = false, PREEMPTIBLE = true };

/*
 * A buffer of this CPU. Where a program may be preempted its buffer has to be given back; elsewhere it is
 * always the first one, without the atomic operation that Linux has since 5.12.
 */
static __always_inline struct file_buffer *take_buffer(bool preemptible, u32 *slot) {
    struct file_buffer *buffer;

#pragma unroll
    for (u32 i = 0; i < BUFFERS; i++) {
        *slot = i;
        buffer = bpf_map_lookup_elem(&file_buffers, slot);
        if (!buffer || !preemptible || !__sync_fetch_and_add(&buffer->taken, 1))
            return buffer;
        __sync_fetch_and_add(&buffer->taken, -1);
    }
    return NULL;
}

/*
 * Begins the event of what the current task does; send() ends it. NULL where nobody is told or, which is
 * counted, no buffer is left.
 */
static __always_inline struct file_buffer *begin_event(enum action action, bool preemptible, u32 *slot) {
    struct task_struct *task = (struct task_struct *)bpf_get_current_task();
    struct task_struct___file *member = (void *)task;
    u32 told_of = told(action, task);
    struct file_buffer *buffer;
    struct file_event *event;

    if (!(filelife && action != ACTION_RMDIR) && !(told_of & TOLD_FILEGONE))
        return NULL;
    buffer = take_buffer(preemptible, slot);
    if (!buffer) {
        lost_event(action, told_of & TOLD_FILEGONE);
        return NULL;
    }
    event = &buffer->event;
    event->action = action;
    event->told = told_of;
    event->pid = BPF_CORE_READ(task, tgid);
    event->uid = BPF_CORE_READ(task, cred, uid.val);
    event->gid = BPF_CORE_READ(task, cred, gid.val);
    event->mount_namespace = BPF_CORE_READ(member, nsproxy, mnt_ns, ns.inum);
    event->exact = 0;
    event->incomplete = 0;
    event->time = bpf_ktime_get_boot_ns();
    event->start = process_start(task);
    event->cgroup = bpf_get_current_cgroup_id();
    event->size = -1;
    BPF_CORE_READ_STR_INTO(&event->name, task, group_leader, comm);
    for (int i = 0; i < 2; i++) {
        event->path_bytes[i] = 0;
        event->folder_bytes[i] = 0;
    }
    buffer->used = 0;
    return buffer;
}

/*
 * Appends the names from the buffer's dentry up to the root of its mount namespace. A function of its own
 * that the verifier looks at once, not at each use.
 */
__noinline int append_folder(u32 slot, u32 which) {
    struct file_buffer *buffer = bpf_map_lookup_elem(&file_buffers, &slot);
    u32 begin;

    if (!buffer || which > 1)
        return 0;
    begin = buffer->used;
    if (append_names(buffer->text, MAX_TEXT_BYTES, &buffer->used, &buffer->place) != WAY_TO_ROOT)
        buffer->event.incomplete = 1;
    buffer->event.folder_bytes[which] = buffer->used - begin;
    return 0;
}

/* Tells the event and gives its buffer back. */
static __always_inline void send(struct file_buffer *buffer, bool preemptible) {
    enum action action = buffer->event.action;
    u32 bytes = buffer->used;

    /* The verifier forgets the bounds of what went through memory. */
    if (bytes <= MAX_TEXT_BYTES &&
        bpf_ringbuf_output(&events, buffer, sizeof(struct file_event) + bytes, BPF_RB_NO_WAKEUP)) {
        if (filelife && action != ACTION_RMDIR)
            lost(METRIC_FILELIFE, LOSS_RING_BUFFER_FULL);
        if (buffer->event.told & TOLD_FILEGONE)
            lost(METRIC_FILEGONE, LOSS_RING_BUFFER_FULL);
    }
    if (preemptible)
        __sync_fetch_and_add(&buffer->taken, -1);
}

/* Whether this very open has created the file, with a name. Most have not: what they cost ends here. */
static __always_inline bool was_created(struct file *file) {
    return BPF_CORE_READ(file, f_mode) & FMODE_CREATED && !(BPF_CORE_READ(file, f_flags) & UNNAMED);
}

/* Tells of a created file, whose own dentry is the exact one. */
static __always_inline void tell_created(struct place place, bool preemptible) {
    struct file_buffer *buffer;
    u32 slot;

    buffer = begin_event(ACTION_CREATE, preemptible, &slot);
    if (!buffer)
        return;
    buffer->event.exact = 1;
    buffer->place = place;
    append_folder(slot, 0);
    send(buffer, preemptible);
}

#endif
