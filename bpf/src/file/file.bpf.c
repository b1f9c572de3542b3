/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * File names that appear and go: creations for filelife, deletions and renames for filelife and filegone.
 * User space loads the programs of one rung, the best that the kernel has.
 */

enum metric { METRIC_FILELIFE, METRIC_FILEGONE };
#include "functions.h"
#include "system_calls.h"
#include "uring.h"
