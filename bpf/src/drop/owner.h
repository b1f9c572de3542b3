/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Whose a packet is and which interface it is at. The kernel forgets both on the packet's way, and puts other
 * things where they were.
 */
#ifndef KUMON_DROP_OWNER_H
#define KUMON_DROP_OWNER_H

#include "packet.h"

#define AF_INET  2
#define AF_INET6 10

/* include/net/tcp_states.h */
#define TCP_TIME_WAIT    6
#define TCP_NEW_SYN_RECV 12

/* include/linux/sched.h */
#define PF_KTHREAD 0x00200000

/* NETDEV_HASHENTRIES of include/linux/netdevice.h */
#define DEVICE_BUCKETS 256
/* Interfaces that share a bucket; one whose number is further behind has no name. */
#define MAX_DEVICES_IN_BUCKET 16

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct in6_addr {
    union {
        u8 u6_addr8[16];
    } in6_u;
};
struct sock_common {
    unsigned short skc_family;
    volatile unsigned char skc_state;
    __be32 skc_daddr;
    __be32 skc_rcv_saddr;
    struct in6_addr skc_v6_daddr;
    struct in6_addr skc_v6_rcv_saddr;
    __be16 skc_dport;
    u16 skc_num;
    possible_net_t skc_net;
    struct sock *skc_listener;
};
typedef struct {
    int owned;
} socket_lock_t;
struct sock_cgroup_data {
    struct cgroup *cgroup;
};
struct sock {
    struct sock_common __sk_common;
    socket_lock_t sk_lock;
    struct sock_cgroup_data sk_cgrp_data;
    u16 sk_protocol;
};
/* Until 5.15, where the same word may hold something else. */
struct sock_cgroup_data___word {
    u64 val;
};
#pragma clang attribute pop

/* The socket that a packet belongs to. */
struct owner {
    const struct sock *socket; /* NULL if it isn't known */
    struct net *net;
    struct cgroup *cgroup; /* v2 */
    u16 family;
    u16 protocol;
    u8 state;
};

static __always_inline struct cgroup *cgroup_of_socket(const struct sock *sk) {
    struct sock_cgroup_data___word *before = (void *)&sk->sk_cgrp_data;
    u64 word;

    if (!bpf_core_field_exists(before->val))
        return BPF_CORE_READ(sk, sk_cgrp_data.cgroup);
    bpf_core_read(&word, sizeof(word), &before->val);
    /* Bit 0: numbers of cgroup v1. Bit 1: it holds no reference. */
    return word & 1 ? NULL : (struct cgroup *)(word & ~3ULL);
}

/* What a socket says; one of a kind that has no cgroup has none here. */
static __always_inline struct owner owner_of(const struct sock *sk) {
    struct owner owner = {.socket = sk};

    /* The verifier wants to see it asked. */
    if (!sk)
        return owner;
    owner.family = BPF_CORE_READ(sk, __sk_common.skc_family);
    if (owner.family != AF_INET && owner.family != AF_INET6)
        return (struct owner){};
    owner.net = BPF_CORE_READ(sk, __sk_common.skc_net.net);
    owner.protocol = BPF_CORE_READ(sk, sk_protocol);
    owner.state = BPF_CORE_READ(sk, __sk_common.skc_state);
    if (owner.state == TCP_NEW_SYN_RECV)
        sk = BPF_CORE_READ(sk, __sk_common.skc_listener);
    if (owner.state != TCP_TIME_WAIT)
        owner.cgroup = cgroup_of_socket(sk);
    return owner;
}

/*
 * The interface that the packet has, NULL where it has none: in the queues of TCP and UDP other things take
 * its place. Only an interface leads back to its own network namespace.
 */
static __always_inline struct net_device *device_of(const struct sk_buff *skb) {
    struct net_device *device = skb->dev;
    struct net *net = BPF_CORE_READ(device, nd_net.net);

    return net && BPF_CORE_READ(net, loopback_dev, nd_net.net) == net ? device : NULL;
}

/* An interface of a network namespace by its number; NULL where it isn't found. */
static __always_inline struct net_device *device_by_index(struct net *net, int index) {
    struct hlist_head *buckets = BPF_CORE_READ(net, dev_index_head);
    struct hlist_node *node = NULL;
    struct net_device *device;

    if (!net)
        return NULL;
    bpf_probe_read_kernel(&node, sizeof(node), buckets + (index & (DEVICE_BUCKETS - 1)));
    for (int i = 0; i < MAX_DEVICES_IN_BUCKET && node; i++) {
        device = (void *)node - bpf_core_field_offset(struct net_device, index_hlist);
        if (BPF_CORE_READ(device, ifindex) == index)
            return device;
        node = BPF_CORE_READ(node, next);
    }
    return NULL;
}

/* The interface through which the packet is to leave. */
static __always_inline struct net_device *device_of_route(const struct sk_buff *skb) {
    /* Bit 0: it holds no reference. */
    struct dst_entry *route = (void *)(skb->_skb_refdst & ~1UL);

    return BPF_CORE_READ(route, dev);
}

/*
 * A worker of the kernel acts for somebody else, and what comes in is handled in whatever process it
 * interrupts. Who sends holds the lock of its socket.
 */
static __always_inline bool is_sent_by_current(const struct owner *owner) {
    struct task_struct *task = (void *)bpf_get_current_task();

    const struct sock *sk = owner->socket;

    return sk && BPF_CORE_READ(sk, sk_lock.owned) && !(BPF_CORE_READ(task, flags) & PF_KTHREAD) &&
           cgroup_of(task) == owner->cgroup;
}

static __always_inline void read_socket(const struct owner *owner, bool sends, struct packet *packet) {
    const struct sock *sk = owner->socket;
    u8 *local = sends ? packet->source : packet->destination;
    u8 *remote = sends ? packet->destination : packet->source;
    u16 local_port = BPF_CORE_READ(sk, __sk_common.skc_num);
    u16 remote_port = __builtin_bswap16(BPF_CORE_READ(sk, __sk_common.skc_dport));

    if (owner->family == AF_INET) {
        __be32 from = BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr);
        __be32 to = BPF_CORE_READ(sk, __sk_common.skc_daddr);

        map_ipv4(local, &from);
        map_ipv4(remote, &to);
    } else {
        BPF_CORE_READ_INTO((u8(*)[16])local, sk, __sk_common.skc_v6_rcv_saddr.in6_u.u6_addr8);
        BPF_CORE_READ_INTO((u8(*)[16])remote, sk, __sk_common.skc_v6_daddr.in6_u.u6_addr8);
    }
    packet->source_port = sends ? local_port : remote_port;
    packet->destination_port = sends ? remote_port : local_port;
}

#endif
