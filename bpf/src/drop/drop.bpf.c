// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * Packets that the kernel drops: all of them counted by reason and place (drop), those of TCP one by one
 * (tcpdrop). The kernel also says here that it throws away what has done its work, 6,000 times a second for a
 * busy web server: what nobody asks for ends after the first look.
 */
enum metric { METRIC_DROP, METRIC_TCPDROP };
#include "kumon.h"
#include "budget.h"
#include "interval.h"
#include "owner.h"
#include "packet.h"

/* Reasons of the kernel's core are numbered from 0 on, those of a subsystem have its number in the upper
 * half. */
#define MAX_REASONS    512
#define MAX_SUBSYSTEMS 16

#define MAX_FRAMES 32

/* How many times the time of a row one takes of what a reason at a place may have, and how much may be in
 * use. */
#define PLACE_PART  4
#define PLACE_BURST (500 * MILLISECOND)

/* Set before loading. What the kernel hands over: packet and place, since 5.17 the reason, since 6.11 the
 * receiver. */
const volatile u32 parameters = 4;
const volatile bool with_stack = false;
/* Bits of the metrics that ask for a reason, 1 << enum metric. */
const volatile u8 asked_for[MAX_REASONS] = {};
const volatile u8 asked_for_of_subsystem[MAX_SUBSYSTEMS] = {};

EVENTS(2 * 1024 * 1024);

struct drop_key {
    u64 location;
    /* The inode of the folder of the socket's cgroup v2; 0 where it isn't known. */
    u64 cgroup;
    u32 reason;
    u16 protocol; /* ETH_P_* */
    u8 transport; /* IPPROTO_*; 0 if it can't be read */
    u8 came_in;   /* through the interface; else it was to leave there */
    char interface[IFNAMSIZ];
};

struct drops {
    u64 count;
    u64 bytes;
    /* The first one. */
    struct packet sample;
};
EXPORT_TYPE(drop_key);
EXPORT_TYPE(drops);

struct tcp_drop {
    /* CLOCK_BOOTTIME, ns. */
    u64 time;
    struct drop_key key;
    struct packet packet;
    u32 bytes;
    /* The process that sends; 0 if it isn't known. */
    u32 pid;
    u64 start;
    char name[TASK_COMM_LEN];
};
struct traced_tcp_drop {
    struct tcp_drop drop;
    /* Bytes of what follows. */
    u64 size;
    /* Return addresses, the innermost first. */
    u64 frames[MAX_FRAMES];
};
EXPORT_TYPE(tcp_drop);
EXPORT_TYPE(traced_tcp_drop);

INTERVAL_MAPS(drops_of_interval, BPF_MAP_TYPE_PERCPU_HASH, BPF_F_NO_PREALLOC, struct drop_key, struct drops);

static const struct drops no_drops;

struct place_key {
    u64 location;
    u64 reason;
};

/* The budgets of reasons at places, so that a flood leaves rows for what else is dropped; the kernel has some
 * hundred. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 1024);
    __type(key, struct place_key);
    __type(value, struct budget);
} places SEC(".maps");

static const struct budget whole_budget;

static __always_inline u8 asking_metrics(u32 reason) {
    u32 subsystem = reason >> 16;

    if (!subsystem)
        return reason < MAX_REASONS ? asked_for[reason] : 0;
    return subsystem < MAX_SUBSYSTEMS ? asked_for_of_subsystem[subsystem] : 0;
}

/* Where it is sent its socket, where it is received the one it is for. */
static __always_inline struct owner owner_of_packet(u64 *ctx, const struct sk_buff *skb,
                                                    struct net_device *device) {
    struct owner owner = {};

    if (parameters >= 4)
        owner = owner_of((const struct sock *)ctx[3]);
    if (owner.family)
        return owner;
    owner = owner_of(skb->sk);
    /* It comes from another network namespace and still has the socket that sent it. */
    if (owner.family && device && BPF_CORE_READ(device, nd_net.net) != owner.net)
        return (struct owner){};
    return owner;
}

/* The protocol is set late on the way out: before, the socket says it. */
static __always_inline u16 protocol_of(const struct sk_buff *skb, const struct owner *owner) {
    if (skb->protocol)
        return __builtin_bswap16(skb->protocol);
    if (owner->family == AF_INET)
        return ETH_P_IP;
    return owner->family == AF_INET6 ? ETH_P_IPV6 : 0;
}

static __always_inline void locate(const struct sk_buff *skb, const struct owner *owner,
                                   struct net_device *device, struct drop_key *key) {
    int came_in = skb->skb_iif;

    if (came_in && (!device || BPF_CORE_READ(device, ifindex) == came_in)) {
        key->came_in = true;
        if (!device)
            device = device_by_index(owner->net, came_in);
    } else if (!device) {
        device = device_of_route(skb);
    }
    if (device)
        BPF_CORE_READ_STR_INTO(&key->interface, device, name);
}

static __always_inline void count(const struct drop_key *key, const struct headers *headers,
                                  struct packet *packet, u32 bytes) {
    struct drops *drops = NULL;
    void *map = current_map(&drops_of_interval);

    if (map)
        drops = value_of(map, key, &no_drops);
    if (!drops) {
        lost(METRIC_DROP, LOSS_MAP_FULL);
        return;
    }
    if (!drops->count) {
        read_transport(headers, packet);
        drops->sample = *packet;
    }
    /* An interrupt's packet may be counted in between. */
    __sync_fetch_and_add(&drops->count, 1);
    __sync_fetch_and_add(&drops->bytes, bytes);
}

/* Whether a reason at a place has room: as in budget.h, without a half for all. */
static __always_inline bool place_has_room(const struct drop_key *key) {
    struct place_key place = {.location = key->location, .reason = key->reason};
    u64 row = shared.metrics[METRIC_TCPDROP].row_time;
    struct budget *budget;

    if (!row)
        return true;
    budget = bpf_map_lookup_elem(&places, &place);
    if (!budget) {
        /* Another CPU may be quicker: then its value is found. */
        bpf_map_update_elem(&places, &place, &whole_budget, BPF_NOEXIST);
        budget = bpf_map_lookup_elem(&places, &place);
    }
    if (!budget)
        return true;
    if (in_use(budget, bpf_ktime_get_ns()) >= PLACE_BURST)
        return false;
    spend(budget, PLACE_PART * row);
    return true;
}

static __always_inline void describe(struct tcp_drop *event, const struct drop_key *key,
                                     const struct packet *packet, u32 bytes, bool is_sent_by_current) {
    struct task_struct *task = (void *)bpf_get_current_task();

    event->time = bpf_ktime_get_boot_ns();
    event->key = *key;
    event->packet = *packet;
    event->bytes = bytes;
    event->pid = 0;
    event->start = 0;
    __builtin_memset(event->name, 0, sizeof(event->name));
    if (!is_sent_by_current)
        return;
    event->pid = BPF_CORE_READ(task, tgid);
    event->start = process_start(task);
    BPF_CORE_READ_STR_INTO(&event->name, task, group_leader, comm);
}

static __always_inline void report(u64 *ctx, const struct drop_key *key, const struct packet *packet,
                                   const struct owner *owner, u32 bytes) {
    bool by_current = !key->came_in && is_sent_by_current(owner);
    struct subject subject = {.cgroup = key->cgroup};
    struct task_struct *task = (void *)bpf_get_current_task();

    if (!sampled(METRIC_TCPDROP))
        return;
    if (by_current) {
        subject.process = BPF_CORE_READ(task, tgid);
        subject.name = name_of(BPF_CORE_READ(task, group_leader));
    }
    if (!place_has_room(key)) {
        leave_out(METRIC_TCPDROP, &subject);
        return;
    }
    if (!within_budget(METRIC_TCPDROP, subject))
        return;
    if (with_stack) {
        struct traced_tcp_drop *event = reserve_event(METRIC_TCPDROP, struct traced_tcp_drop);
        long size;

        if (!event)
            return;
        describe(&event->drop, key, packet, bytes, by_current);
        size = bpf_get_stack(ctx, event->frames, sizeof(event->frames), 0);
        event->size = size < 0 ? 0 : size;
        submit_event(event);
    } else {
        struct tcp_drop *event = reserve_event(METRIC_TCPDROP, struct tcp_drop);

        if (!event)
            return;
        describe(event, key, packet, bytes, by_current);
        submit_event(event);
    }
}

SEC("tp_btf/kfree_skb")
int dropped(u64 *ctx) {
    const struct sk_buff *skb = (void *)ctx[0];
    struct drop_key key = {.location = ctx[1], .reason = parameters >= 3 ? (u32)ctx[2] : 0};
    u8 asking = asking_metrics(key.reason);
    struct packet packet = {};
    struct net_device *device;
    struct headers headers;
    struct owner owner;
    u32 bytes;

    if (!asking)
        return 0;
    device = device_of(skb);
    owner = owner_of_packet(ctx, skb, device);
    key.protocol = protocol_of(skb, &owner);
    if (key.protocol != ETH_P_IP && key.protocol != ETH_P_IPV6 && key.protocol != ETH_P_ARP)
        return 0;
    key.cgroup = cgroup_id(owner.cgroup);
    locate(skb, &owner, device, &key);
    headers = headers_of(skb);
    bytes = length_of(skb);
    packet.tcp_state = owner.state;
    if (skb->protocol && read_network(key.protocol, &headers, &packet)) {
        packet.has_addresses = true;
        key.transport = common_protocol(headers.protocol);
    } else if (owner.socket) {
        read_socket(&owner, !key.came_in, &packet);
        packet.has_addresses = true;
        key.transport = common_protocol(owner.protocol);
    }
    if (asking & 1 << METRIC_DROP && selects_cgroup(METRIC_DROP, owner.cgroup))
        count(&key, &headers, &packet, bytes);
    if (asking & 1 << METRIC_TCPDROP && key.transport == IPPROTO_TCP &&
        selects_cgroup(METRIC_TCPDROP, owner.cgroup)) {
        read_transport(&headers, &packet);
        report(ctx, &key, &packet, &owner, bytes);
    }
    return 0;
}

/* A function of the kernel by an address in it. */
struct symbol {
    u64 address;
    char name[64];
};
EXPORT_TYPE(symbol);

/*
 * Names what `address` is in, for user space, which may not read addresses in /proc/kallsyms without
 * CAP_SYSLOG.
 */
SEC("syscall")
int name_symbol(struct symbol *symbol) {
    static const char format[] = "%ps";
    char name[sizeof(symbol->name)] = {};
    u64 address = symbol->address;

    bpf_snprintf(name, sizeof(name), format, &address, sizeof(address));
    __builtin_memcpy(symbol->name, name, sizeof(name));
    return 0;
}
