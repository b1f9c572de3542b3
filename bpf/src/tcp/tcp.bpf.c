/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* TCP sessions from their opening to their end (tcplife). */

enum metric { METRIC_TCPLIFE };
#define OWNER_METRIC METRIC_TCPLIFE
#include "kumon.h"
#include "budget.h"
#include "mptcp.h"
#include "owner.h"
#include "socket.h"

/* Whether programs may walk over maps, since Linux 5.9; set before loading. */
const volatile bool sweeps = true;

/* How long a closed session waits for its process to show, ns. */
#define MAX_HELD (10 * 1000000000ULL)

EVENTS(2 * 1024 * 1024);

enum direction { DIRECTION_EGRESS, DIRECTION_INGRESS };

/* How a session ended; the last three are those of a connect that led to none, too. */
enum end { END_CLOSED, END_RESET, END_RESET_BY_PEER, END_REFUSED, END_TIMED_OUT, END_FAILED };

/* A session in the making, and when it ends the event. */
struct session {
    u64 key;
    u64 socket;   /* its address */
    u64 listener; /* the address of the socket that listened; 0 if it isn't known */
    /*
     * CLOCK_BOOTTIME, ns: when connect was called, the handshake of an accepted one was over, or a standing
     * one was found.
     */
    u64 opened;
    u64 ended;          /* 0 while it stands */
    u64 bytes_sent;     /* payload that the peer acknowledged */
    u64 bytes_received; /* payload */
    struct owner owner;
    enum direction direction;
    enum end end;
    u32 error; /* errno that the process is told */
    u8 established;
    u8 standing;
    u8 may_reset; /* a reset_sent may follow */
    u8 gone;      /* found so by the last sweep */
    struct endpoint local;
    struct endpoint remote;
};
EXPORT_TYPE(session);

/* Follows the event of a session that the kernel has closed before it answered what came in with a RST. */
struct reset_sent {
    u64 key;
};
EXPORT_TYPE(reset_sent);

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

/* How many sessions are closed and wait for their process. */
volatile u32 held_sessions SEC(".data.held") = 0;

/* Where there are no cookies it is the address; what it still says of a former socket is then overwritten. */
static __always_inline u64 key_of(struct sock *sk) {
    return socket_cookies ? bpf_get_socket_cookie(sk) : (u64)sk;
}

/* As key_of(), of a socket that was followed before. */
static __always_inline u64 known_key_of(const struct sock *sk) {
    return socket_cookies ? BPF_CORE_READ(sk, __sk_common.skc_cookie.counter) : (u64)sk;
}

/* Takes over the owner of the subflow that the Multipath TCP socket began with. */
static __always_inline bool adopt_owner(struct owner *owner, const struct sock *subflow) {
    const struct sock *first;
    struct session *session;
    u64 key;

    first = first_subflow(socket_of_subflow(subflow));
    if (!first || first == subflow)
        return false;
    key = known_key_of(first);
    session = bpf_map_lookup_elem(&sessions, &key);
    if (!session)
        return false;
    *owner = session->owner;
    return true;
}

static __always_inline void add_session(struct session *session) {
    if (bpf_map_update_elem(&sessions, &session->key, session, BPF_ANY))
        lost(METRIC_TCPLIFE, LOSS_MAP_FULL);
}

static __always_inline void on_connect(u64 key, const struct sock *sk) {
    struct session session = {
        .key = key,
        .socket = (u64)sk,
        .opened = bpf_ktime_get_boot_ns(),
        .direction = DIRECTION_EGRESS,
    };

    /* In the process that calls connect; further subflows are connected by a worker of the kernel. */
    if (is_kernel_thread(current_task()) && is_subflow(sk))
        adopt_owner(&session.owner, sk);
    else
        set_current_owner(&session.owner);
    add_session(&session);
}

static __always_inline void on_established(u64 key, const struct sock *sk, int from) {
    struct session *known = bpf_map_lookup_elem(&sessions, &key);
    struct session accepted = {
        .key = key,
        .socket = (u64)sk,
        .established = 1,
        .direction = DIRECTION_INGRESS,
    };

    if (known && !known->established) {
        known->established = 1;
        set_endpoints(&known->local, &known->remote, sk);
        return;
    }
    /* Its connect found no room and is counted. */
    if (from == TCP_SYN_SENT)
        return;
    accepted.opened = bpf_ktime_get_boot_ns();
    set_endpoints(&accepted.local, &accepted.remote, sk);
    accepted.listener = listener_of(sk);
    if (!is_subflow(sk) || !adopt_owner(&accepted.owner, sk))
        set_listening_owner(&accepted.owner, accepted.listener);
    add_session(&accepted);
}

/* `error` is what the process is told: the kernel sets it before the state. */
static __always_inline enum end end_of(bool established, int from, u32 error) {
    if (error == ETIMEDOUT)
        return END_TIMED_OUT;
    if (!established)
        return error == ECONNREFUSED ? END_REFUSED : END_FAILED;
    if (error == ECONNRESET || error == EPIPE)
        return END_RESET_BY_PEER;
    /* ss --kill, or a system call of a BPF program. */
    if (error == ECONNABORTED)
        return END_RESET;
    if (error)
        return END_FAILED;
    /* An orderly end leads through other states: what was not read yet is thrown away, or SO_LINGER is 0. */
    if (from == TCP_ESTABLISHED || from == TCP_CLOSE_WAIT || from == TCP_FIN_WAIT1 || from == TCP_SYN_RECV)
        return END_RESET;
    return END_CLOSED;
}

/* The process has closed the socket: what still comes for it is answered with a RST after it is closed. */
static __always_inline bool is_orphan(const struct sock *sk) {
    return has_flag(sk, bpf_core_enum_value(enum sock_flags, SOCK_DEAD));
}

/* Where a filter asks for the process, a session without one is counted. */
static __always_inline bool is_wanted(const struct owner *owner) {
    if (shared.metrics[METRIC_TCPLIFE].filters && !owner->selected) {
        if (!owner->pid)
            lost(METRIC_TCPLIFE, LOSS_NO_PROCESS);
        return false;
    }
    return !is_self(owner->pid) && sampled(METRIC_TCPLIFE);
}

/* Takes a session out of the map and tells it as that of `owner`; once, whoever else is about to do so. */
static __always_inline void end_session(struct session *session, const struct owner *owner) {
    struct subject subject = {.cgroup = owner->cgroup, .process = owner->pid, .name = owner->name};
    bool wanted = is_wanted(owner), held = session->ended;
    bool has_row = wanted && admitted(METRIC_TCPLIFE, subject);
    struct session *event = has_row ? reserve_event(METRIC_TCPLIFE, struct session) : NULL;
    u64 key = session->key;
    bool taken;

    if (event) {
        __builtin_memcpy(event, session, sizeof(*event));
        event->owner = *owner;
        if (!held)
            event->ended = bpf_ktime_get_boot_ns();
    }
    taken = !bpf_map_delete_elem(&sessions, &key);
    if (event && taken)
        submit_event(event);
    else if (event)
        bpf_ringbuf_discard(event, BPF_RB_NO_WAKEUP);
    if (wanted && !has_row && taken)
        leave_out(METRIC_TCPLIFE, &subject);
    if (held && taken)
        __sync_fetch_and_add(&held_sessions, -1);
}

static __always_inline void describe_end(struct session *session, const struct sock *sk, int from) {
    session->error = sk->sk_err;
    session->end = end_of(session->established, from, session->error);
    session->may_reset = (from == TCP_FIN_WAIT1 || from == TCP_FIN_WAIT2) && is_orphan(sk);
    read_payload(sk, session->direction == DIRECTION_EGRESS, &session->bytes_sent, &session->bytes_received);
    /* Before, the local port isn't chosen. */
    if (!session->established)
        set_endpoints(&session->local, &session->remote, sk);
}

/* The first to use an accepted socket is its owner. */
static __always_inline void find_user(u64 key, const struct sock *sk) {
    struct session *session = bpf_map_lookup_elem(&sessions, &key);

    if (session && !session->owner.certain && is_used_by_current(sk))
        set_current_owner(&session->owner);
}

static __always_inline void on_close(u64 key, const struct sock *sk, int from) {
    struct session *session = bpf_map_lookup_elem(&sessions, &key);
    struct owner owner;

    if (!session)
        return;
    describe_end(session, sk, from);
    /* Not ss --kill, which uses the socket as its owner does. */
    if (!session->owner.certain && session->error != ECONNABORTED && is_used_by_current(sk))
        set_current_owner(&session->owner);
    /* Whoever has it, or listens and has it still to accept, shows in on_destroy. */
    if (sweeps && !session->owner.certain && !is_orphan(sk)) {
        session->ended = bpf_ktime_get_boot_ns();
        __sync_fetch_and_add(&held_sessions, 1);
        return;
    }
    owner = session->owner;
    end_session(session, &owner);
}

/* A process begins to close its Multipath TCP socket: workers of the kernel do that with the subflows. */
static __always_inline void on_mptcp_close(const struct sock *sk) {
    const struct mptcp_sock *msk = (const struct mptcp_sock *)sk;
    const void *end = (const void *)sk + bpf_core_field_offset(struct mptcp_sock, conn_list);
    const struct list_head *node = BPF_CORE_READ(msk, conn_list.next);
    struct owner owner = {};

    set_current_owner(&owner);
    for (int i = 0; i < MAX_SUBFLOWS; i++) {
        const struct mptcp_subflow_context *context;
        struct session *session;
        u64 key;

        if (!node || node == end)
            return;
        context = (const void *)node - bpf_core_field_offset(struct mptcp_subflow_context, node);
        key = known_key_of(BPF_CORE_READ(context, tcp_sock));
        session = bpf_map_lookup_elem(&sessions, &key);
        if (session && !session->owner.certain)
            session->owner = owner;
        node = BPF_CORE_READ(node, next);
    }
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(on_state, struct sock *sk, int from, int to) {
    u64 key;

    if (sk->sk_protocol != IPPROTO_TCP) {
        if ((to == TCP_FIN_WAIT1 || to == TCP_LAST_ACK || to == TCP_CLOSE) && is_mptcp(sk->sk_protocol) &&
            is_used_by_current(sk))
            on_mptcp_close(sk);
        return 0;
    }
    if (to == TCP_SYN_RECV) {
        /* It has no cookie yet, but that of the one that listens. */
        if (from == TCP_LISTEN)
            note_arrival(sk);
        return 0;
    }
    key = key_of(sk);
    switch (to) {
    case TCP_SYN_SENT:
        on_connect(key, sk);
        break;
    case TCP_LISTEN:
        add_listener(sk, current_task());
        break;
    case TCP_ESTABLISHED:
        on_established(key, sk, from);
        break;
    case TCP_FIN_WAIT1:
    case TCP_LAST_ACK:
        find_user(key, sk);
        break;
    case TCP_CLOSE:
        if (from == TCP_LISTEN)
            drop_listener(sk);
        else
            on_close(key, sk, from);
        break;
    }
    return 0;
}

/* Runs where a process has read from the socket, and where the kernel itself has, for kTLS and the like. */
SEC("tp_btf/tcp_rcv_space_adjust")
int BPF_PROG(find_owner, struct sock *sk) {
    find_user(key_of(sk), sk);
    return 0;
}

/*
 * A session that the network closed while nobody had used it: its socket goes when the process closes it that
 * has accepted it, or the one that listens.
 */
SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(on_destroy, struct sock *sk) {
    struct session *session;
    struct owner owner = {};
    u64 key;

    if (!held_sessions)
        return 0;
    key = key_of(sk);
    session = bpf_map_lookup_elem(&sessions, &key);
    if (!session || !session->ended)
        return 0;
    if (is_kernel_thread(current_task()))
        owner = session->owner;
    else
        set_current_owner(&owner);
    end_session(session, &owner);
    return 0;
}

/* What comes in for an orphan closes it first and is answered with a RST then. */
SEC("tp_btf/tcp_send_reset")
int BPF_PROG(on_reset_sent, struct sock *sk) {
    struct reset_sent *event;

    /* None of a closed port; or one that stands for a handshake or for TIME_WAIT, with a state of its own. */
    if (!sk || sk->__sk_common.skc_state != TCP_CLOSE || !is_orphan(sk))
        return 0;
    event = reserve_event(METRIC_TCPLIFE, struct reset_sent);
    if (event) {
        event->key = key_of(sk);
        submit_event(event);
    }
    return 0;
}

#include "iterators.h"
