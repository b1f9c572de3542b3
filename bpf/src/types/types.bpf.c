// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * The types of include/ that user space reads and writes in every object alike. Nothing of it is loaded: its
 * BTF is what their Rust twins are made from.
 */
#include "kumon.h"
#include "budget.h"
#include "histogram.h"

EXPORT_TYPE(histogram);
