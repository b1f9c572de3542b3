/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* What exec and exit tell of a process, and how the event of an exec is put together. */
#ifndef KUMON_PROCESS_EXEC_H
#define KUMON_PROCESS_EXEC_H

#include "budget.h"
#include "path.h"

/* MAX_ARGS_BYTES of settings.rs is the same. */
#define MAX_ARGS_BYTES 4096
/* A path as it was given, the names of a file, and the arguments: less than this power of two. */
#define MAX_TEXT_BYTES 16384

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct linux_binprm {
    int argc;
    const char *filename;
};
struct mm_struct___exec {
    struct file *exe_file;
};
struct cred___effective {
    kuid_t euid;
    kgid_t egid;
};
#pragma clang attribute pop

const volatile u32 max_args_bytes = MAX_ARGS_BYTES;

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

/*
 * Followed by filename_bytes of the path as it was given, with its NUL; names_bytes of the names of the file
 * that runs, or of the folder that the path of a failed exec starts from, the innermost first, each with its
 * NUL; args_bytes of the arguments, each with its NUL.
 */
struct exec_event {
    struct process_info process;
    u32 effective_uid;
    u32 effective_gid;
    s32 return_value;
    u32 args_count;
    u32 filename_bytes;
    u32 names_bytes;
    u32 args_bytes;
    u32 truncated;
    /* That of the names. */
    enum way way;
    /* The file has lost its name. */
    u32 deleted;
};
EXPORT_TYPE(exec_event);

struct exec_buffer {
    struct exec_event event;
    /* Offsets are masked for the verifier, the length of what begins there is not. */
    char text[MAX_TEXT_BYTES + MAX_PATH_BYTES];
    u32 used;
    /* An argument of a failed exec found no room. */
    u32 args_cut;
    /* Where append_names_of() begins. */
    struct place place;
};

/*
 * An event of varying length is put together here: reserving the longest one in the ring buffer would waste
 * it. Each program has its own entry per CPU, and the kernel doesn't let a program interrupt itself on a CPU,
 * so that nobody else writes into it meanwhile. User space leaves out those of failed execs.
 */
enum buffer_user { BUFFER_EXEC, BUFFER_EXECVE, BUFFER_EXECVEAT, BUFFER_USERS };
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, BUFFER_USERS);
    __type(key, u32);
    __type(value, struct exec_buffer);
} exec_buffers SEC(".maps");

/*
 * What execs were given that may fail after they have ended their programs. Each takes the next one, from
 * whoever had it: so many would have to begin before the first of them has failed.
 */
#define KEPT_EXECS 64
struct kept_exec {
    u64 ticket;
    struct exec_buffer buffer;
};
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, KEPT_EXECS);
    __type(key, u32);
    __type(value, struct kept_exec);
} kept_execs SEC(".maps");

/* One of a program's own, by its user, or behind them one that is kept. */
static __always_inline struct exec_buffer *buffer_at(u32 index) {
    struct kept_exec *kept;
    u32 slot;

    if (index < BUFFER_USERS)
        return bpf_map_lookup_elem(&exec_buffers, &index);
    slot = index - BUFFER_USERS;
    kept = bpf_map_lookup_elem(&kept_execs, &slot);
    return kept ? &kept->buffer : NULL;
}

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

/* Who used a budget of starts and ends: each process has but one or two, so it is the one that starts them.
 */
static __always_inline struct subject starter_of(struct task_struct *task) {
    struct task_struct *parent = BPF_CORE_READ(task, group_leader, real_parent, group_leader);

    return (struct subject){
        .cgroup = cgroup_id_of(task),
        .process = BPF_CORE_READ(parent, tgid),
        .name = name_of(parent),
    };
}

/* Nothing is known of it yet. */
static __always_inline void begin_exec(struct exec_buffer *buffer) {
    buffer->event.return_value = 0;
    buffer->event.args_count = 0;
    buffer->event.filename_bytes = 0;
    buffer->event.names_bytes = 0;
    buffer->event.args_bytes = 0;
    buffer->event.truncated = 0;
    buffer->event.way = WAY_TO_ROOT;
    buffer->event.deleted = 0;
    buffer->used = 0;
}

/* Takes note of what reading the path at the beginning of the text has returned. */
static __always_inline void add_filename(struct exec_buffer *buffer, long bytes) {
    if (bytes < 0 || bytes > MAX_PATH_BYTES)
        bytes = 0;
    buffer->event.filename_bytes = buffer->used = bytes;
}

/*
 * Appends the names of the buffer's place. A function of its own that the verifier looks at once, not at each
 * use.
 */
__noinline int append_names_of(u32 index) {
    struct exec_buffer *buffer = buffer_at(index);
    u32 begin;

    if (!buffer)
        return 0;
    begin = buffer->used;
    buffer->event.way = append_names(buffer->text, MAX_TEXT_BYTES, &buffer->used, &buffer->place);
    buffer->event.names_bytes = buffer->used - begin;
    return 0;
}

static __always_inline void send_exec(struct exec_buffer *buffer, struct task_struct *task) {
    struct cred___effective *cred = (void *)BPF_CORE_READ(task, cred);
    u32 filename = buffer->event.filename_bytes, names = buffer->event.names_bytes;
    u32 args = buffer->event.args_bytes;

    describe(&buffer->event.process, METRIC_EXEC, task);
    buffer->event.effective_uid = BPF_CORE_READ(cred, euid.val);
    buffer->event.effective_gid = BPF_CORE_READ(cred, egid.val);
    /* The verifier forgets the bounds of what went through memory. */
    if (filename > MAX_PATH_BYTES || names > MAX_PATH_BYTES || args > MAX_ARGS_BYTES)
        return;
    send_event(METRIC_EXEC, buffer, sizeof(struct exec_event) + filename + names + args);
}

#endif
