/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Who owns a socket, and which processes user space hears of: see the top of capture.bpf.c. */
#ifndef WIRESPAN_OWNERS_H
#define WIRESPAN_OWNERS_H

#include "kernel_types.h"
#include "events.h"
#include <stdbool.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include "losses.h"
#include "ring.h"
#include "socket_state.h"

#define SOCK_STREAM 1

struct capture_globals globals;

struct process_key {
	__u64 start_ns;
	__u32 tgid;
	__u32 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct process_key);
	__type(value, __u8);
} seen_processes SEC(".maps");

static __always_inline void read_owner(struct socket_state *state, struct task_struct *task)
{
	struct task_struct *leader = BPF_CORE_READ(task, group_leader);

	state->tgid = BPF_CORE_READ(task, tgid);
	state->process_start_ns = BPF_CORE_READ(leader, start_boottime);
	BPF_CORE_READ_INTO(&state->comm, leader, comm);
	state->flags |= STATE_OWNER_KNOWN;
	if (state->tgid == globals.agent_tgid && state->process_start_ns == globals.agent_start_ns)
		state->flags |= STATE_OWN;
}

static __always_inline struct process_record *reserve_process(__u32 reason)
{
	struct process_record *record = bpf_ringbuf_reserve(&control_ring, sizeof(*record), 0);

	if (!record) {
		count_loss(LOSS_CONTROL_RING_FULL);
		return 0;
	}
	/* The ring hands out what older records have left in it; a file name seldom covers it. */
	__builtin_memset(record, 0, sizeof(*record));
	record->header.length = sizeof(*record);
	record->header.type = RECORD_PROCESS;
	record->header.time_ns = bpf_ktime_get_boot_ns();
	record->reason = reason;
	return record;
}

/* Tells user space of a process that makes its first socket, while it is still there to be looked at. */
static __always_inline void report_first_socket(const struct socket_state *state)
{
	struct process_key key = { .start_ns = state->process_start_ns, .tgid = state->tgid };
	struct process_record *record;
	__u8 one = 1;

	if (bpf_map_lookup_elem(&seen_processes, &key))
		return;
	record = reserve_process(PROCESS_FIRST_SOCKET);
	if (!record)
		return; /* the next socket tries again */
	record->process_start_ns = state->process_start_ns;
	record->tgid = state->tgid;
	__builtin_memcpy(record->comm, state->comm, COMM_LENGTH);
	bpf_ringbuf_submit(record, BPF_RB_FORCE_WAKEUP);
	bpf_map_update_elem(&seen_processes, &key, &one, BPF_ANY);
}

/* The verifier's socket pointer as a plain number, for CO-RE reads. */
static __always_inline struct sock *kernel_socket(struct bpf_sock *socket)
{
	struct sock *plain = 0;

	bpf_probe_read_kernel(&plain, sizeof(plain), &socket);
	return plain;
}

/* Of a socket that is older than the programs or was made by the kernel. */
static __always_inline struct socket_state *new_state(struct bpf_sock *socket)
{
	struct socket_state fresh = {};
	struct socket_state *state;

	fresh.netns = BPF_CORE_READ(kernel_socket(socket), __sk_common.skc_net.net, ns.inum);
	state = bpf_sk_storage_get(&socket_states, socket, &fresh, BPF_SK_STORAGE_GET_F_CREATE);
	/* Of two CPUs that make it at once, one gets nothing: the other's is there by now. */
	return state ? state : bpf_sk_storage_get(&socket_states, socket, 0, 0);
}

/*
 * Whether the socket that this state belongs to was announced. Its listener, whose state it may have inherited, is
 * another socket.
 */
static __always_inline bool is_announced(const struct socket_state *state, struct bpf_sock *socket)
{
	bool announced = state->announced_socket == (__u64)(unsigned long)socket;

	barrier(); /* the cookie is read after this */
	return announced;
}

/* Corrects the owner when a process is sending. @returns whether it changed */
static __always_inline bool confirm_owner(struct bpf_sock *socket, struct socket_state *state)
{
	struct task_struct *task;
	__u32 tgid;

	if (BPF_CORE_READ(kernel_socket(socket), sk_lock.owned) == 0)
		return false;
	task = (struct task_struct *)bpf_get_current_task();
	if (BPF_CORE_READ(task, flags) & PF_KTHREAD)
		return false;
	state->flags |= STATE_OWNER_CONFIRMED;
	tgid = BPF_CORE_READ(task, tgid);
	if ((state->flags & STATE_OWNER_KNOWN) && state->tgid == tgid)
		return false;
	read_owner(state, task);
	return true;
}

#endif
