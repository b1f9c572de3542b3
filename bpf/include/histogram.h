/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Log-linear histograms: eight buckets for each power of two, so that a bucket is at most an eighth as wide
 * as its values are large, and each power of two is the sum of whole buckets. A bucket knows the sum of its
 * values too: its mean stands for its values when percentiles are computed, exact where they are all equal.
 *
 * Values are counted in units. The unit of latencies is 125 ns, so that powers of two of microseconds, which
 * runqlat and biolatency of libbpf-tools count in, are bounds of buckets; the unit of sizes is a sector.
 */
#ifndef KUMON_HISTOGRAM_H
#define KUMON_HISTOGRAM_H

#include "kumon.h"
#include "lock.h"

#define LATENCY_UNIT 125
#define SIZE_UNIT    512

/* Up to here every unit has its own bucket; src/histogram.rs knows the same layout. */
#define HISTOGRAM_LINEAR   16
#define HISTOGRAM_MAX_LOG2 28
#define HISTOGRAM_BUCKETS  (HISTOGRAM_LINEAR + (HISTOGRAM_MAX_LOG2 - 3) * 8)

struct bucket {
    u64 count;
    u64 sum;
};

/* All zeros is an empty histogram. */
struct histogram {
    u64 max;
    /* ~min, so that it grows like max and begins at 0. */
    u64 inverse_min;
    struct bucket buckets[HISTOGRAM_BUCKETS];
};

static __always_inline u32 floor_log2(u32 value) {
    u32 log2 = 0;

    if (value >> 16) {
        value >>= 16;
        log2 += 16;
    }
    if (value >> 8) {
        value >>= 8;
        log2 += 8;
    }
    if (value >> 4) {
        value >>= 4;
        log2 += 4;
    }
    if (value >> 2) {
        value >>= 2;
        log2 += 2;
    }
    return log2 + (value >> 1);
}

static __always_inline u32 bucket_of(u64 units) {
    u32 log2;

    if (units < HISTOGRAM_LINEAR)
        return units;
    if (units >> (HISTOGRAM_MAX_LOG2 + 1))
        return HISTOGRAM_BUCKETS - 1;
    log2 = floor_log2(units);
    return HISTOGRAM_LINEAR + (log2 - 4) * 8 + ((units >> (log2 - 3)) & 7);
}

/* How often a lock is tried that another CPU holds for some 100 ns. */
#define LOCK_TRIES 8

/*
 * Raises an extreme that other CPUs may be raising too, which happens a few times in an interval. Gives up
 * where the lock can't be had, as that of a virtual CPU that doesn't run: src/histogram.rs knows.
 */
static __always_inline void raise_to(u64 *extreme, u64 value) {
    for (int tries = 0; tries < LOCK_TRIES; tries++) {
        if (value <= *(volatile u64 *)extreme)
            return;
        if (!try_lock(extreme))
            continue;
        if (value > *(volatile u64 *)extreme)
            *(volatile u64 *)extreme = value;
        unlock(extreme);
        return;
    }
}

/* Where a value counts. */
static __always_inline struct bucket *bucket_for(struct histogram *histogram, u64 value, u32 unit) {
    u32 index = bucket_of(value / unit);

    /* The compiler knows that it never is; the verifier doesn't and has to see the comparison. */
    barrier_var(index);
    if (index >= HISTOGRAM_BUCKETS)
        return NULL;
    return &histogram->buckets[index];
}

/* Adds a value, so many times, to a histogram that all CPUs share. */
static __always_inline void histogram_add(struct histogram *histogram, u64 value, u64 times, u32 unit) {
    struct bucket *bucket = bucket_for(histogram, value, unit);

    if (!bucket)
        return;
    __sync_fetch_and_add(&bucket->count, times);
    __sync_fetch_and_add(&bucket->sum, value * times);
    raise_to(&histogram->max, value);
    raise_to(&histogram->inverse_min, ~value);
}

/* Adds to a histogram of this CPU, in a program that nothing interrupts which adds to it too. */
static __always_inline void histogram_add_alone(struct histogram *histogram, u64 value, u64 times, u32 unit) {
    struct bucket *bucket = bucket_for(histogram, value, unit);

    if (!bucket)
        return;
    bucket->count += times;
    bucket->sum += value * times;
    if (value > histogram->max)
        histogram->max = value;
    if (~value > histogram->inverse_min)
        histogram->inverse_min = ~value;
}

#endif
