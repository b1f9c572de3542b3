/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Whose the sockets are, by their cookies, which packets carry too; of TCP also what the kernel has measured
 * of the connection. Nothing here is needed to follow flows: where a program can't be had, rows lack that.
 */
#ifndef KUMON_SOCKETS_H
#define KUMON_SOCKETS_H

#include "owner.h"
#include "open_sockets.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct minmax_sample {
    u32 v;
};
struct minmax {
    struct minmax_sample s[3];
};
struct tcp_sock___flow {
    u32 srtt_us;
    u32 total_retrans;
    struct minmax rtt_min;
};
#pragma clang attribute pop

/* include/uapi/linux/bpf.h: the beginning of what programs of cgroups see of a socket. */
struct bpf_sock {
    u32 bound_dev_if;
    u32 family;
    u32 type;
    u32 protocol;
};

/* How long a closed socket is known: until its packets are told. User space tells them each interval. */
const volatile u64 keep_closed = 15 * 1000000000ULL;

enum role { ROLE_OPENED, ROLE_ACCEPTED, ROLE_NO_CONNECTION };

struct socket_info {
    struct owner owner;
    u64 address;
    u64 closed;  /* CLOCK_BOOTTIME, ns; 0 while it is open */
    u32 srtt;    /* smoothed round-trip time, µs; 0 if there is none yet */
    u32 rtt_min; /* µs, of the last minutes; ~0 if there is none yet */
    u32 retransmits;
    u32 error; /* errno that the process was told when it was closed */
    enum role role;
    u32 unused;
};
EXPORT_TYPE(socket_info);

/* User space sets the size. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 65536);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, u64);
    __type(value, struct socket_info);
} sockets SEC(".maps");

/* 0 where tracing programs can't ask for it, and nobody has asked for the socket's yet. */
static __always_inline u64 cookie_of(struct sock *sk) {
    return socket_cookies ? bpf_get_socket_cookie(sk) : BPF_CORE_READ(sk, __sk_common.skc_cookie.counter);
}

static __always_inline void add_socket(u64 cookie, const struct socket_info *info) {
    if (cookie && bpf_map_update_elem(&sockets, &cookie, info, BPF_ANY))
        lost(METRIC_FLOW, LOSS_NO_PROCESS);
}

static __always_inline void read_rtt(struct socket_info *info, const struct sock *sk) {
    const struct tcp_sock___flow *tcp = (const void *)sk;

    info->srtt = BPF_CORE_READ(tcp, srtt_us) >> 3;
    info->rtt_min = BPF_CORE_READ(tcp, rtt_min.s[0].v);
    info->retransmits = BPF_CORE_READ(tcp, total_retrans);
}

static __always_inline void on_connect(struct sock *sk) {
    struct socket_info info = {.address = (u64)sk, .role = ROLE_OPENED};

    if (is_kernel_thread(current_task()))
        return;
    set_current_owner(&info.owner);
    add_socket(cookie_of(sk), &info);
}

static __always_inline void on_established(struct sock *sk, int from) {
    struct socket_info info = {.address = (u64)sk, .role = ROLE_ACCEPTED};

    if (from == TCP_SYN_SENT)
        return;
    set_listening_owner(&info.owner, listener_of(sk));
    info.owner.certain = false;
    add_socket(cookie_of(sk), &info);
}

/* The first to use an accepted socket is its owner. */
static __always_inline void find_user(struct sock *sk) {
    u64 cookie = cookie_of(sk);
    struct socket_info *info = bpf_map_lookup_elem(&sockets, &cookie);

    if (info && !info->owner.certain && is_used_by_current(sk))
        set_current_owner(&info->owner);
}

static __always_inline void on_close(struct sock *sk) {
    u64 cookie = cookie_of(sk);
    struct socket_info *info = bpf_map_lookup_elem(&sockets, &cookie);

    if (!info)
        return;
    if (!info->owner.certain && is_used_by_current(sk))
        set_current_owner(&info->owner);
    read_rtt(info, sk);
    info->error = sk->sk_err;
    info->closed = bpf_ktime_get_boot_ns();
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(on_state, struct sock *sk, int from, int to) {
    if (sk->sk_protocol != IPPROTO_TCP)
        return 0;
    switch (to) {
    case TCP_SYN_SENT:
        on_connect(sk);
        break;
    case TCP_LISTEN:
        add_listener(sk, current_task());
        break;
    case TCP_SYN_RECV:
        if (from == TCP_LISTEN)
            note_arrival(sk);
        break;
    case TCP_ESTABLISHED:
        on_established(sk, from);
        break;
    case TCP_FIN_WAIT1:
    case TCP_LAST_ACK:
        find_user(sk);
        break;
    case TCP_CLOSE:
        if (from == TCP_LISTEN)
            drop_listener(sk);
        else
            on_close(sk);
        break;
    }
    return 0;
}

/* Runs where a process has read from the socket. */
SEC("tp_btf/tcp_rcv_space_adjust")
int BPF_PROG(on_read, struct sock *sk) {
    find_user(sk);
    return 0;
}

/*
 * A process makes a socket. TCP ones belong to who connects or reads, and are only given their cookies, for
 * kernels whose tracing programs can't do that.
 */
SEC("cgroup/sock_create")
int on_create(struct bpf_sock *ctx) {
    struct socket_info info = {.role = ROLE_NO_CONNECTION};
    u64 cookie = bpf_get_socket_cookie(ctx);

    if (ctx->protocol == IPPROTO_TCP || (ctx->family != AF_INET && ctx->family != AF_INET6))
        return 1;
    set_current_owner(&info.owner);
    add_socket(cookie, &info);
    return 1;
}

SEC("cgroup/sock_release")
int on_release(struct bpf_sock *ctx) {
    u64 cookie = bpf_get_socket_cookie(ctx);
    struct socket_info *info;

    if (ctx->protocol == IPPROTO_TCP)
        return 1;
    info = bpf_map_lookup_elem(&sockets, &cookie);
    if (info)
        info->closed = bpf_ktime_get_boot_ns();
    return 1;
}

static __always_inline void add_standing(struct sock *sk, struct task_struct *task) {
    struct socket_info info = {.address = (u64)sk, .role = ROLE_NO_CONNECTION};
    u64 cookie = cookie_of(sk);

    if (BPF_CORE_READ(sk, sk_protocol) == IPPROTO_TCP)
        /* An accepted socket has inherited the backlog of the one that listens. */
        info.role = BPF_CORE_READ(sk, sk_max_ack_backlog) ? ROLE_ACCEPTED : ROLE_OPENED;
    set_owner(&info.owner, task);
    info.owner.certain = info.role != ROLE_ACCEPTED;
    /* Known already where another process holds it too, or where it was made since. */
    if (cookie)
        bpf_map_update_elem(&sockets, &cookie, &info, BPF_NOEXIST);
}

/* Finds the sockets that are there already, in all network namespaces. Runs once, after the others are
 * attached. */
SEC("iter/task_file")
int find_standing(struct bpf_iter__task_file *ctx) {
    struct task_struct *task = ctx->task;
    struct file *file = ctx->file;
    struct socket *socket;
    struct sock *sk;
    u16 family;

    if (!task || !file)
        return 0;
    socket = socket_of(file);
    if (!socket)
        return 0;
    sk = socket_cookies ? socket->sk : BPF_CORE_READ(socket, sk);
    if (!sk)
        return 0;
    family = BPF_CORE_READ(sk, __sk_common.skc_family);
    if (family != AF_INET && family != AF_INET6)
        return 0;
    if (BPF_CORE_READ(sk, sk_protocol) == IPPROTO_TCP &&
        BPF_CORE_READ(sk, __sk_common.skc_state) == TCP_LISTEN)
        add_listener(sk, task);
    else
        add_standing(sk, task);
    return 0;
}

/* Whether it is the same TCP socket still, and open. */
static __always_inline bool stands(u64 cookie, const struct socket_info *info) {
    const struct sock *sk = (const struct sock *)info->address;

    return BPF_CORE_READ(sk, __sk_common.skc_cookie.counter) == cookie &&
           BPF_CORE_READ(sk, __sk_common.skc_state) != TCP_CLOSE;
}

/* Runs once each interval: takes over what the kernel has measured, and forgets sockets that were closed. */
SEC("iter/bpf_map_elem")
int renew_sockets(struct bpf_iter__bpf_map_elem *ctx) {
    struct socket_info *info = ctx->value;
    const u64 *key = ctx->key;
    u64 cookie;

    if (!info || !key)
        return 0;
    cookie = *key;
    if (info->closed) {
        if (bpf_ktime_get_boot_ns() - info->closed > keep_closed)
            bpf_map_delete_elem(&sockets, &cookie);
    } else if (info->address && info->role != ROLE_NO_CONNECTION) {
        if (stands(cookie, info))
            read_rtt(info, (const struct sock *)info->address);
        else
            info->closed = bpf_ktime_get_boot_ns();
    }
    return 0;
}

#endif
