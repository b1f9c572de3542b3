/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* The flows that are followed, and what is counted of them. */
#ifndef KUMON_FLOWS_H
#define KUMON_FLOWS_H

#include "packet.h"

/* One flow in a so-manieth part of all is followed, as a whole: those whose key's hash says so. Set before
 * loading. */
const volatile u32 flow_sample = 1;
/* Differs from boot to boot: what is left out once is not left out for ever. */
const volatile u64 flow_seed = 0;

/* Of pairs the first is of end a, as the key has them, and of what it sent. */
struct flow {
    u64 first; /* CLOCK_BOOTTIME, ns */
    u64 last;
    u64 bytes[2]; /* from the IP header on */
    u64 cookies[2];
    u64 connect;    /* ns from the first SYN to the SYN-ACK; 0 if it wasn't seen */
    u32 packets[2]; /* which wrap around */
    u32 ifindex;    /* the interface that counts it: others see it too */
    u16 resets;
    u16 vlan;
    u16 icmp; /* of the first packet: type << 8 | code */
    u8 tcp_flags[2];
    u8 first_flags;  /* of TCP, of the first packet */
    u8 first_from_b; /* it came from end b */
    u8 first_egress; /* it went out at the interface */
    u8 forwarded;    /* one of its packets came in at one interface and went out at another */
};
_Static_assert(sizeof(struct flow) <= 88, "with its key a flow has 128 bytes");
EXPORT_TYPE(flow_key);
EXPORT_TYPE(flow);

/* User space sets the size, takes what has ended and counts what finds no room. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 65536);
    __type(key, struct flow_key);
    __type(value, struct flow);
} flows SEC(".maps");

/*
 * TCP connections that nobody has answered yet, or with no more than a RST: a port scan finds its room here,
 * and pushes out others of its kind, but no flow.
 */
struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, 16384);
    __type(key, struct flow_key);
    __type(value, struct flow);
} half_open SEC(".maps");

/* What went into half_open and out of it, other than by user space, so that what was pushed out can be
 * counted. */
struct half_open_counts {
    u64 begun;
    u64 answered;
};
EXPORT_TYPE(half_open_counts);
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, u32);
    __type(value, struct half_open_counts);
} half_open_counted SEC(".maps");

static __always_inline struct half_open_counts *counts_of_half_open(void) {
    u32 zero = 0;

    return bpf_map_lookup_elem(&half_open_counted, &zero);
}

static __always_inline bool is_followed(const struct flow_key *key) {
    const u64 *words = (const u64 *)key;
    u64 hash = flow_seed;

    if (flow_sample <= 1)
        return true;
    /* The finalizer of MurmurHash3 for each word. */
    for (u32 i = 0; i < sizeof(*key) / sizeof(u64); i++) {
        hash ^= words[i];
        hash *= 0xff51afd7ed558ccdULL;
        hash ^= hash >> 33;
    }
    return (u32)hash % flow_sample == 0;
}

static __always_inline struct flow begin(const struct __sk_buff *skb, const struct packet *packet,
                                         bool egress, u64 now) {
    return (struct flow){
        .first = now,
        .ifindex = skb->ifindex,
        .vlan = packet->vlan,
        .icmp = packet->icmp,
        .first_flags = packet->tcp_flags,
        .first_from_b = packet->from_b,
        .first_egress = egress,
    };
}

static __always_inline bool is_handshake_reply(const struct flow *flow, const struct packet *packet) {
    return (packet->tcp_flags & (TCP_FLAG_SYN | TCP_FLAG_ACK)) == (TCP_FLAG_SYN | TCP_FLAG_ACK) &&
           (flow->first_flags & (TCP_FLAG_SYN | TCP_FLAG_ACK)) == TCP_FLAG_SYN &&
           packet->from_b != flow->first_from_b;
}

/* Counts a packet, atomically: other CPUs may count others at the same time. */
static __always_inline void count(struct flow *flow, struct __sk_buff *skb, const struct packet *packet,
                                  bool egress, u64 now) {
    u32 from = packet->from_b & 1;

    if (flow->ifindex != skb->ifindex) {
        /* What this machine sends has come in nowhere. */
        if (egress && skb->ingress_ifindex && !flow->forwarded)
            flow->forwarded = true;
        return;
    }
    flow->last = now;
    __sync_fetch_and_add(&flow->bytes[from], packet->bytes);
    __sync_fetch_and_add(&flow->packets[from], 1);
    /* Of the packet's sender, also in another network namespace; 0 where that is on another machine. */
    if (!flow->cookies[from])
        flow->cookies[from] = bpf_get_socket_cookie(skb);
    if (packet->tcp_flags & ~flow->tcp_flags[from])
        flow->tcp_flags[from] |= packet->tcp_flags;
    if (packet->tcp_flags & TCP_FLAG_RST)
        flow->resets++;
    if (!flow->connect && is_handshake_reply(flow, packet))
        flow->connect = now - flow->first;
}

static __always_inline struct flow *add_flow(const struct flow_key *key, const struct flow *flow) {
    struct flow *added;

    /* Another CPU may be quicker: then its value is found. */
    bpf_map_update_elem(&flows, key, flow, BPF_NOEXIST);
    added = bpf_map_lookup_elem(&flows, key);
    if (!added)
        lost(METRIC_FLOW, LOSS_MAP_FULL);
    return added;
}

/* The connection has been answered: it is a flow from now on. */
static __always_inline struct flow *promote(const struct flow_key *key, const struct flow *half) {
    struct half_open_counts *counts = counts_of_half_open();
    struct flow flow = *half;
    struct flow *added = add_flow(key, &flow);

    if (!bpf_map_delete_elem(&half_open, key) && counts)
        counts->answered++;
    return added;
}

static __always_inline struct flow *begin_half_open(const struct flow_key *key, const struct flow *flow) {
    struct half_open_counts *counts = counts_of_half_open();

    if (!bpf_map_update_elem(&half_open, key, flow, BPF_NOEXIST) && counts)
        counts->begun++;
    return bpf_map_lookup_elem(&half_open, key);
}

/* The entry that counts a packet of a flow that isn't in `flows`. */
static __always_inline struct flow *find_or_begin(const struct __sk_buff *skb, const struct packet *packet,
                                                  bool egress, u64 now) {
    const struct flow_key *key = &packet->key;
    struct flow flow, *half;

    if (key->protocol == PROTOCOL_TCP) {
        half = bpf_map_lookup_elem(&half_open, key);
        if (half) {
            bool is_answer = packet->from_b != half->first_from_b && !(packet->tcp_flags & TCP_FLAG_RST);

            return is_answer ? promote(key, half) : half;
        }
    }
    flow = begin(skb, packet, egress, now);
    if ((packet->tcp_flags & (TCP_FLAG_SYN | TCP_FLAG_ACK)) == TCP_FLAG_SYN)
        return begin_half_open(key, &flow);
    return add_flow(key, &flow);
}

#endif
