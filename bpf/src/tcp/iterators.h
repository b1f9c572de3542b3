/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * A part of tcp.bpf.c: what runs over all there is, at no event. Over the open files, to find who listens and
 * the sessions that stand; over the maps, to take out what nobody would.
 */
#ifndef KUMON_ITERATORS_H
#define KUMON_ITERATORS_H

#include "open_sockets.h"

/* A session that stands, with a process that holds it. */
static __always_inline void add_standing(struct sock *sk, struct task_struct *task, u8 state) {
    struct session session = {.standing = 1, .socket = (u64)sk};

    session.established = state != TCP_SYN_SENT;
    session.key = key_of(sk);
    session.opened = bpf_ktime_get_boot_ns();
    /* An accepted socket has inherited the backlog of the one that listens. */
    session.direction = BPF_CORE_READ(sk, sk_max_ack_backlog) ? DIRECTION_INGRESS : DIRECTION_EGRESS;
    set_owner(&session.owner, task);
    session.owner.certain = session.direction == DIRECTION_EGRESS;
    set_endpoints(&session.local, &session.remote, sk);
    if (bpf_map_update_elem(&sessions, &session.key, &session, BPF_NOEXIST)) {
        /* Known already: another process holds it too, or it was opened since. */
        if (!bpf_map_lookup_elem(&sessions, &session.key))
            lost(METRIC_TCPLIFE, LOSS_MAP_FULL);
        return;
    }
    /* It may have ended meanwhile, unseen. The kernel unhashes a socket before it tells that it is closed. */
    if (!BPF_CORE_READ(sk, __sk_common.skc_node.pprev))
        bpf_map_delete_elem(&sessions, &session.key);
}

/* The TCP socket that listens: itself, or the one by which a Multipath TCP socket does. */
static __always_inline const struct sock *listening(const struct sock *sk) {
    u16 protocol = BPF_CORE_READ(sk, sk_protocol);

    if (BPF_CORE_READ(sk, __sk_common.skc_state) != TCP_LISTEN)
        return NULL;
    if (protocol == IPPROTO_TCP)
        return sk;
    return is_mptcp(protocol) ? first_subflow(sk) : NULL;
}

/*
 * Finds who listens, and the sessions that stand, in all network namespaces. Runs once, after the other
 * programs are attached: what they know is newer.
 */
SEC("iter/task_file")
int find_standing(struct bpf_iter__task_file *ctx) {
    struct task_struct *task = ctx->task;
    struct file *file = ctx->file;
    const struct sock *listens;
    struct socket *socket;
    struct sock *sk;
    u8 state;

    if (!task || !file)
        return 0;
    socket = socket_of(file);
    if (!socket)
        return 0;
    sk = socket_cookies ? socket->sk : BPF_CORE_READ(socket, sk);
    if (!sk)
        return 0;
    listens = listening(sk);
    if (listens)
        add_listener(listens, task);
    if (!socket_cookies || BPF_CORE_READ(sk, sk_protocol) != IPPROTO_TCP)
        return 0;
    state = BPF_CORE_READ(sk, __sk_common.skc_state);
    if (state == TCP_ESTABLISHED || state == TCP_SYN_SENT || state == TCP_CLOSE_WAIT ||
        state == TCP_FIN_WAIT1 || state == TCP_FIN_WAIT2)
        add_standing(sk, task, state);
    return 0;
}

/* The TCP socket that listens behind an open file of a process. */
static __always_inline const struct sock *listening_of(struct bpf_iter__task_file *ctx) {
    struct file *file = ctx->file;
    struct socket *socket;
    const struct sock *sk;

    if (!ctx->task || !file)
        return NULL;
    socket = socket_of(file);
    sk = socket ? BPF_CORE_READ(socket, sk) : NULL;
    return sk ? listening(sk) : NULL;
}

/* Notes of the processes that began to listen whether they still have the socket open. */
SEC("iter/task_file")
int confirm_listeners(struct bpf_iter__task_file *ctx) {
    struct task_struct *task = ctx->task;
    u64 key = (u64)listening_of(ctx);
    struct listener *listener = key ? bpf_map_lookup_elem(&listeners, &key) : NULL;

    if (listener && task && listener->owner.pid == BPF_CORE_READ(task, tgid) &&
        listener->owner.start == process_start(task))
        listener->holds = true;
    return 0;
}

/* Follows that: where one has not, as the parent of a daemon, another that has it open takes its place. */
SEC("iter/task_file")
int renew_listeners(struct bpf_iter__task_file *ctx) {
    struct task_struct *task = ctx->task;
    const struct sock *sk = listening_of(ctx);
    u64 key = (u64)sk;
    struct listener *listener;

    if (!sk || !task)
        return 0;
    listener = bpf_map_lookup_elem(&listeners, &key);
    if (!listener || !listener->holds)
        add_listener(sk, task);
    return 0;
}

/* Whether a session has ended unseen: its socket is closed, or another one is at its place. */
static __always_inline bool has_ended(const struct session *session) {
    const struct sock *sk = (const struct sock *)session->socket;
    u8 state = BPF_CORE_READ(sk, __sk_common.skc_state);

    return !state || state == TCP_CLOSE || known_key_of(sk) != session->key;
}

static __always_inline void end_held(struct session *session, u64 since) {
    struct owner owner;

    if (bpf_ktime_get_boot_ns() - session->ended < since)
        return;
    owner = session->owner;
    set_listening_owner(&owner, session->listener);
    end_session(session, &owner);
}

/*
 * Tells closed sessions that have waited for their process long enough, and forgets those that ended unseen.
 * Of what the last sweep has found alike: an end may be just about to be told.
 */
SEC("iter/bpf_map_elem")
int sweep_sessions(struct bpf_iter__bpf_map_elem *ctx) {
    struct session *session = ctx->value;
    u64 key;

    if (!session)
        return 0;
    if (session->ended) {
        end_held(session, MAX_HELD);
    } else if (!has_ended(session)) {
        session->gone = false;
    } else if (!session->gone) {
        session->gone = true;
    } else {
        key = session->key;
        bpf_map_delete_elem(&sessions, &key);
    }
    return 0;
}

/* Tells all closed sessions, when KuMon stops. */
SEC("iter/bpf_map_elem")
int end_sessions(struct bpf_iter__bpf_map_elem *ctx) {
    struct session *session = ctx->value;

    if (session && session->ended)
        end_held(session, 0);
    return 0;
}

SEC("iter/bpf_map_elem")
int sweep_listeners(struct bpf_iter__bpf_map_elem *ctx) {
    struct listener *listener = ctx->value;
    const u64 *address = ctx->key;
    const struct sock *sk;
    u64 key;

    if (!listener || !address)
        return 0;
    listener->holds = false;
    key = *address;
    sk = (const struct sock *)key;
    if (BPF_CORE_READ(sk, __sk_common.skc_state) == TCP_LISTEN)
        listener->gone = false;
    else if (!listener->gone)
        listener->gone = true;
    else
        bpf_map_delete_elem(&listeners, &key);
    return 0;
}

#endif
