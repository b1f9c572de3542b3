// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * Latencies of block I/O per disk and operation (biolatency) and its sizes per process (bitesize). A request
 * is looked at when the driver gets it and when it completes. Whose it is shows when it is put into a queue:
 * what waits there is issued by a worker of the kernel, or in the interrupt that completes another one. A
 * request that the driver gives back is issued again, and is still the same one.
 */
enum metric { METRIC_BIOLATENCY, METRIC_BITESIZE, METRICS };
#include "kumon.h"
#include "histogram.h"
#include "interval.h"

#define DISK_NAME_LEN  32
#define REQ_OP_MASK    0xff
#define REQ_OP_DISCARD 3
/* REQ_OP_READ, _WRITE, _FLUSH and _DISCARD are 0 to 3 in every kernel; the numbers of the others moved. */
#define OPERATION_OTHER 4

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct gendisk {
    int major;
    int first_minor;
    char disk_name[DISK_NAME_LEN];
};

struct request_queue {
    struct gendisk *disk;
};

enum mq_rq_state { MQ_RQ_IDLE };

struct request {
    struct request_queue *q;
    unsigned int cmd_flags;
    unsigned int __data_len;
    enum mq_rq_state state;
};

/* Before 5.17. */
struct request___rq_disk {
    struct gendisk *rq_disk;
};

struct task_struct___exec {
    unsigned int in_execve : 1;
};

#pragma clang attribute pop

/* Operations without data, whose length is that of what they are about; the enum has two names. */
enum req_op {
    REQ_OP_SECURE_ERASE,
    REQ_OP_WRITE_ZEROES,
};
/* Before 6.0. */
enum req_opf {
    REQ_OP_SECURE_ERASE___before,
    REQ_OP_WRITE_ZEROES___before,
    REQ_OP_WRITE_SAME___before,
};

/* Set before loading; the verifier drops what they switch off. */
const volatile bool with_biolatency = false;
const volatile bool latencies_per_cgroup = false;
const volatile bool with_bitesize = false;
/* Before 5.11 block_rq_issue's first argument was the request queue. */
const volatile bool queue_comes_first = false;

struct disk_key {
    u32 major;
    u32 minor;
    u32 operation;
    /* Tells every key from other_key, operation 0 of a request without disk included. */
    u32 is_key;
    /* The issuer's cgroup v2, by the inode of its folder; 0 where latencies are not told per cgroup. */
    u64 cgroup;
};

struct disk_latency {
    char name[DISK_NAME_LEN];
    struct histogram histogram;
};
EXPORT_TYPE(disk_latency);

/*
 * A process under the name that it had. What is read in execve belongs to the program that is about to run,
 * whose name comes later: then the key has none, and the value gets it.
 */
struct process_key {
    /* CLOCK_BOOTTIME, ns. */
    u64 start;
    u32 pid;
    u32 is_key;
    char name[TASK_COMM_LEN];
};

struct process_sizes {
    char name[TASK_COMM_LEN];
    u64 cgroup;
    struct histogram histogram;
};
EXPORT_TYPE(process_sizes);

/* Whose a request is, and which metrics tell of it. */
struct issuer {
    struct process_key process;
    u64 cgroup;
    char name[TASK_COMM_LEN];
    /* Not bool: before 6.3 the verifier takes no padding from the stack, it isn't initialized. */
    u32 selected[METRICS];
    /* It was issued before and given back, with so many bytes left; others may have joined it since. */
    u32 requeued;
    u32 told_bytes;
};

struct in_flight {
    /* CLOCK_MONOTONIC, ns. */
    u64 issued;
    struct disk_key disk;
    struct issuer issuer;
};

/*
 * Requests that wait to be issued. One that finds no room is told as that of whoever issues it, which is
 * counted. User space sets the size, as that of in_flight.
 */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 16384);
    /* The request's address. */
    __type(key, u64);
    __type(value, struct issuer);
} queued SEC(".maps");

/* Requests on their way. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 16384);
    __type(key, struct request *);
    __type(value, struct in_flight);
} in_flight SEC(".maps");

INTERVAL_MAPS(latencies, BPF_MAP_TYPE_HASH, BPF_F_NO_PREALLOC, struct disk_key, struct disk_latency);
INTERVAL_MAPS(sizes, BPF_MAP_TYPE_HASH, BPF_F_NO_PREALLOC, struct process_key, struct process_sizes);

static const struct disk_latency no_latencies;
static const struct process_sizes no_sizes;

static __always_inline struct gendisk *disk_of(struct request *request) {
    struct request___rq_disk *before = (void *)request;

    if (bpf_core_field_exists(before->rq_disk))
        return BPF_CORE_READ(before, rq_disk);
    return BPF_CORE_READ(request, q, disk);
}

static __always_inline void begin(struct request *request, const struct issuer *issuer) {
    struct gendisk *disk = disk_of(request);
    u32 operation = request->cmd_flags & REQ_OP_MASK;
    struct in_flight start = {.disk.is_key = 1, .issuer = *issuer};

    if (disk) {
        start.disk.major = BPF_CORE_READ(disk, major);
        start.disk.minor = BPF_CORE_READ(disk, first_minor);
    }
    if (latencies_per_cgroup)
        start.disk.cgroup = issuer->cgroup;
    start.disk.operation = operation < OPERATION_OTHER ? operation : OPERATION_OTHER;
    start.issued = bpf_ktime_get_ns();
    /* A request that the driver gave back begins anew when it is issued again. */
    if (bpf_map_update_elem(&in_flight, &request, &start, BPF_ANY) && issuer->selected[METRIC_BIOLATENCY])
        lost(METRIC_BIOLATENCY, LOSS_MAP_FULL);
}

static __always_inline void end(struct request *request) {
    struct in_flight *found = bpf_map_lookup_elem(&in_flight, &request);
    struct disk_latency *entry = NULL;
    struct disk_key key;
    struct gendisk *disk;
    bool told;
    void *map;
    u64 latency;

    if (!found)
        return;
    latency = bpf_ktime_get_ns() - found->issued;
    key = found->disk;
    told = found->issuer.selected[METRIC_BIOLATENCY];
    bpf_map_delete_elem(&in_flight, &request);
    if (!with_biolatency || !told)
        return;

    map = current_map(&latencies);
    if (map)
        entry = value_of(map, &key, &no_latencies);
    if (!entry) {
        lost(METRIC_BIOLATENCY, LOSS_MAP_FULL);
        return;
    }
    disk = disk_of(request);
    if (!entry->name[0] && disk)
        BPF_CORE_READ_INTO(&entry->name, disk, disk_name);
    /* The clocks of two CPUs may differ a little. */
    histogram_add(&entry->histogram, (s64)latency < 0 ? 0 : latency, 1, LATENCY_UNIT);
}

static __always_inline void add_size(u32 bytes, const struct issuer *issuer) {
    struct process_sizes *entry = NULL;
    void *map;

    map = current_map(&sizes);
    if (map)
        entry = value_of(map, &issuer->process, &no_sizes);
    if (!entry) {
        lost(METRIC_BITESIZE, LOSS_MAP_FULL);
        return;
    }
    if (!entry->name[0]) {
        __builtin_memcpy(entry->name, issuer->name, sizeof(entry->name));
        entry->cgroup = issuer->cgroup;
    }
    histogram_add(&entry->histogram, bytes, 1, SIZE_UNIT);
}

/* The request that a tracepoint is about. */
static __always_inline struct request *request_of(u64 *ctx) {
    return queue_comes_first ? (void *)ctx[1] : (void *)ctx[0];
}

static __always_inline bool has_data(struct request *request) {
    u32 operation = request->cmd_flags & REQ_OP_MASK;

    if (!request->__data_len || operation == REQ_OP_DISCARD)
        return false;
    if (bpf_core_enum_value_exists(enum req_op, REQ_OP_WRITE_ZEROES))
        return operation != bpf_core_enum_value(enum req_op, REQ_OP_WRITE_ZEROES) &&
               operation != bpf_core_enum_value(enum req_op, REQ_OP_SECURE_ERASE);
    if (operation == bpf_core_enum_value(enum req_opf, REQ_OP_WRITE_ZEROES___before) ||
        operation == bpf_core_enum_value(enum req_opf, REQ_OP_SECURE_ERASE___before))
        return false;
    /* Until 5.18. */
    return !bpf_core_enum_value_exists(enum req_opf, REQ_OP_WRITE_SAME___before) ||
           operation != bpf_core_enum_value(enum req_opf, REQ_OP_WRITE_SAME___before);
}

static __always_inline bool is_in_execve(struct task_struct *task) {
    struct task_struct___exec *member = (void *)task;

    return bpf_core_field_exists(member->in_execve) && BPF_CORE_READ_BITFIELD_PROBED(member, in_execve);
}

/* Who runs, as the issuer of a request. */
static __always_inline void identify(struct issuer *issuer, struct request *request) {
    struct task_struct *task = (void *)bpf_get_current_task();
    u32 pid = bpf_get_current_pid_tgid() >> 32;

    if (is_self(pid))
        return;
    issuer->selected[METRIC_BIOLATENCY] = with_biolatency && selected(METRIC_BIOLATENCY, task);
    issuer->selected[METRIC_BITESIZE] = with_bitesize && has_data(request) && selected(METRIC_BITESIZE, task);
    issuer->process.start = process_start(task);
    issuer->process.pid = pid;
    issuer->process.is_key = 1;
    issuer->cgroup = bpf_get_current_cgroup_id();
    BPF_CORE_READ_STR_INTO(&issuer->name, task, group_leader, comm);
    if (!is_in_execve(task))
        __builtin_memcpy(issuer->process.name, issuer->name, sizeof(issuer->name));
}

/* Keeps whose a request is that waits. */
static __always_inline void keep_issuer(struct request *request) {
    bool asks_for_issuer = latencies_per_cgroup || shared.metrics[METRIC_BIOLATENCY].filters;
    u64 key = (u64)request;
    struct issuer issuer = {};

    identify(&issuer, request);
    if (!bpf_map_update_elem(&queued, &key, &issuer, BPF_ANY))
        return;
    if (issuer.selected[METRIC_BITESIZE])
        lost(METRIC_BITESIZE, LOSS_MAP_FULL);
    else if (issuer.selected[METRIC_BIOLATENCY] && asks_for_issuer)
        lost(METRIC_BIOLATENCY, LOSS_MAP_FULL);
}

SEC("tp_btf/block_rq_insert")
int insert(u64 *ctx) {
    u64 key = (u64)request_of(ctx);
    struct issuer *known = bpf_map_lookup_elem(&queued, &key);

    if (!known || !known->requeued)
        keep_issuer(request_of(ctx));
    return 0;
}

/* A request that waits goes up in another one. */
SEC("tp_btf/block_rq_merge")
int merge(u64 *ctx) {
    u64 key = (u64)request_of(ctx);

    bpf_map_delete_elem(&queued, &key);
    return 0;
}

SEC("tp_btf/block_rq_issue")
int issue(u64 *ctx) {
    struct request *request = request_of(ctx);
    /* Before 6.2 the verifier takes a pointer for a number once a helper has read it from the stack. */
    u64 key = (u64)request;
    struct issuer *waited = bpf_map_lookup_elem(&queued, &key);
    struct issuer issuer = {};
    u32 bytes;

    if (waited) {
        issuer = *waited;
        bpf_map_delete_elem(&queued, &key);
    } else {
        identify(&issuer, request);
    }
    /* Not before: what is inserted may become part of another request. */
    for (u32 metric = 0; metric < METRICS && !issuer.requeued; metric++)
        issuer.selected[metric] = issuer.selected[metric] && sampled(metric);
    bytes = request->__data_len;
    bytes -= issuer.told_bytes < bytes ? issuer.told_bytes : bytes;
    if (issuer.selected[METRIC_BITESIZE] && bytes)
        add_size(bytes, &issuer);
    if (issuer.selected[METRIC_BIOLATENCY] || issuer.selected[METRIC_BITESIZE])
        begin(request, &issuer);
    return 0;
}

/* The driver gives a request back, or had no room for it. */
SEC("tp_btf/block_rq_requeue")
int requeue(u64 *ctx) {
    struct request *request = request_of(ctx);
    struct in_flight *found;
    struct issuer issuer = {};
    /* As in issue(). */
    u64 key = (u64)request;
    u32 bytes = request->__data_len;

    /* It wasn't issued yet. */
    if (request->state == MQ_RQ_IDLE) {
        if (!bpf_map_lookup_elem(&queued, &key))
            keep_issuer(request);
        return 0;
    }
    found = bpf_map_lookup_elem(&in_flight, &key);
    if (found)
        issuer = found->issuer;
    issuer.requeued = 1;
    issuer.told_bytes = bytes;
    if (bpf_map_update_elem(&queued, &key, &issuer, BPF_ANY))
        lost(with_bitesize ? METRIC_BITESIZE : METRIC_BIOLATENCY, LOSS_MAP_FULL);
    return 0;
}

SEC("tp_btf/block_rq_complete")
int BPF_PROG(complete, struct request *request, int error, unsigned int bytes) {
    u64 key = (u64)request;

    /* It may have been given up while it waited. */
    if (error)
        bpf_map_delete_elem(&queued, &key);
    /* A driver may complete a request in parts: the last one ends it. */
    if (bytes >= request->__data_len)
        end(request);
    return 0;
}

/* Names what the process has read in execve, in this interval. */
SEC("tp_btf/sched_process_exec")
int BPF_PROG(executed, struct task_struct *task) {
    struct process_key key = {.start = process_start(task), .pid = task->tgid, .is_key = 1};
    struct process_sizes *read = NULL;
    void *map;

    map = current_map(&sizes);
    if (map)
        read = bpf_map_lookup_elem(map, &key);
    if (read)
        BPF_CORE_READ_STR_INTO(&read->name, task, comm);
    return 0;
}
