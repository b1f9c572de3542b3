/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* TCP sessions from their opening to their end (tcplife). */

enum metric { METRIC_TCPLIFE };
#include "kumon.h"

#define AF_INET     2
#define AF_INET6    10
#define IPPROTO_TCP 6

/* include/net/tcp_states.h: values that user space sees too (ss, /proc/net/tcp). */
enum {
    TCP_ESTABLISHED = 1,
    TCP_SYN_SENT = 2,
    TCP_SYN_RECV = 3,
    TCP_FIN_WAIT1 = 4,
    TCP_CLOSE = 7,
    TCP_LAST_ACK = 9,
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct in6_addr {
    union {
        u8 u6_addr8[16];
    } in6_u;
};
struct sock_common {
    unsigned short skc_family;
    __be32 skc_daddr;
    __be32 skc_rcv_saddr;
    struct in6_addr skc_v6_daddr;
    struct in6_addr skc_v6_rcv_saddr;
    __be16 skc_dport;
    u16 skc_num;
    unsigned long skc_flags;
};
struct sock {
    struct sock_common __sk_common;
    u16 sk_protocol;
};
struct tcp_sock {
    u64 bytes_received;
    u64 bytes_acked;
    u64 bytes_sent;
    u64 bytes_retrans;
};
enum sock_flags { SOCK_DONE = 1 };
#pragma clang attribute pop

EVENTS(2 * 1024 * 1024);

enum direction { DIRECTION_EGRESS, DIRECTION_INGRESS };

/* IPv4 addresses stand as IPv4-mapped IPv6 ones. */
struct endpoint {
    u8 address[16];
    u32 port;
};

/* A session in the making, and when it ends the event. */
struct session {
    u64 opened; /* CLOCK_BOOTTIME, ns: when connect was called, or the handshake of an accepted one was over
                 */
    u64 ended;
    u64 process_start;
    u64 cgroup;
    u64 bytes_sent;     /* payload that the peer acknowledged */
    u64 bytes_received; /* payload */
    u32 pid;            /* 0 while the owner of an accepted socket isn't known */
    u32 uid;
    char name[TASK_COMM_LEN];
    enum direction direction;
    u32 established;
    struct endpoint local;
    struct endpoint remote;
};
EXPORT_TYPE(session);

/*
 * Sessions by socket cookie. The address of the socket is no key: the slab gives it to the next socket at
 * once, and a session whose end was missed would lend it its times. User space sets the size.
 */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 16384);
    __type(key, u64);
    __type(value, struct session);
} sessions SEC(".maps");

static __always_inline void set_owner(struct session *session) {
    struct task_struct *task = (struct task_struct *)bpf_get_current_task();
    struct task_struct *leader = BPF_CORE_READ(task, group_leader);

    session->pid = BPF_CORE_READ(task, tgid);
    session->uid = BPF_CORE_READ(task, cred, uid.val);
    session->process_start = BPF_CORE_READ(leader, start_boottime);
    session->cgroup = bpf_get_current_cgroup_id();
    BPF_CORE_READ_STR_INTO(&session->name, leader, comm);
}

static __always_inline void map_ipv4(struct endpoint *endpoint, __be32 address) {
    endpoint->address[10] = 0xff;
    endpoint->address[11] = 0xff;
    __builtin_memcpy(endpoint->address + 12, &address, sizeof(address));
}

/* Taken when the session is established: before, the local port isn't chosen; at its end it is already given
 * back. */
static __always_inline void set_endpoints(struct session *session, const struct sock *sk) {
    if (BPF_CORE_READ(sk, __sk_common.skc_family) == AF_INET) {
        map_ipv4(&session->local, BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr));
        map_ipv4(&session->remote, BPF_CORE_READ(sk, __sk_common.skc_daddr));
    } else {
        BPF_CORE_READ_INTO(&session->local.address, sk, __sk_common.skc_v6_rcv_saddr.in6_u.u6_addr8);
        BPF_CORE_READ_INTO(&session->remote.address, sk, __sk_common.skc_v6_daddr.in6_u.u6_addr8);
    }
    session->local.port = BPF_CORE_READ(sk, __sk_common.skc_num);
    session->remote.port = __builtin_bswap16(BPF_CORE_READ(sk, __sk_common.skc_dport));
}

static __always_inline void add_session(u64 cookie, struct session *session) {
    if (bpf_map_update_elem(&sessions, &cookie, session, BPF_ANY))
        lost(METRIC_TCPLIFE, LOSS_MAP_FULL);
}

static __always_inline void on_established(u64 cookie, const struct sock *sk) {
    struct session *known = bpf_map_lookup_elem(&sessions, &cookie);
    struct session accepted = {};

    if (known) {
        known->established = 1;
        set_endpoints(known, sk);
        return;
    }
    /* Whoever runs here in the soft interrupt is not the owner, see find_owner. */
    accepted.opened = bpf_ktime_get_boot_ns();
    accepted.direction = DIRECTION_INGRESS;
    accepted.established = 1;
    set_endpoints(&accepted, sk);
    add_session(cookie, &accepted);
}

/* The kernel's counters count SYN and FIN as a byte each; this is the payload alone. */
static __always_inline void set_bytes(struct session *session, const struct sock *sk) {
    struct tcp_sock *tcp = (struct tcp_sock *)sk;
    u64 acked = BPF_CORE_READ(tcp, bytes_acked);
    u64 sent = BPF_CORE_READ(tcp, bytes_sent) - BPF_CORE_READ(tcp, bytes_retrans);
    u64 received = BPF_CORE_READ(tcp, bytes_received);
    u64 fin_received = 1UL << bpf_core_enum_value(enum sock_flags, SOCK_DONE);

    /* The SYN of an active opener; the kernel takes the one of an accepted socket for granted. */
    if (session->direction == DIRECTION_EGRESS && acked)
        acked--;
    /* Once the FIN is acknowledged, all that was sent is. */
    session->bytes_sent = acked < sent ? acked : sent;
    if (received && BPF_CORE_READ(sk, __sk_common.skc_flags) & fin_received)
        received--;
    session->bytes_received = received;
}

static __always_inline void on_close(u64 cookie, const struct sock *sk) {
    struct session *session = bpf_map_lookup_elem(&sessions, &cookie);
    struct session *event;

    if (!session)
        return;
    if (session->established && !is_self(session->pid)) {
        event = reserve_event(METRIC_TCPLIFE, struct session);
        if (event) {
            __builtin_memcpy(event, session, sizeof(*event));
            event->ended = bpf_ktime_get_boot_ns();
            set_bytes(event, sk);
            submit_event(event);
        }
    }
    bpf_map_delete_elem(&sessions, &cookie);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(on_state, struct sock *sk, int from, int to) {
    struct session *session, opened = {};
    u64 cookie;

    if (BPF_CORE_READ(sk, sk_protocol) != IPPROTO_TCP)
        return 0;
    cookie = bpf_get_socket_cookie(sk);
    switch (to) {
    case TCP_SYN_SENT:
        /* In the process that calls connect. */
        opened.opened = bpf_ktime_get_boot_ns();
        opened.direction = DIRECTION_EGRESS;
        set_owner(&opened);
        add_session(cookie, &opened);
        break;
    case TCP_ESTABLISHED:
        on_established(cookie, sk);
        break;
    case TCP_FIN_WAIT1:
    case TCP_LAST_ACK:
        /* In the process that closes: the last chance to learn who owns an accepted socket that was never
         * read. */
        session = bpf_map_lookup_elem(&sessions, &cookie);
        if (session && !session->pid)
            set_owner(session);
        break;
    case TCP_CLOSE:
        on_close(cookie, sk);
        break;
    }
    return 0;
}

/* Runs where a process has read from the socket: the first to read from an accepted one is its owner. */
SEC("tp_btf/tcp_rcv_space_adjust")
int BPF_PROG(find_owner, struct sock *sk) {
    u64 cookie = bpf_get_socket_cookie(sk);
    struct session *session = bpf_map_lookup_elem(&sessions, &cookie);

    if (session && !session->pid)
        set_owner(session);
    return 0;
}
