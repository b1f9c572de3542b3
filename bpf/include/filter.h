/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Which processes a metric is about: its filter and its sample, as the configuration has them. A part of
 * kumon.h. A collector asks
 *
 *	if (!wanted(METRIC_EXEC, task))
 *		return 0;
 *
 * once it knows that the event would be told. Where neither is configured the verifier drops the question,
 * because what it reads are constants. src/selection.rs is the other half.
 */
#ifndef KUMON_FILTER_H
#define KUMON_FILTER_H

/* Bits of selection.filters. */
enum filter_kind {
    FILTER_PID = 1,
    FILTER_COMM = 2,
    FILTER_CGROUP = 4,
    FILTER_UID = 8,
    /* Ids of all cgroups whose names were asked for: those below them are among the values themselves. */
    FILTER_NAMES = 16,
};

/* A value that lets a process through. */
struct filter_key {
    u32 metric;
    enum filter_kind kind;
    /* A number, or a name of TASK_COMM_LEN bytes padded with zeros. */
    u64 value[2];
};
EXPORT_TYPE(filter_key);

/* User space sets the size. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 1);
    __type(key, struct filter_key);
    __type(value, u8);
} filter_values SEC(".maps");

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct kernfs_node {
    u64 id;
};

struct cgroup {
    int level;
    struct kernfs_node *kn;
};

/* Since 6.1 a cgroup knows its ancestors, before it knew their ids; the own one is the last. */
struct cgroup___ancestors {
    struct cgroup *ancestors[0];
};
struct cgroup___ancestor_ids {
    u64 ancestor_ids[0];
};

struct css_set {
    struct cgroup *dfl_cgrp;
};

struct task_struct___cgroups {
    struct css_set *cgroups;
};

#pragma clang attribute pop

/* Deeper cgroups are known by themselves and by their topmost ancestors. */
#define MAX_CGROUP_LEVEL 16

static __always_inline struct cgroup *cgroup_of(struct task_struct *task) {
    return BPF_CORE_READ((struct task_struct___cgroups *)task, cgroups, dfl_cgrp);
}

/* The inode of the folder of a cgroup v2, as bpf_get_current_cgroup_id() gives it. */
static __always_inline u64 cgroup_id(struct cgroup *cgroup) {
    return BPF_CORE_READ(cgroup, kn, id);
}

static __always_inline u64 cgroup_id_of(struct task_struct *task) {
    return cgroup_id(cgroup_of(task));
}

static __always_inline bool has_value(u32 metric, enum filter_kind kind, u64 first, u64 second) {
    struct filter_key key = {.metric = metric, .kind = kind, .value = {first, second}};

    return bpf_map_lookup_elem(&filter_values, &key) != NULL;
}

static __always_inline u64 ancestor_id(struct cgroup *cgroup, u32 level) {
    struct cgroup___ancestor_ids *before = (void *)cgroup;
    struct cgroup___ancestors *now = (void *)cgroup;
    struct cgroup *ancestor = NULL;
    u64 id = 0;

    if (bpf_core_field_exists(now->ancestors)) {
        bpf_probe_read_kernel(&ancestor, sizeof(ancestor),
                              (void *)cgroup + bpf_core_field_offset(now->ancestors) +
                                  level * sizeof(ancestor));
        return BPF_CORE_READ(ancestor, kn, id);
    }
    bpf_probe_read_kernel(&id, sizeof(id),
                          (void *)cgroup + bpf_core_field_offset(before->ancestor_ids) + level * sizeof(id));
    return id;
}

/* Whether a cgroup is one of the values or below one. The root cgroup is level 0. */
static __always_inline bool is_in_cgroup(u32 metric, struct cgroup *cgroup) {
    u32 own = BPF_CORE_READ(cgroup, level);

    if (has_value(metric, FILTER_CGROUP, cgroup_id(cgroup), 0))
        return true;
    for (u32 level = 0; level < MAX_CGROUP_LEVEL; level++) {
        if (level >= own)
            break;
        if (has_value(metric, FILTER_CGROUP, ancestor_id(cgroup, level), 0))
            return true;
    }
    return false;
}

static __always_inline bool has_name(u32 metric, struct task_struct *task) {
    union {
        char text[TASK_COMM_LEN];
        u64 words[2];
    } name = {};

    BPF_CORE_READ_STR_INTO(&name.text, task, group_leader, comm);
    return has_value(metric, FILTER_COMM, name.words[0], name.words[1]);
}

/* Whether the metric's filter lets the task's process through: it meets every kind that is given. */
static __always_inline bool selected(u32 metric, struct task_struct *task) {
    u32 kinds = shared.metrics[metric].filters;

    if (!kinds)
        return true;
    if (kinds & FILTER_PID && !has_value(metric, FILTER_PID, BPF_CORE_READ(task, tgid), 0))
        return false;
    if (kinds & FILTER_UID && !has_value(metric, FILTER_UID, BPF_CORE_READ(task, cred, uid.val), 0))
        return false;
    if (kinds & FILTER_COMM && !has_name(metric, task))
        return false;
    if (kinds & FILTER_NAMES && !has_value(metric, FILTER_NAMES, cgroup_id_of(task), 0))
        return false;
    return !(kinds & FILTER_CGROUP) || is_in_cgroup(metric, cgroup_of(task));
}

/* Whether the filter lets through what belongs to a cgroup and to no process. */
static __always_inline __attribute__((unused)) bool selects_cgroup(u32 metric, struct cgroup *cgroup) {
    u32 kinds = shared.metrics[metric].filters;

    if (!kinds)
        return true;
    if (!cgroup)
        return false;
    if (kinds & FILTER_NAMES && !has_value(metric, FILTER_NAMES, cgroup_id(cgroup), 0))
        return false;
    return !(kinds & FILTER_CGROUP) || is_in_cgroup(metric, cgroup);
}

/* One in `sample` is taken, by chance, so that nothing regular is favoured; what is left out is counted. */
static __always_inline bool sampled(u32 metric) {
    u32 sample = shared.metrics[metric].sample;

    if (sample <= 1 || bpf_get_prandom_u32() % sample == 0)
        return true;
    lost(metric, LOSS_SAMPLED_OUT);
    return false;
}

static __always_inline bool wanted(u32 metric, struct task_struct *task) {
    return selected(metric, task) && sampled(metric);
}

#endif
