/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The ring of TLS secrets, alone in it: what its reader has read stays there until it is written over, and the reader
 * cannot do that, whose mapping is read-only. So the reader has zeros written after them, once around the ring:
 * wipe_secrets of capture.bpf.c.
 */
#ifndef WIRESPAN_SECRET_RING_H
#define WIRESPAN_SECRET_RING_H

#include <linux/types.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define SECRET_RING_BYTES (512 * 1024)

/* The object with the probes replaces its own by the capture's when it is loaded. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, SECRET_RING_BYTES);
} secret_ring SEC(".maps");

#endif
