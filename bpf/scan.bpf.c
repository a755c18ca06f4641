// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Finds the owner of the sockets that are older than the agent: walks the open files of every process that the agent's
 * pid namespace shows (of all, in the initial one), in all network namespaces, writes the state that socket_create
 * would have written, so that a listener's accepted sockets inherit it, and reports each socket it wrote.
 *
 * Not on 5.10, whose iterators have none of these helpers: there the addon does the same by pidfd_getfd(2).
 */
#include "kernel_types.h"
#include "events.h"
#include <stdbool.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include "socket_state.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define SOCK_STREAM 1
#define IPPROTO_TCP 6

const volatile __u32 agent_tgid;

/*
 * Processes come in the order of their ids, so of those that share a socket the eldest owns it; but not a service
 * manager that passed it on.
 */
static __always_inline bool is_better_owner(const struct socket_state *state, __u32 tgid)
{
	if (!(state->flags & STATE_OWNER_KNOWN))
		return true;
	return state->tgid == 1 && tgid != 1 && !(state->flags & STATE_OWNER_CONFIRMED);
}

SEC("iter/task_file")
int scan_sockets(struct bpf_iter__task_file *context)
{
	struct task_struct *task = context->task;
	struct file *file = context->file;
	struct socket_state *state;
	struct socket_record record = {};
	struct socket *socket;
	struct sock *sk;

	if (!task || !file || task->tgid != task->pid)
		return 0;
	socket = bpf_sock_from_file(file);
	if (!socket)
		return 0;
	sk = socket->sk;
	if (!sk || sk->sk_type != SOCK_STREAM || sk->sk_protocol != IPPROTO_TCP ||
	    (sk->__sk_common.skc_family != 2 && sk->__sk_common.skc_family != 10))
		return 0;
	state = bpf_sk_storage_get(&socket_states, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!state) /* a packet's program was faster */
		state = bpf_sk_storage_get(&socket_states, sk, 0, 0);
	if (!state || !is_better_owner(state, task->tgid))
		return 0;
	state->tgid = task->tgid;
	state->process_start_ns = task->start_boottime;
	bpf_probe_read_kernel(state->comm, COMM_LENGTH, task->comm);
	state->netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	state->flags |= STATE_OWNER_KNOWN | (state->tgid == agent_tgid ? STATE_OWN : 0);

	record.header.length = sizeof(record);
	record.header.type = RECORD_SOCKET;
	record.header.flags = SOCKET_OWNER_KNOWN | (state->flags & STATE_OWN ? SOCKET_OWN : 0);
	record.header.time_ns = bpf_ktime_get_boot_ns();
	record.cookie = bpf_get_socket_cookie(sk);
	record.cgroup_id = BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, id);
	record.process_start_ns = state->process_start_ns;
	record.tgid = state->tgid;
	record.netns = state->netns;
	__builtin_memcpy(record.comm, state->comm, COMM_LENGTH);
	bpf_seq_write(context->meta->seq, &record, sizeof(record));
	return 0;
}
