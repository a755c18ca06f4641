/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What could not be captured, counted by reason. */
#ifndef WIRESPAN_LOSSES_H
#define WIRESPAN_LOSSES_H

#include "kernel_types.h"
#include <bpf/bpf_helpers.h>
#include "socket_state.h"

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, LOSS_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} losses SEC(".maps");

static __always_inline void count_loss(__u32 reason)
{
	__u64 *counter = bpf_map_lookup_elem(&losses, &reason);

	/*
	 * Atomic although it is this processor's: a packet's program may be preempted by another's between reading and
	 * writing.
	 */
	if (counter)
		__sync_fetch_and_add(counter, 1);
}

#endif
