/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Calls by io_uring pass by the tracepoints of system calls. They are not looked into there, only counted as
 * they are submitted, so that it shows what is missing.
 */
#include "event.h"

/* include/uapi/linux/io_uring.h */
#define IORING_OP_OPENAT   18
#define IORING_OP_OPENAT2  28
#define IORING_OP_RENAMEAT 35
#define IORING_OP_UNLINKAT 36
#define O_CREAT            0100 /* include/uapi/asm-generic/fcntl.h */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct io_cmd_data {
    struct file *file;
};
struct io_kiocb {
    struct io_cmd_data cmd;
    u8 opcode;
};
struct open_how {
    u64 flags;
};
/* What cmd holds of an open. */
struct io_open {
    struct open_how how;
};
#pragma clang attribute pop

/* Which argument of the tracepoint is the operation; 0 where the first one is the request that has it. */
const volatile u32 opcode_argument = 0;

/* By metric. */
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, u32);
    __type(value, u64[2]);
} uring_calls SEC(".maps");

static __always_inline u8 submitted_operation(u64 *ctx) {
    struct io_kiocb *request = (void *)ctx[0];

    if (opcode_argument == 1)
        return ctx[1];
    if (opcode_argument == 2)
        return ctx[2];
    if (opcode_argument == 3)
        return ctx[3];
    return BPF_CORE_READ(request, opcode);
}

/* Whether an open may make a file; where the kernel doesn't say how it was asked for, any may. */
static __always_inline bool may_create(u64 *ctx) {
    struct io_kiocb *request = (void *)ctx[0];
    struct io_open *open = (void *)request + bpf_core_field_offset(request->cmd);

    if (opcode_argument || !bpf_core_field_exists(request->cmd) || !bpf_core_field_exists(open->how))
        return true;
    return BPF_CORE_READ(open, how.flags) & O_CREAT;
}

static __always_inline int count_submitted(u64 *ctx) {
    struct task_struct *task = (struct task_struct *)bpf_get_current_task();
    u8 operation = submitted_operation(ctx);
    u32 all = 0;
    u64 *counts;

    if (operation == IORING_OP_OPENAT || operation == IORING_OP_OPENAT2) {
        if (!may_create(ctx))
            return 0;
    } else if (operation != IORING_OP_RENAMEAT && operation != IORING_OP_UNLINKAT) {
        return 0;
    }
    counts = bpf_map_lookup_elem(&uring_calls, &all);
    if (!counts || is_self(bpf_get_current_pid_tgid() >> 32))
        return 0;
    if (filelife)
        __sync_fetch_and_add(&counts[METRIC_FILELIFE], 1);
    if (filegone && operation >= IORING_OP_RENAMEAT && selected(METRIC_FILEGONE, task))
        __sync_fetch_and_add(&counts[METRIC_FILEGONE], 1);
    return 0;
}

SEC("tp_btf/io_uring_submit_req")
int submit_req(u64 *ctx) {
    return count_submitted(ctx);
}

/* The same before Linux 6.4. */
SEC("tp_btf/io_uring_submit_sqe")
int submit_sqe(u64 *ctx) {
    return count_submitted(ctx);
}
