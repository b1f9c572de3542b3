/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Which process a socket belongs to: who uses it, and as long as nobody has, who listens. An object that
 * includes it says whose filter selects processes, and which metric lacks an owner that finds no room:
 *
 *	#define OWNER_METRIC METRIC_TCPLIFE
 *	#include "owner.h"
 */
#ifndef KUMON_OWNER_H
#define KUMON_OWNER_H

#include "socket.h"

/* include/linux/sched.h */
#define PF_KTHREAD 0x00200000

/* A process that a socket belongs to. */
struct owner {
    u64 start;
    u64 cgroup;
    u32 pid; /* 0 while it isn't known */
    u32 uid;
    u32 selected; /* by the filter */
    u32 certain;  /* it has used the socket; before, it is the one that listens */
    char name[TASK_COMM_LEN];
};

struct listener {
    struct owner owner;
    u32 gone;  /* found so by the last sweep */
    u32 holds; /* the sweep under way has found that the process still has the socket open */
};

/*
 * Who listens, by the address of the listening socket, which is all that an accepted one tells of it. The
 * next to listen at the address replaces what may be left there. User space sets the size.
 */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 16384);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, u64);
    __type(value, struct listener);
} listeners SEC(".maps");

/* The socket that was last made of a handshake on this CPU, and the one that listens. */
struct arrival {
    u64 socket;
    u64 listener;
};
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, u32);
    __type(value, struct arrival);
} arrivals SEC(".maps");

static __always_inline void set_owner(struct owner *owner, struct task_struct *task) {
    struct task_struct *leader = BPF_CORE_READ(task, group_leader);

    owner->pid = BPF_CORE_READ(task, tgid);
    owner->uid = BPF_CORE_READ(task, cred, uid.val);
    owner->start = BPF_CORE_READ(leader, start_boottime);
    owner->cgroup = cgroup_id_of(task);
    owner->selected = selected(OWNER_METRIC, task);
    BPF_CORE_READ_STR_INTO(&owner->name, leader, comm);
}

static __always_inline struct task_struct *current_task(void) {
    return (struct task_struct *)bpf_get_current_task();
}

/* As set_owner() of the current task, of which the kernel tells most without reading its memory. */
static __always_inline void set_current_owner(struct owner *owner) {
    struct task_struct *task = current_task();
    struct task_struct *leader = BPF_CORE_READ(task, group_leader);

    owner->pid = bpf_get_current_pid_tgid() >> 32;
    owner->uid = bpf_get_current_uid_gid();
    owner->start = BPF_CORE_READ(leader, start_boottime);
    owner->cgroup = bpf_get_current_cgroup_id();
    owner->selected = selected(OWNER_METRIC, task);
    BPF_CORE_READ_STR_INTO(&owner->name, leader, comm);
    owner->certain = true;
}

/* A worker of the kernel acts for somebody else. */
static __always_inline bool is_kernel_thread(struct task_struct *task) {
    return BPF_CORE_READ(task, flags) & PF_KTHREAD;
}

/*
 * Whether the current process is using the socket: it holds the lock that system calls take. What comes in is
 * handled without that one, in whatever process it interrupts, on the loopback interface the peer.
 */
static __always_inline bool is_used_by_current(const struct sock *sk) {
    return sk->sk_lock.owned && !is_kernel_thread(current_task());
}

/* One that finds no room is counted: sessions may lack their owner. */
static __always_inline void add_listener(const struct sock *sk, struct task_struct *task) {
    struct listener listener = {};
    u64 key = (u64)sk;

    set_owner(&listener.owner, task);
    if (bpf_map_update_elem(&listeners, &key, &listener, BPF_ANY))
        lost(OWNER_METRIC, LOSS_MAP_FULL);
}

static __always_inline void drop_listener(const struct sock *sk) {
    u64 key = (u64)sk;

    bpf_map_delete_elem(&listeners, &key);
}

/*
 * A new socket is a copy of the listening one; in this moment its list of sent segments, which is empty,
 * still points to where that one is.
 */
static __always_inline void note_arrival(const struct sock *sk) {
    const struct tcp_sock *tcp = (const struct tcp_sock *)sk;
    u32 zero = 0;
    struct arrival *arrival = bpf_map_lookup_elem(&arrivals, &zero);

    if (!arrival)
        return;
    arrival->socket = (u64)sk;
    arrival->listener = (u64)BPF_CORE_READ(tcp, tsorted_sent_queue.next) -
                        bpf_core_field_offset(struct tcp_sock, tsorted_sent_queue);
}

/*
 * Where the socket is that took a session which is just established; 0 if it isn't known. The kernel goes on
 * from the arrival at once, on the same CPU; only with TCP Fast Open others may come between.
 */
static __always_inline u64 listener_of(const struct sock *sk) {
    u32 zero = 0;
    struct arrival *arrival = bpf_map_lookup_elem(&arrivals, &zero);

    return arrival && arrival->socket == (u64)sk ? arrival->listener : 0;
}

static __always_inline void set_listening_owner(struct owner *owner, u64 key) {
    struct listener *listener = bpf_map_lookup_elem(&listeners, &key);

    if (listener)
        *owner = listener->owner;
}

#endif
