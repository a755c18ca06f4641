/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What the programs of all providers of TLS secrets share: src/secrets/NAME/NAME.bpf.c includes it, and is an object of
 * its own with one or more programs in sections "uprobe".
 *
 * The addon sets the constants, replaces secret_ring by the capture's, and reads secret_losses. On kernels that have
 * them the programs get attach cookies: the probed file's number in the lower 32 bits, the place's parameter above.
 *
 * No function of a provider has a frame above 48 bytes; the build and a test say so. A uprobe program may be preempted by
 * another task that runs it, and since 6.13 the kernel puts frames of 64 bytes and more, rounded up to 16, on a stack
 * of the processor's, which both would share (bpf_enable_priv_stack of kernel/bpf/verifier.c). What is spilled there
 * may be a kernel pointer. Maps by processor have the same fault.
 */
#ifndef WIRESPAN_SECRET_PROBE_H
#define WIRESPAN_SECRET_PROBE_H

#include <linux/types.h>
#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include "arch/registers.h"
#include "events.h"
#include "secret_losses.h"
#include "secret_ring.h"

struct secret_losses secret_losses;

/* Set before loading: bpf_get_attach_cookie exists (5.15). Where it is 0 the verifier removes the call. */
const volatile __u8 has_attach_cookie = 0;

/*
 * Set before loading: the program is sleepable (6.0) and may wait for pages. A library's strings are only in a
 * process's page table once it has touched them or their neighbours, and the kernel takes cold ones out again: a new
 * process's "s hs traffic" may well not be there. Where it is 0 the verifier removes the calls.
 */
const volatile __u8 may_fault = 0;

#define COUNT(field) __sync_fetch_and_add(&secret_losses.field, 1)

/* What the provider gave along with the place that was hit (ProbePlace of src/secrets/provider.ts); 0 before 5.15. */
static __always_inline __u32 place_parameter(struct pt_regs *ctx)
{
	return has_attach_cookie ? bpf_get_attach_cookie(ctx) >> 32 : 0;
}

/*
 * Room for a record in the ring, all zeros but for its head. It must be submitted with BPF_RB_NO_WAKEUP, as the
 * handshake's packets wake the reader, or discarded; and without waiting for pages: what comes after it waits for it.
 * @returns null when the ring is full, which is counted
 */
static __always_inline struct secret_record *reserve_secret(struct pt_regs *ctx, __u8 kind)
{
	struct secret_record *record;

	record = bpf_ringbuf_reserve(&secret_ring, sizeof(*record), 0);
	if (!record) {
		COUNT(ring_full);
		return 0;
	}
	__builtin_memset(record, 0, sizeof(*record));
	record->header.length = sizeof(*record);
	record->header.type = RECORD_SECRET;
	record->header.time_ns = bpf_ktime_get_boot_ns();
	record->tgid = bpf_get_current_pid_tgid() >> 32;
	record->kind = kind;
	if (has_attach_cookie)
		record->library = bpf_get_attach_cookie(ctx);
	return record;
}

/* Brings what a pointer of the traced process points to into its memory: the pages of its first and last byte. */
static __always_inline void fault_in(__u64 pointer, __u64 size)
{
	__u64 address = 0;
	__u8 byte;

	if (bpf_copy_from_user(&address, sizeof(address), (void *)pointer) != 0 || address == 0)
		return;
	bpf_copy_from_user(&byte, 1, (void *)address);
	bpf_copy_from_user(&byte, 1, (void *)(address + size - 1));
}

#endif
