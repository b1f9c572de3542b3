/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* What is read of a packet: the two ends it goes between, its protocol and its length. */
#ifndef KUMON_PACKET_H
#define KUMON_PACKET_H

#include "kumon.h"
#include <bpf/bpf_endian.h>

/* include/uapi/linux/if_ether.h */
#define ETH_P_IP     0x0800
#define ETH_P_8021Q  0x8100
#define ETH_P_IPV6   0x86dd
#define ETH_P_8021AD 0x88a8
#define ETH_HLEN     14

/* https://www.iana.org/assignments/protocol-numbers */
enum ip_protocol {
    PROTOCOL_HOP_BY_HOP = 0,
    PROTOCOL_ICMP = 1,
    PROTOCOL_TCP = 6,
    PROTOCOL_UDP = 17,
    PROTOCOL_DCCP = 33,
    PROTOCOL_ROUTING = 43,
    PROTOCOL_FRAGMENT = 44,
    PROTOCOL_AH = 51,
    PROTOCOL_ICMPV6 = 58,
    PROTOCOL_DESTINATION = 60,
    PROTOCOL_SCTP = 132,
    PROTOCOL_UDPLITE = 136,
};

enum tcp_flag { TCP_FLAG_FIN = 1, TCP_FLAG_SYN = 2, TCP_FLAG_RST = 4, TCP_FLAG_ACK = 16 };

/* Extension headers of IPv6 that are followed; a packet with more is not decoded. */
#define MAX_EXTENSIONS 6
/* 802.1ad and 802.1Q within. */
#define MAX_TAGS 2

#define IP_OFFSET        0x1fff
#define IPV6_FRAG_OFFSET 0xfff8
#define VLAN_ID          0x0fff

/* include/uapi/linux/bpf.h: the beginning of a stable interface, whose accesses the verifier rewrites. */
struct __sk_buff {
    u32 len;
    u32 pkt_type;
    u32 mark;
    u32 queue_mapping;
    u32 protocol;
    u32 vlan_present;
    u32 vlan_tci;
    u32 vlan_proto;
    u32 priority;
    u32 ingress_ifindex;
    u32 ifindex;
};
enum { BPF_HDR_START_NET = 1 };

struct ipv4_header {
    u8 version_length;
    u8 tos;
    __be16 length;
    __be16 id;
    __be16 fragment;
    u8 ttl;
    u8 protocol;
    u16 checksum;
    __be32 source;
    __be32 destination;
};
struct ipv6_header {
    __be32 flow;
    __be16 payload;
    u8 next;
    u8 hops;
    u8 source[16];
    u8 destination[16];
};
struct ipv6_extension {
    u8 next;
    u8 length;
    __be16 fragment;
};
struct ports {
    __be16 source;
    __be16 destination;
};
struct icmp_header {
    u8 type;
    u8 code;
    u16 checksum;
    u16 id;
};
/* Byte 13 of a TCP header. */
#define TCP_FLAGS 13

/* An address; IPv4 ones are IPv4-mapped IPv6 ones. */
union address {
    u8 bytes[16];
    __be32 words[4];
    u64 halves[2];
};

/*
 * What tells flows apart: both ends, in an order of their own, so that both ways have one key. ICMP has no
 * ports: an echo has its id at both ends, other messages have type and code there.
 */
struct flow_key {
    union address a;
    union address b;
    u16 a_port;
    u16 b_port;
    u8 protocol;
    u8 unused[3];
};
_Static_assert(sizeof(struct flow_key) == 40, "it has no gaps");

struct packet {
    struct flow_key key;
    u32 bytes; /* from the IP header on */
    u16 vlan;
    u16 icmp; /* type << 8 | code */
    u8 from_b;
    u8 tcp_flags;
};

enum parsed { PACKET_DECODED, PACKET_NOT_IP, PACKET_NOT_DECODED };

/* Reads from the network header on, which is where it is with and without a link layer's. */
static __always_inline bool load(const struct __sk_buff *skb, u32 offset, void *to, u32 size) {
    return !bpf_skb_load_bytes_relative(skb, offset, to, size, BPF_HDR_START_NET);
}

/* Steps over the tags that the network card has left in the packet. */
static __always_inline bool skip_tags(const struct __sk_buff *skb, struct packet *packet, u16 *type,
                                      u32 *offset) {
    packet->vlan = skb->vlan_present ? skb->vlan_tci & VLAN_ID : 0;
    for (int i = 0; i < MAX_TAGS; i++) {
        __be16 tag[2];

        if (*type != ETH_P_8021Q && *type != ETH_P_8021AD)
            return true;
        if (!load(skb, *offset, tag, sizeof(tag)))
            return false;
        if (!packet->vlan)
            packet->vlan = bpf_ntohs(tag[0]) & VLAN_ID;
        *type = bpf_ntohs(tag[1]);
        *offset += sizeof(tag);
    }
    return *type != ETH_P_8021Q && *type != ETH_P_8021AD;
}

/* Sets the addresses as source and destination, which order() puts into the key's order. */
static __always_inline bool read_ipv4(const struct __sk_buff *skb, struct packet *packet, u32 *offset) {
    struct flow_key *key = &packet->key;
    struct ipv4_header ip;
    u32 header;

    if (!load(skb, *offset, &ip, sizeof(ip)) || bpf_ntohs(ip.fragment) & IP_OFFSET)
        return false;
    header = (ip.version_length & 15) * 4;
    if (header < sizeof(ip))
        return false;
    key->a.words[2] = key->b.words[2] = bpf_htonl(0xffff);
    key->a.words[3] = ip.source;
    key->b.words[3] = ip.destination;
    key->protocol = ip.protocol;
    /* 0 in what is larger than its field can say, which goes through the machine in one piece. */
    packet->bytes = bpf_ntohs(ip.length) ?: skb->len - ETH_HLEN;
    *offset += header;
    return true;
}

/* False where there are too many of them, or where it is a fragment that isn't the first. */
static __always_inline bool skip_extensions(const struct __sk_buff *skb, struct packet *packet, u32 *offset) {
    for (int i = 0; i < MAX_EXTENSIONS; i++) {
        struct ipv6_extension extension;
        u8 protocol = packet->key.protocol;

        if (protocol != PROTOCOL_HOP_BY_HOP && protocol != PROTOCOL_ROUTING &&
            protocol != PROTOCOL_FRAGMENT && protocol != PROTOCOL_DESTINATION && protocol != PROTOCOL_AH)
            return true;
        if (!load(skb, *offset, &extension, sizeof(extension)))
            return false;
        if (protocol == PROTOCOL_FRAGMENT) {
            if (bpf_ntohs(extension.fragment) & IPV6_FRAG_OFFSET)
                return false;
            *offset += 8;
        } else if (protocol == PROTOCOL_AH) {
            *offset += (extension.length + 2) * 4;
        } else {
            *offset += (extension.length + 1) * 8;
        }
        packet->key.protocol = extension.next;
    }
    return false;
}

static __always_inline bool read_ipv6(const struct __sk_buff *skb, struct packet *packet, u32 *offset) {
    struct flow_key *key = &packet->key;
    struct ipv6_header ip;

    if (!load(skb, *offset, &ip, sizeof(ip)))
        return false;
    __builtin_memcpy(key->a.bytes, ip.source, sizeof(ip.source));
    __builtin_memcpy(key->b.bytes, ip.destination, sizeof(ip.destination));
    key->protocol = ip.next;
    packet->bytes = ip.payload ? bpf_ntohs(ip.payload) + sizeof(ip) : skb->len - ETH_HLEN;
    *offset += sizeof(ip);
    return skip_extensions(skb, packet, offset);
}

static __always_inline bool is_icmp(u8 protocol) {
    return protocol == PROTOCOL_ICMP || protocol == PROTOCOL_ICMPV6;
}

/* Requests and replies of ping. */
static __always_inline bool is_echo(u8 type) {
    return type == 0 || type == 8 || type == 128 || type == 129;
}

static __always_inline bool is_echo_reply(u8 type) {
    return type == 0 || type == 129;
}

static __always_inline bool read_transport(const struct __sk_buff *skb, struct packet *packet, u32 offset) {
    struct flow_key *key = &packet->key;
    struct icmp_header icmp;
    struct ports ports;

    switch (key->protocol) {
    case PROTOCOL_TCP:
    case PROTOCOL_UDP:
    case PROTOCOL_UDPLITE:
    case PROTOCOL_SCTP:
    case PROTOCOL_DCCP:
        if (!load(skb, offset, &ports, sizeof(ports)))
            return false;
        key->a_port = bpf_ntohs(ports.source);
        key->b_port = bpf_ntohs(ports.destination);
        if (key->protocol == PROTOCOL_TCP)
            return load(skb, offset + TCP_FLAGS, &packet->tcp_flags, 1);
        return true;
    case PROTOCOL_ICMP:
    case PROTOCOL_ICMPV6:
        if (!load(skb, offset, &icmp, sizeof(icmp)))
            return false;
        packet->icmp = icmp.type << 8 | icmp.code;
        key->a_port = key->b_port = is_echo(icmp.type) ? bpf_ntohs(icmp.id) : packet->icmp;
        return true;
    }
    /* The others are known by their addresses only, tunnels among them. */
    return true;
}

/* Whether the first end stands behind the second one. Which order it is doesn't matter. */
static __always_inline bool is_after(const struct flow_key *key) {
    if (key->a.halves[0] != key->b.halves[0])
        return key->a.halves[0] > key->b.halves[0];
    if (key->a.halves[1] != key->b.halves[1])
        return key->a.halves[1] > key->b.halves[1];
    return key->a_port > key->b_port;
}

static __always_inline bool is_to_itself(const struct flow_key *key) {
    return key->a.halves[0] == key->b.halves[0] && key->a.halves[1] == key->b.halves[1] &&
           key->a_port == key->b_port;
}

/* Puts source and destination into the key's order, and notes which of them sent the packet. */
static __always_inline void order(struct packet *packet) {
    struct flow_key *key = &packet->key;
    union address address = key->a;
    u16 port = key->a_port;

    if (is_after(key)) {
        key->a = key->b;
        key->a_port = key->b_port;
        key->b = address;
        key->b_port = port;
        packet->from_b = true;
    } else if (is_icmp(key->protocol) && is_to_itself(key)) {
        packet->from_b = is_echo_reply(packet->icmp >> 8);
    }
}

static __always_inline enum parsed parse(const struct __sk_buff *skb, struct packet *packet) {
    u16 type = bpf_ntohs(skb->protocol);
    u32 offset = 0;

    if (!skip_tags(skb, packet, &type, &offset))
        return PACKET_NOT_DECODED;
    if (type == ETH_P_IP) {
        if (!read_ipv4(skb, packet, &offset))
            return PACKET_NOT_DECODED;
    } else if (type == ETH_P_IPV6) {
        if (!read_ipv6(skb, packet, &offset))
            return PACKET_NOT_DECODED;
    } else {
        return PACKET_NOT_IP;
    }
    if (!read_transport(skb, packet, offset))
        return PACKET_NOT_DECODED;
    order(packet);
    return PACKET_DECODED;
}

#endif
