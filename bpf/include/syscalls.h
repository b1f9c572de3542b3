/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
#ifndef KUMON_SYSCALLS_H
#define KUMON_SYSCALLS_H

#include "kernel.h"

/* The layout of tracefs' events/syscalls/{sys_enter,sys_exit}_*, which is a stable interface. */
struct sys_enter {
    u64 common;
    long number;
    unsigned long args[6];
};
struct sys_exit {
    u64 common;
    long number;
    long result;
};

#endif
