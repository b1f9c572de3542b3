/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* The sockets behind the open files that iter/task_file walks over. */
#ifndef KUMON_OPEN_SOCKETS_H
#define KUMON_OPEN_SOCKETS_H

#include "socket.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct inode {
    unsigned short i_mode;
};
struct file {
    struct inode *f_inode;
    void *private_data;
};
struct socket {
    struct sock *sk;
};
struct bpf_iter__task_file {
    struct task_struct *task;
    struct file *file;
};
struct bpf_iter__bpf_map_elem {
    void *key;
    void *value;
};
#pragma clang attribute pop

/* The socket behind an open file. */
static __always_inline struct socket *socket_of(struct file *file) {
    /* Its helper came a version before the cookies. */
    if (socket_cookies)
        return bpf_sock_from_file(file);
    if ((BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
        return NULL;
    return BPF_CORE_READ(file, private_data);
}

#endif
