/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * What the BPF programs know about the kernel: only the fields they read. libbpf relocates each access by the
 * running kernel's BTF (CO-RE), so order, offsets and omissions don't matter here, names do. A program that
 * needs more fields of a struct declares a flavour of it in its own file, as struct task_struct___sched.
 */
#ifndef KUMON_KERNEL_H
#define KUMON_KERNEL_H

typedef signed char __s8;
typedef unsigned char __u8;
typedef short __s16;
typedef unsigned short __u16;
typedef int __s32;
typedef unsigned int __u32;
typedef long long __s64;
typedef unsigned long long __u64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u64 __be64;
typedef __u32 __wsum;

typedef __s8 s8;
typedef __u8 u8;
typedef __s16 s16;
typedef __u16 u16;
typedef __s32 s32;
typedef __u32 u32;
typedef __s64 s64;
typedef __u64 u64;

#ifndef bool
#define bool _Bool
#define true 1
#define false 0
#endif
#define NULL ((void *)0)

/* From include/uapi/linux/bpf.h: values of the stable interface. */
enum {
    BPF_MAP_TYPE_HASH = 1,
    BPF_MAP_TYPE_ARRAY = 2,
    BPF_MAP_TYPE_PERCPU_HASH = 5,
    BPF_MAP_TYPE_PERCPU_ARRAY = 6,
    BPF_MAP_TYPE_LRU_HASH = 9,
    BPF_MAP_TYPE_ARRAY_OF_MAPS = 12,
    BPF_MAP_TYPE_RINGBUF = 27,
    BPF_MAP_TYPE_TASK_STORAGE = 29,
};
enum {
    BPF_ANY = 0,
    BPF_NOEXIST = 1,
    BPF_EXIST = 2,
};
enum {
    BPF_F_NO_PREALLOC = 1 << 0,
    BPF_LOCAL_STORAGE_GET_F_CREATE = 1 << 0,
    BPF_RB_NO_WAKEUP = 1 << 0,
};

#define TASK_COMM_LEN 16

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
    int counter;
} atomic_t;

typedef struct {
    u32 val;
} kuid_t;

typedef struct {
    u32 val;
} kgid_t;

struct cred {
    kuid_t uid;
    kgid_t gid;
};

struct mm_struct {
    unsigned long arg_start;
    unsigned long arg_end;
};

struct signal_struct {
    atomic_t live;
    int group_exit_code;
};

struct task_struct {
    int pid;
    int tgid;
    unsigned int flags;
    int exit_code;
    u64 start_boottime;
    struct task_struct *group_leader;
    struct task_struct *real_parent;
    struct signal_struct *signal;
    struct mm_struct *mm;
    const struct cred *cred;
    char comm[TASK_COMM_LEN];
};

#pragma clang attribute pop

#endif
