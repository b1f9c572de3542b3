/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* What is read of TCP sockets: addresses, payload, and why one was closed. */
#ifndef KUMON_SOCKET_H
#define KUMON_SOCKET_H

#include "kumon.h"

/* Whether tracing programs may ask for socket cookies, since Linux 5.12; set before loading. */
const volatile bool socket_cookies = true;

#define AF_INET       2
#define AF_INET6      10
#define IPPROTO_TCP   6
#define IPPROTO_MPTCP 262
#define S_IFMT        0170000
#define S_IFSOCK      0140000
#define SHUTDOWN_MASK 3

/* include/net/tcp_states.h: values that user space sees too (ss, /proc/net/tcp). */
enum {
    TCP_ESTABLISHED = 1,
    TCP_SYN_SENT = 2,
    TCP_SYN_RECV = 3,
    TCP_FIN_WAIT1 = 4,
    TCP_FIN_WAIT2 = 5,
    TCP_CLOSE = 7,
    TCP_CLOSE_WAIT = 8,
    TCP_LAST_ACK = 9,
    TCP_LISTEN = 10,
};

/* include/uapi/asm-generic/errno.h; the few that decide how a session ended. */
enum {
    EPIPE = 32,
    ECONNABORTED = 103,
    ECONNRESET = 104,
    ETIMEDOUT = 110,
    ECONNREFUSED = 111,
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct in6_addr {
    union {
        u8 u6_addr8[16];
    } in6_u;
};
struct ns_common {
    unsigned int inum;
};
struct net {
    struct ns_common ns;
};
typedef struct {
    struct net *net;
} possible_net_t;
struct hlist_node {
    struct hlist_node **pprev;
};
struct list_head {
    struct list_head *next;
};
typedef struct {
    s64 counter;
} atomic64_t;
typedef struct {
    int owned;
} socket_lock_t;
struct sock_common {
    unsigned short skc_family;
    volatile unsigned char skc_state;
    __be32 skc_daddr;
    __be32 skc_rcv_saddr;
    struct in6_addr skc_v6_daddr;
    struct in6_addr skc_v6_rcv_saddr;
    __be16 skc_dport;
    u16 skc_num;
    unsigned long skc_flags;
    possible_net_t skc_net;
    struct hlist_node skc_node;
    atomic64_t skc_cookie;
};
struct sock {
    struct sock_common __sk_common;
    socket_lock_t sk_lock;
    u16 sk_protocol;
    int sk_err;
    u32 sk_max_ack_backlog;
};
struct inet_sock {
    __be16 inet_sport;
};
struct tcp_sock {
    u64 bytes_received;
    u64 bytes_acked;
    u64 bytes_sent;
    u64 bytes_retrans;
    struct list_head tsorted_sent_queue;
};
enum sock_flags { SOCK_DEAD = 0, SOCK_DONE = 1 };
#pragma clang attribute pop

/* IPv4 addresses stand as IPv4-mapped IPv6 ones. */
struct endpoint {
    u8 address[16];
    u32 port;
};

/*
 * These read the fields of struct sock directly, which costs no call: the verifier takes it for a socket that
 * the kernel has handed over.
 */
static __always_inline bool has_flag(const struct sock *sk, u64 flag) {
    return sk->__sk_common.skc_flags & (1UL << flag);
}

static __always_inline void map_ipv4(struct endpoint *endpoint, __be32 address) {
    endpoint->address[10] = 0xff;
    endpoint->address[11] = 0xff;
    __builtin_memcpy(endpoint->address + 12, &address, sizeof(address));
}

static __always_inline void set_endpoints(struct endpoint *local, struct endpoint *remote,
                                          const struct sock *sk) {
    const struct inet_sock *inet = (const struct inet_sock *)sk;

    if (sk->__sk_common.skc_family == AF_INET) {
        map_ipv4(local, sk->__sk_common.skc_rcv_saddr);
        map_ipv4(remote, sk->__sk_common.skc_daddr);
    } else {
        BPF_CORE_READ_INTO(&local->address, sk, __sk_common.skc_v6_rcv_saddr.in6_u.u6_addr8);
        BPF_CORE_READ_INTO(&remote->address, sk, __sk_common.skc_v6_daddr.in6_u.u6_addr8);
    }
    /* Not skc_num: a socket that closes has given that back already. */
    local->port = __builtin_bswap16(BPF_CORE_READ(inet, inet_sport));
    remote->port = __builtin_bswap16(sk->__sk_common.skc_dport);
}

/* The payload that went out and in. The kernel's counters count SYN and FIN as a byte each. */
static __always_inline void read_payload(const struct sock *sk, bool opener, u64 *out, u64 *in) {
    const struct tcp_sock *tcp = (const struct tcp_sock *)sk;
    u64 acked = BPF_CORE_READ(tcp, bytes_acked);
    u64 sent = BPF_CORE_READ(tcp, bytes_sent) - BPF_CORE_READ(tcp, bytes_retrans);
    u64 received = BPF_CORE_READ(tcp, bytes_received);

    /* The SYN of an active opener; the kernel takes the one of an accepted socket for granted. */
    if (opener && acked)
        acked--;
    /* Once the FIN is acknowledged, all that was sent is. */
    *out = acked < sent ? acked : sent;
    if (received && has_flag(sk, bpf_core_enum_value(enum sock_flags, SOCK_DONE)))
        received--;
    *in = received;
}

#endif
