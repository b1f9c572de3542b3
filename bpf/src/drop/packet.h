/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * What is read of a packet: its length, its addresses and ports, where it is. A dropped packet may be cut off
 * anywhere and say anything of itself: only what lies in its linear part is read, and nothing is believed
 * that lies behind.
 */
#ifndef KUMON_PACKET_H
#define KUMON_PACKET_H

#include "kumon.h"

#define IFNAMSIZ 16

/* include/uapi/linux/if_ether.h */
#define ETH_P_IP   0x0800
#define ETH_P_ARP  0x0806
#define ETH_P_IPV6 0x86dd

/* include/uapi/linux/in.h and in6.h, and IANA's list. */
#define IPPROTO_ICMP     1
#define IPPROTO_IGMP     2
#define IPPROTO_GRE      47
#define IPPROTO_ESP      50
#define IPPROTO_ICMPV6   58
#define IPPROTO_OSPF     89
#define IPPROTO_OTHER    255
#define IPPROTO_TCP      6
#define IPPROTO_UDP      17
#define IPPROTO_SCTP     132
#define IPPROTO_UDPLITE  136
#define IPPROTO_HOPOPTS  0
#define IPPROTO_ROUTING  43
#define IPPROTO_FRAGMENT 44
#define IPPROTO_DSTOPTS  60

/* Extension headers of IPv6 that are passed over; more are as good as an attack. */
#define MAX_EXTENSIONS 4

#define IPV4_HEADER_BYTES 20
#define IPV6_HEADER_BYTES 40
#define PORTS_BYTES       4
#define TCP_HEADER_BYTES  20

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct net_device;
struct ns_common {
    unsigned int inum;
};
struct hlist_node {
    struct hlist_node *next;
};
struct hlist_head {
    struct hlist_node *first;
};
struct net {
    struct ns_common ns;
    struct hlist_head *dev_index_head;
    struct net_device *loopback_dev;
};
typedef struct {
    struct net *net;
} possible_net_t;
struct net_device {
    char name[IFNAMSIZ];
    int ifindex;
    possible_net_t nd_net;
    struct hlist_node index_hlist;
};
struct dst_entry {
    struct net_device *dev;
};
struct sk_buff {
    struct net_device *dev;
    struct sock *sk;
    unsigned long _skb_refdst;
    unsigned int len;
    int skb_iif;
    __be16 protocol;
    u16 network_header;
    unsigned int tail;
    unsigned char *head;
    unsigned char *data;
};
#pragma clang attribute pop

struct ipv4_header {
    u8 version_length;
    u8 tos;
    __be16 total;
    __be16 id;
    __be16 fragment;
    u8 ttl;
    u8 protocol;
    __be16 checksum;
    u8 source[4];
    u8 destination[4];
};

struct ipv6_header {
    u8 version_class;
    u8 flow[3];
    __be16 payload;
    u8 next;
    u8 hops;
    u8 source[16];
    u8 destination[16];
};

struct tcp_header {
    __be16 source;
    __be16 destination;
    __be32 sequence;
    __be32 acknowledgement;
    u8 offset;
    u8 flags;
    __be16 window;
    __be32 checksum_urgent;
};

/* IPv4 addresses stand as IPv4-mapped IPv6 ones. */
struct packet {
    u8 source[16];
    u8 destination[16];
    u32 sequence;
    u32 acknowledgement;
    u16 source_port;
    u16 destination_port;
    u8 tcp_flags;
    /* Of the socket, include/net/tcp_states.h; 0 where none is known. */
    u8 tcp_state;
    u8 has_addresses;
    /* Enough of the packet is there to read them: of TCP its whole header, else the ports. */
    u8 has_transport;
};

/* Where the headers of a packet are. */
struct headers {
    const unsigned char *network;
    /* Bytes that can be read from there on. */
    u32 linear;
    /* From there on; 0 where there is none that can be read. */
    u32 transport;
    u8 protocol;
};

static __always_inline struct headers headers_of(const struct sk_buff *skb) {
    u32 begin = skb->network_header, end = skb->tail;

    return (struct headers){
        .network = skb->head + begin,
        /* 0xffff: it was never set. */
        .linear = begin != 0xffff && end > begin ? end - begin : 0,
    };
}

/* Bytes from the network header on, wherever the kernel had come to in the packet. */
static __always_inline u32 length_of(const struct sk_buff *skb) {
    s64 begin = skb->network_header;
    s64 ahead = (s64)(u64)skb->data - (s64)(u64)skb->head - begin;

    return skb->network_header == 0xffff ? skb->len : skb->len + ahead;
}

static __always_inline void map_ipv4(u8 *address, const void *ipv4) {
    address[10] = 0xff;
    address[11] = 0xff;
    __builtin_memcpy(address + 12, ipv4, 4);
}

static __always_inline bool read_ipv4(struct headers *headers, struct packet *packet) {
    struct ipv4_header header = {};
    u32 length;

    if (headers->linear < IPV4_HEADER_BYTES ||
        bpf_probe_read_kernel(&header, sizeof(header), headers->network))
        return false;
    length = (header.version_length & 0xf) * 4;
    if (header.version_length >> 4 != 4 || length < IPV4_HEADER_BYTES)
        return false;
    map_ipv4(packet->source, header.source);
    map_ipv4(packet->destination, header.destination);
    headers->protocol = header.protocol;
    /* Only the first fragment has ports. */
    if (!(header.fragment & __builtin_bswap16(0x1fff)))
        headers->transport = length;
    return true;
}

static __always_inline bool read_ipv6(struct headers *headers, struct packet *packet) {
    struct ipv6_header header = {};
    u32 offset = IPV6_HEADER_BYTES;
    u8 next, extension[4];

    if (headers->linear < IPV6_HEADER_BYTES ||
        bpf_probe_read_kernel(&header, sizeof(header), headers->network))
        return false;
    if (header.version_class >> 4 != 6)
        return false;
    __builtin_memcpy(packet->source, header.source, sizeof(packet->source));
    __builtin_memcpy(packet->destination, header.destination, sizeof(packet->destination));
    next = header.next;
    for (int i = 0; i < MAX_EXTENSIONS; i++) {
        if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_FRAGMENT &&
            next != IPPROTO_DSTOPTS)
            break;
        if (offset + sizeof(extension) > headers->linear ||
            bpf_probe_read_kernel(extension, sizeof(extension), headers->network + offset)) {
            headers->protocol = next;
            return true;
        }
        if (next == IPPROTO_FRAGMENT && (extension[2] || extension[3] & 0xf8)) {
            headers->protocol = extension[0];
            return true;
        }
        offset += next == IPPROTO_FRAGMENT ? 8 : (extension[1] + 1) * 8;
        next = extension[0];
    }
    headers->protocol = next;
    headers->transport = offset;
    return true;
}

/* The protocol, or one for all that are not common: whoever makes them up is not to make keys. */
static __always_inline u8 common_protocol(u8 protocol) {
    switch (protocol) {
    case IPPROTO_ICMP:
    case IPPROTO_IGMP:
    case IPPROTO_TCP:
    case IPPROTO_UDP:
    case IPPROTO_GRE:
    case IPPROTO_ESP:
    case IPPROTO_ICMPV6:
    case IPPROTO_OSPF:
    case IPPROTO_SCTP:
    case IPPROTO_UDPLITE:
        return protocol;
    default:
        return IPPROTO_OTHER;
    }
}

/* Reads the addresses and finds the transport header; false where that can't be. */
static __always_inline bool read_network(u16 protocol, struct headers *headers, struct packet *packet) {
    if (protocol == ETH_P_IP)
        return read_ipv4(headers, packet);
    return protocol == ETH_P_IPV6 && read_ipv6(headers, packet);
}

static __always_inline void read_transport(const struct headers *headers, struct packet *packet) {
    u8 protocol = headers->protocol;
    struct tcp_header header = {};
    bool is_tcp = protocol == IPPROTO_TCP;
    u32 rest = headers->linear - headers->transport;

    if (!headers->transport || headers->transport + PORTS_BYTES > headers->linear)
        return;
    if (is_tcp && rest >= TCP_HEADER_BYTES) {
        if (bpf_probe_read_kernel(&header, TCP_HEADER_BYTES, headers->network + headers->transport))
            return;
    } else if (is_tcp || protocol == IPPROTO_UDP || protocol == IPPROTO_UDPLITE || protocol == IPPROTO_SCTP) {
        if (bpf_probe_read_kernel(&header, PORTS_BYTES, headers->network + headers->transport))
            return;
    } else {
        return;
    }
    packet->source_port = __builtin_bswap16(header.source);
    packet->destination_port = __builtin_bswap16(header.destination);
    packet->sequence = __builtin_bswap32(header.sequence);
    packet->acknowledgement = __builtin_bswap32(header.acknowledgement);
    packet->tcp_flags = header.flags;
    packet->has_transport = !is_tcp || rest >= TCP_HEADER_BYTES;
}

#endif
