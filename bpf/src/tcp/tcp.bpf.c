/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* TCP sessions from their opening to their end (tcplife). */

enum metric { METRIC_TCPLIFE };
#include "kumon.h"
#include "socket.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct file;
struct socket {
    struct sock *sk;
};
struct bpf_iter__task_file {
    struct task_struct *task;
    struct file *file;
};
#pragma clang attribute pop

/* Whether tracing programs may ask for socket cookies, since Linux 5.12; set before loading. */
const volatile bool socket_cookies = true;

EVENTS(2 * 1024 * 1024);

enum direction { DIRECTION_EGRESS, DIRECTION_INGRESS };

/* How a session ended; the last three are those of a connect that led to none, too. */
enum end { END_CLOSED, END_RESET, END_RESET_BY_PEER, END_REFUSED, END_TIMED_OUT, END_FAILED };

/* A process that a socket belongs to. */
struct owner {
    u64 start;
    u64 cgroup;
    u32 pid; /* 0 while it isn't known */
    u32 uid;
    u32 selected; /* by the filter */
    u32 padding;
    char name[TASK_COMM_LEN];
};

/* A session in the making, and when it ends the event. */
struct session {
    u64 key;
    /*
     * CLOCK_BOOTTIME, ns: when connect was called, the handshake of an accepted one was over, or a standing
     * one was found.
     */
    u64 opened;
    u64 ended;
    u64 bytes_sent;     /* payload that the peer acknowledged */
    u64 bytes_received; /* payload */
    struct owner owner;
    enum direction direction;
    enum end end;
    u32 error; /* errno that the process is told */
    u32 established;
    u32 standing;
    u32 may_reset; /* a reset_sent may follow */
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

/* Where a socket listens. */
struct listening {
    u32 network_namespace;
    u32 port;
};

struct listener {
    u64 socket; /* as key_of() gives it */
    struct owner owner;
};

/*
 * Who listens: the owner of the accepted sessions that nobody has touched before they ended. User space sets
 * the size.
 */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 16384);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, struct listening);
    __type(value, struct listener);
} listeners SEC(".maps");

/* Where there are no cookies it is the address; what it still says of a former socket is then overwritten. */
static __always_inline u64 key_of(struct sock *sk) {
    return socket_cookies ? bpf_get_socket_cookie(sk) : (u64)sk;
}

static __always_inline void set_owner(struct owner *owner, struct task_struct *task) {
    struct task_struct *leader = BPF_CORE_READ(task, group_leader);

    owner->pid = BPF_CORE_READ(task, tgid);
    owner->uid = BPF_CORE_READ(task, cred, uid.val);
    owner->start = BPF_CORE_READ(leader, start_boottime);
    owner->cgroup = cgroup_id_of(task);
    owner->selected = selected(METRIC_TCPLIFE, task);
    BPF_CORE_READ_STR_INTO(&owner->name, leader, comm);
}

static __always_inline void set_current_owner(struct owner *owner) {
    set_owner(owner, (struct task_struct *)bpf_get_current_task());
}

static __always_inline void add_session(struct session *session) {
    if (bpf_map_update_elem(&sessions, &session->key, session, BPF_ANY))
        lost(METRIC_TCPLIFE, LOSS_MAP_FULL);
}

static __always_inline void on_connect(u64 key) {
    struct session session = {.key = key, .opened = bpf_ktime_get_boot_ns(), .direction = DIRECTION_EGRESS};

    set_current_owner(&session.owner);
    add_session(&session);
}

static __always_inline void on_established(u64 key, const struct sock *sk, int from) {
    struct session *known = bpf_map_lookup_elem(&sessions, &key);
    struct session accepted = {.key = key, .established = 1, .direction = DIRECTION_INGRESS};

    if (known && !known->established) {
        known->established = 1;
        set_endpoints(&known->local, &known->remote, sk);
        return;
    }
    /* Its connect found no room and is counted. */
    if (from == TCP_SYN_SENT)
        return;
    /* Whoever runs here in the soft interrupt is not the owner, see find_owner. */
    accepted.opened = bpf_ktime_get_boot_ns();
    set_endpoints(&accepted.local, &accepted.remote, sk);
    add_session(&accepted);
}

static __always_inline struct listening listening(const struct sock *sk) {
    const struct inet_sock *inet = (const struct inet_sock *)sk;
    struct listening listening = {
        .network_namespace = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum),
        .port = __builtin_bswap16(BPF_CORE_READ(inet, inet_sport)),
    };

    return listening;
}

/* One that finds no room is counted: sessions may lack their owner, and a filter leaves these out. */
static __always_inline void add_listener(u64 key, const struct sock *sk, struct task_struct *task) {
    struct listening where = listening(sk);
    struct listener listener = {.socket = key};

    set_owner(&listener.owner, task);
    if (bpf_map_update_elem(&listeners, &where, &listener, BPF_ANY))
        lost(METRIC_TCPLIFE, LOSS_MAP_FULL);
}

/* Another socket may listen on the port since, with SO_REUSEPORT or another address. */
static __always_inline void drop_listener(u64 key, const struct sock *sk) {
    struct listening where = listening(sk);
    struct listener *listener = bpf_map_lookup_elem(&listeners, &where);

    if (listener && listener->socket == key)
        bpf_map_delete_elem(&listeners, &where);
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

static __always_inline void find_listener(struct session *session, const struct sock *sk) {
    struct listening where = listening(sk);
    struct listener *listener = bpf_map_lookup_elem(&listeners, &where);

    if (listener)
        session->owner = listener->owner;
}

static __always_inline bool is_wanted(const struct owner *owner) {
    if (shared.metrics[METRIC_TCPLIFE].filters && !owner->selected)
        return false;
    return !is_self(owner->pid) && sampled(METRIC_TCPLIFE);
}

static __always_inline void send_session(const struct session *session, const struct sock *sk, int from) {
    struct session *event = reserve_event(METRIC_TCPLIFE, struct session);

    if (!event)
        return;
    __builtin_memcpy(event, session, sizeof(*event));
    event->ended = bpf_ktime_get_boot_ns();
    event->error = BPF_CORE_READ(sk, sk_err);
    event->end = end_of(event->established, from, event->error);
    event->may_reset = (from == TCP_FIN_WAIT1 || from == TCP_FIN_WAIT2) && is_orphan(sk);
    read_payload(sk, event->direction == DIRECTION_EGRESS, &event->bytes_sent, &event->bytes_received);
    /* Before, the local port isn't chosen. */
    if (!event->established)
        set_endpoints(&event->local, &event->remote, sk);
    submit_event(event);
}

static __always_inline void on_close(u64 key, const struct sock *sk, int from) {
    struct session *session = bpf_map_lookup_elem(&sessions, &key);

    if (!session)
        return;
    if (!session->owner.pid)
        find_listener(session, sk);
    if (is_wanted(&session->owner))
        send_session(session, sk, from);
    bpf_map_delete_elem(&sessions, &key);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(on_state, struct sock *sk, int from, int to) {
    struct session *session;
    u64 key;

    if (!is_tcp(sk))
        return 0;
    key = key_of(sk);
    switch (to) {
    case TCP_SYN_SENT:
        /* In the process that calls connect. */
        on_connect(key);
        break;
    case TCP_LISTEN:
        add_listener(key, sk, (struct task_struct *)bpf_get_current_task());
        break;
    case TCP_ESTABLISHED:
        on_established(key, sk, from);
        break;
    case TCP_FIN_WAIT1:
    case TCP_LAST_ACK:
        /*
         * In the process that closes: the last chance to learn who owns an accepted socket that was never
         * read.
         */
        session = bpf_map_lookup_elem(&sessions, &key);
        if (session && !session->owner.pid)
            set_current_owner(&session->owner);
        break;
    case TCP_CLOSE:
        if (from == TCP_LISTEN)
            drop_listener(key, sk);
        else
            on_close(key, sk, from);
        break;
    }
    return 0;
}

/* Runs where a process has read from the socket: the first to read from an accepted one is its owner. */
SEC("tp_btf/tcp_rcv_space_adjust")
int BPF_PROG(find_owner, struct sock *sk) {
    u64 key = key_of(sk);
    struct session *session = bpf_map_lookup_elem(&sessions, &key);

    if (session && !session->owner.pid)
        set_current_owner(&session->owner);
    return 0;
}

/* What comes in for an orphan closes it first and is answered with a RST then. */
SEC("tp_btf/tcp_send_reset")
int BPF_PROG(on_reset_sent, struct sock *sk) {
    struct reset_sent *event;

    /* None of a closed port; or one that stands for a handshake or for TIME_WAIT, with a state of its own. */
    if (!sk || BPF_CORE_READ(sk, __sk_common.skc_state) != TCP_CLOSE || !is_orphan(sk))
        return 0;
    event = reserve_event(METRIC_TCPLIFE, struct reset_sent);
    if (event) {
        event->key = key_of(sk);
        submit_event(event);
    }
    return 0;
}

/*
 * Finds the sessions that stand, in all network namespaces, with a process that holds them, and who listens.
 * Runs once, after the other programs are attached: what they know is newer.
 */
SEC("iter/task_file")
int find_standing(struct bpf_iter__task_file *ctx) {
    struct task_struct *task = ctx->task;
    struct file *file = ctx->file;
    struct session session = {.standing = 1};
    struct socket *socket;
    struct sock *sk;
    u8 state;

    if (!task || !file)
        return 0;
    socket = bpf_sock_from_file(file);
    if (!socket)
        return 0;
    sk = socket->sk;
    if (!sk || !is_tcp(sk))
        return 0;
    state = BPF_CORE_READ(sk, __sk_common.skc_state);
    if (state == TCP_LISTEN) {
        add_listener(key_of(sk), sk, task);
        return 0;
    }
    if (state != TCP_ESTABLISHED && state != TCP_SYN_SENT && state != TCP_CLOSE_WAIT &&
        state != TCP_FIN_WAIT1 && state != TCP_FIN_WAIT2)
        return 0;
    session.established = state != TCP_SYN_SENT;
    session.key = key_of(sk);
    session.opened = bpf_ktime_get_boot_ns();
    /* An accepted socket has inherited the backlog of the one that listens. */
    session.direction = BPF_CORE_READ(sk, sk_max_ack_backlog) ? DIRECTION_INGRESS : DIRECTION_EGRESS;
    set_owner(&session.owner, task);
    set_endpoints(&session.local, &session.remote, sk);
    if (bpf_map_update_elem(&sessions, &session.key, &session, BPF_NOEXIST)) {
        /* Known already: another process holds it too, or it was opened since. */
        if (!bpf_map_lookup_elem(&sessions, &session.key))
            lost(METRIC_TCPLIFE, LOSS_MAP_FULL);
        return 0;
    }
    /* It may have ended meanwhile, unseen. The kernel unhashes a socket before it tells that it is closed. */
    if (!BPF_CORE_READ(sk, __sk_common.skc_node.pprev))
        bpf_map_delete_elem(&sessions, &session.key);
    return 0;
}
