/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The rings to user space, and when to wake their reader.
 *
 * The reader looks at both rings every few milliseconds while there is traffic, and otherwise sleeps until one of them
 * wakes it. It reads up to where the producers were when it began, so it has caught up with them once per round at
 * most, and the kernel's own rule (wake when the reader had caught up) costs one wake-up per round however fast records
 * come.
 * - packet_ring: flags 0, that rule.
 * - control_ring, and secret_ring of secret_ring.h: BPF_RB_NO_WAKEUP for what packets follow anyway (sockets, TLS
 *   secrets); BPF_RB_FORCE_WAKEUP for what cannot wait even a few milliseconds (a new process, which may end at once).
 */
#ifndef WIRESPAN_RING_H
#define WIRESPAN_RING_H

/* Sockets and processes. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1024 * 1024);
} control_ring SEC(".maps");

#endif
