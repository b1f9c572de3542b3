/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Flows of packets through the network interfaces (flow). The programs of TC look at packets only: what they
 * return lets others decide, and none is changed.
 */

enum metric { METRIC_FLOW };
#define OWNER_METRIC METRIC_FLOW
#include "kumon.h"
#include "flows.h"
#include "sockets.h"

/* TC_ACT_UNSPEC, and TCX_NEXT: the next program decides, or else the packet goes on. */
#define NO_VERDICT -1

static __always_inline int observe(struct __sk_buff *skb, bool egress) {
    struct packet packet = {};
    struct flow *flow;
    u64 now;

    switch (parse(skb, &packet)) {
    case PACKET_DECODED:
        break;
    case PACKET_NOT_DECODED:
        lost(METRIC_FLOW, LOSS_NOT_DECODED);
        return NO_VERDICT;
    default:
        return NO_VERDICT;
    }
    if (!is_followed(&packet.key)) {
        lost(METRIC_FLOW, LOSS_SAMPLED_OUT);
        return NO_VERDICT;
    }
    now = bpf_ktime_get_boot_ns();
    flow = bpf_map_lookup_elem(&flows, &packet.key);
    if (!flow)
        flow = find_or_begin(skb, &packet, egress, now);
    if (flow)
        count(flow, skb, &packet, egress, now);
    return NO_VERDICT;
}

/* User space knows the programs of a KuMon that was killed by these names. */
SEC("tc")
int kumon_ingress(struct __sk_buff *skb) {
    return observe(skb, false);
}

SEC("tc")
int kumon_egress(struct __sk_buff *skb) {
    return observe(skb, true);
}
