/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Multipath TCP: the process has a socket of that protocol, and the kernel moves its data over TCP sockets of
 * its own, the subflows.
 */
#ifndef KUMON_MPTCP_H
#define KUMON_MPTCP_H

#include "socket.h"

/* More of one socket are not looked at; the kernel's own limit is 8 and the first. */
#define MAX_SUBFLOWS 9

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct tcp_ulp_ops {
    char name[16];
};
struct inet_connection_sock {
    const struct tcp_ulp_ops *icsk_ulp_ops;
    void *icsk_ulp_data;
};
struct mptcp_sock {
    struct list_head conn_list;
    struct sock *first;
};
struct mptcp_subflow_context {
    struct list_head node;
    struct sock *tcp_sock;
    struct sock *conn;
};
#pragma clang attribute pop

static __always_inline bool is_mptcp(u16 protocol) {
    return protocol == IPPROTO_MPTCP && bpf_core_type_exists(struct mptcp_sock);
}

static __always_inline bool is_subflow(const struct sock *sk) {
    const struct inet_connection_sock *icsk = (const struct inet_connection_sock *)sk;
    const struct tcp_ulp_ops *protocol = BPF_CORE_READ(icsk, icsk_ulp_ops);
    union {
        char text[8];
        u64 word;
    } name = {}, own = {.text = "mptcp"};

    if (!protocol || !bpf_core_type_exists(struct mptcp_subflow_context))
        return false;
    bpf_core_read(&name.text, sizeof("mptcp"), &protocol->name);
    return name.word == own.word;
}

/* The subflow that a Multipath TCP socket began with, or the one by which it listens. */
static __always_inline const struct sock *first_subflow(const struct sock *sk) {
    return BPF_CORE_READ((const struct mptcp_sock *)sk, first);
}

/* The Multipath TCP socket that a subflow belongs to. */
static __always_inline const struct sock *socket_of_subflow(const struct sock *subflow) {
    const struct inet_connection_sock *icsk = (const struct inet_connection_sock *)subflow;
    const struct mptcp_subflow_context *context = BPF_CORE_READ(icsk, icsk_ulp_data);

    return BPF_CORE_READ(context, conn);
}

#endif
