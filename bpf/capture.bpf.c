// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Captures the TCP packets of every socket below one cgroup, and who owns the sockets.
 *
 * cgroup_skb sees a packet at the socket that sends it (egress) and at the socket that receives it (ingress), in every
 * network namespace. Every byte is wanted once: what a socket receives is left out when its sender is on this machine
 * and was captured there.
 *
 * Nothing here may influence traffic: both packet programs return 1 whatever happens.
 *
 * Which socket a packet belongs to:
 * - A SYN at its receiver and a SYN-ACK at its sender run with the *listener* as their socket, as does data that
 *   completes the handshake; RSTs without a socket and ACKs for TIME_WAIT run with a socket of the kernel that all
 *   connections share. They are delivered with cookie 0: the addresses say which connection they belong to, the cookie
 *   would lie. Neither is announced nor entered in `flows`.
 * - All others are announced by a socket_record ahead of their first packet, and again when another owner becomes
 *   known.
 *
 * Who owns a socket: the process that created it (sock_create; an accepted socket inherits from its listener, because
 * the storage is cloned), until a process is seen to send: while a process holds the socket's lock (sk_lock.owned)
 * nobody else transmits on it, so the current task is the sender. This corrects pre-forking servers, sockets passed on
 * by a service manager, and sockets that are older than the agent or that the kernel made for the process.
 */
#include "kernel_types.h"
#include "events.h"
#include <stdbool.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include "emit.h"
#include "flows.h"
#include "losses.h"
#include "owners.h"
#include "packet.h"
#include "ring.h"
#include "secret_ring.h"
#include "socket_state.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define LOOPBACK_IFINDEX 1 /* of `lo`, in every network namespace */
#define INGRESS_CHECKS_MAX 8

/* Set before loading. */
const volatile __u8 whole_tree = 1; /* the watched cgroup is the root: every sender on this machine is captured */
const volatile __u8 has_excluded_ports;

/*
 * Cookies of sockets whose data nobody wants. A socket consults it when globals.mute_generation has changed, then
 * remembers.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, __u64);
	__type(value, __u8);
} muted SEC(".maps");

/* Cgroups whose sockets nobody wants, by id. A socket is looked up once, when it is announced. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, __u64);
	__type(value, __u8);
} ignored_cgroups SEC(".maps");

struct port_set {
	__u64 words[1024];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct port_set);
} excluded_ports SEC(".maps");

/* --- Processes ---------------------------------------------------------------------------------------------------- */

SEC("raw_tp/sched_process_exec")
int process_exec(struct bpf_raw_tracepoint_args *context)
{
	struct task_struct *task = (struct task_struct *)context->args[0];
	struct linux_binprm *binprm = (struct linux_binprm *)context->args[2];
	struct process_record *record = reserve_process(PROCESS_EXEC);

	if (!record)
		return 0;
	record->process_start_ns = BPF_CORE_READ(task, group_leader, start_boottime);
	record->tgid = BPF_CORE_READ(task, tgid);
	BPF_CORE_READ_INTO(&record->comm, task, comm);
	if (bpf_probe_read_kernel_str(record->filename, FILENAME_LENGTH, BPF_CORE_READ(binprm, filename)) < 0)
		record->filename[0] = 0;
	bpf_ringbuf_submit(record, BPF_RB_FORCE_WAKEUP);
	return 0;
}

/*
 * Run once by the agent itself, through BPF_PROG_TEST_RUN: which process is it to the kernel? In a pid namespace it
 * cannot know.
 */
SEC("raw_tp/sched_process_exec")
int identify_agent(struct bpf_raw_tracepoint_args *context)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();

	globals.agent_start_ns = BPF_CORE_READ(task, group_leader, start_boottime);
	globals.agent_tgid = BPF_CORE_READ(task, tgid);
	return 0;
}

SEC("cgroup/sock_create")
int socket_create(struct bpf_sock *socket)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct socket_state state = {};

	if (socket->type != SOCK_STREAM || (socket->family != 2 && socket->family != 10))
		return 1;
	read_owner(&state, task);
	state.netns = BPF_CORE_READ(task, nsproxy, net_ns, ns.inum);
	bpf_sk_storage_get(&socket_states, socket, &state, BPF_SK_STORAGE_GET_F_CREATE);
	if (!(state.flags & STATE_OWN))
		report_first_socket(&state);
	return 1;
}

/* --- Secrets ------------------------------------------------------------------------------------------------------ */

/* A piece of the ring, so that little of it is taken from secrets at a time. */
struct zero_record {
	__u8 bytes[SECRET_RING_BYTES / 8 - BPF_RINGBUF_HDR_SZ];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct zero_record);
} zero_records SEC(".maps");

/* Run by the reader, through BPF_PROG_TEST_RUN: writes a record of zeros, where there is room for it. */
SEC("raw_tp/sched_process_exec")
int wipe_secrets(struct bpf_raw_tracepoint_args *context)
{
	__u32 zero = 0;
	struct zero_record *zeros = bpf_map_lookup_elem(&zero_records, &zero);

	if (zeros)
		bpf_ringbuf_output(&secret_ring, zeros, sizeof(*zeros), BPF_RB_NO_WAKEUP);
	return 0;
}

/* --- Sockets ------------------------------------------------------------------------------------------------------ */

static __always_inline bool send_socket_record(struct __sk_buff *skb, const struct socket_state *state, __u64 cookie,
					       __u64 peer_cookie)
{
	struct socket_record *record = bpf_ringbuf_reserve(&control_ring, sizeof(*record), 0);

	if (!record) {
		count_loss(LOSS_CONTROL_RING_FULL);
		return false;
	}
	record->header.length = sizeof(*record);
	record->header.type = RECORD_SOCKET;
	record->header.flags = state->flags & STATE_OWNER_KNOWN ? SOCKET_OWNER_KNOWN : 0;
	record->header.time_ns = bpf_ktime_get_boot_ns();
	record->cookie = cookie;
	record->peer_cookie = peer_cookie;
	record->cgroup_id = bpf_skb_cgroup_id(skb);
	record->process_start_ns = state->process_start_ns;
	record->tgid = state->tgid;
	record->netns = state->netns;
	__builtin_memcpy(record->comm, state->comm, COMM_LENGTH);
	bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
	return true;
}

static __always_inline bool is_ignored_cgroup(struct __sk_buff *skb)
{
	__u64 id;

	if (!globals.ignored_cgroups)
		return false;
	id = bpf_skb_cgroup_id(skb);
	return bpf_map_lookup_elem(&ignored_cgroups, &id) != 0;
}

/* Whether what arrives was captured where it was sent, without looking any further. */
static __always_inline bool is_captured_loopback(struct __sk_buff *skb)
{
	return whole_tree && skb->ifindex == LOOPBACK_IFINDEX && !globals.ignored_cgroups;
}

/*
 * The first packet of a socket. Two CPUs may get here at once for one socket: then it is announced twice, which does no
 * harm; the state says "announced" only after the record is in the ring, so that no packet overtakes it.
 *
 * This and what else is not for every packet are functions of their own: they read the addresses again, which most
 * packets need not.
 */
static __noinline int announce(struct __sk_buff *skb, struct bpf_sock *socket, struct socket_state *state, __u64 cookie,
			       bool egress)
{
	struct tcp_packet packet;
	struct flow *peer;
	__u64 peer_cookie = 0;

	if (!parse_packet(skb, &packet))
		return 0;
	if (egress)
		confirm_owner(socket, state);
	state->flags &= STATE_INHERITED | STATE_OWNER_CONFIRMED;
	state->ingress_checks = 0;
	if (is_ignored_cgroup(skb))
		state->flags |= STATE_IGNORED;
	state->mute_generation = globals.mute_generation; /* nobody can have muted what was not announced */
	if (state->flags & STATE_IGNORED) {
		/* The socket at the other end has to look for itself. */
		struct flow_key key;

		local_key(&key, &packet, egress, state->netns);
		bpf_map_delete_elem(&flows, &key);
	} else if (egress && (packet.flags & (TCP_SYN | TCP_ACK)) == TCP_SYN) {
		/* What is still known of these addresses is of an earlier connection. */
		struct flow_key key;

		local_key(&key, &packet, false, state->netns);
		bpf_map_delete_elem(&flows, &key);
		if (is_own_service(&packet, true, state->netns))
			state->flags |= STATE_OWN_PEER;
	} else {
		peer = find_peer(&packet, egress, state->netns);
		if (peer) {
			peer_cookie = peer->cookie;
			if (peer->flags & STATE_OWN)
				state->flags |= STATE_OWN_PEER;
		}
	}
	if (!(state->flags & (STATE_OWN_PEER | STATE_IGNORED)))
		enter_flow(state, cookie, &packet, egress);
	if ((state->flags & STATE_UNWANTED) || send_socket_record(skb, state, cookie, peer_cookie)) {
		state->announced_cookie = cookie;
		/* The compiler turns these two round; another CPU takes the cookie once it sees the socket. */
		barrier();
		state->announced_socket = (__u64)(unsigned long)socket;
	}
	return 0;
}

/* Announces the socket again when its owner turns out to be another. */
static __noinline int announce_sender(struct __sk_buff *skb, struct bpf_sock *socket, struct socket_state *state)
{
	struct tcp_packet packet;
	struct flow *peer;

	if (!confirm_owner(socket, state) || !parse_packet(skb, &packet))
		return 0;
	peer = find_peer(&packet, true, state->netns);
	send_socket_record(skb, state, state->announced_cookie, peer ? peer->cookie : 0);
	return 0;
}

static __noinline int enter_sender(struct __sk_buff *skb, struct socket_state *state, __u64 cookie)
{
	struct tcp_packet packet;

	if (parse_packet(skb, &packet))
		enter_flow(state, cookie, &packet, true);
	return 0;
}

/* --- Packets ------------------------------------------------------------------------------------------------------ */

static __noinline int is_excluded(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct port_set *set = bpf_map_lookup_elem(&excluded_ports, &zero);
	struct tcp_packet packet;
	__u16 source, destination;

	if (!set || !parse_packet(skb, &packet))
		return 0;
	source = bpf_ntohs(packet.source_port);
	destination = bpf_ntohs(packet.destination_port);
	return ((set->words[source >> 6] >> (source & 63)) & 1) ||
	       ((set->words[destination >> 6] >> (destination & 63)) & 1);
}

/* A packet whose socket is a listener or the kernel's: see the top. @returns whether it is wanted */
static __noinline int is_anonymous_wanted(struct __sk_buff *skb, __u32 netns, bool egress)
{
	struct tcp_packet packet;
	struct flow *peer;

	/*
	 * A listener may be of an ignored cgroup; the sockets of the kernel are of the root's, which is never ignored.
	 */
	if ((!egress && is_captured_loopback(skb)) || is_ignored_cgroup(skb) || !parse_packet(skb, &packet))
		return 0;
	if (is_own_service(&packet, !egress, netns))
		return 0;
	if (!egress && (packet.flags & (TCP_SYN | TCP_ACK)) == TCP_SYN)
		forget_earlier_client(&packet, netns);
	peer = find_peer(&packet, egress, netns);
	return !peer || !((peer->flags & STATE_OWN) || (!egress && (peer->flags & STATE_EGRESS_SEEN)));
}

static __always_inline bool is_muted(struct socket_state *state, __u64 cookie)
{
	__u32 generation = globals.mute_generation;

	if (state->mute_generation != generation) {
		state->mute_generation = generation;
		if (bpf_map_lookup_elem(&muted, &cookie))
			state->flags |= STATE_MUTED;
	}
	return state->flags & STATE_MUTED;
}

/* Looks for the sender of what arrives, a few times: it may not have sent before. */
static __noinline int find_sender(struct __sk_buff *skb, struct socket_state *state)
{
	struct tcp_packet packet;
	struct flow *peer;

	if (!parse_packet(skb, &packet))
		return 0;
	state->ingress_checks += 1;
	peer = find_peer(&packet, false, state->netns);
	if (!peer || !(peer->flags & STATE_EGRESS_SEEN))
		return 0;
	state->flags |= STATE_SKIP_INGRESS;
	return 1;
}

/* What arrives is not wanted when its sender was captured. */
static __always_inline bool is_captured_at_sender(struct __sk_buff *skb, struct socket_state *state)
{
	if (is_captured_loopback(skb))
		return true;
	if (state->flags & STATE_SKIP_INGRESS)
		return true;
	return state->ingress_checks < INGRESS_CHECKS_MAX && find_sender(skb, state) != 0;
}

/*
 * What most packets over a loopback interface are: received by a socket that was announced, and captured where they
 * were sent.
 */
static __always_inline bool is_known_loopback(struct __sk_buff *skb, struct bpf_sock *socket)
{
	struct socket_state *state;

	if (!is_captured_loopback(skb) || socket->state == BPF_TCP_LISTEN)
		return false;
	state = bpf_sk_storage_get(&socket_states, socket, 0, 0);
	return state && is_announced(state, socket);
}

/* Which connection a wanted packet belongs to. */
struct origin {
	__u64 cookie;
	__u32 netns;
};

/*
 * The first packet of a socket, or one whose socket says nothing of the connection. @returns the state, or null: then
 * `origin` is final
 */
static __always_inline struct socket_state *meet(struct __sk_buff *skb, struct bpf_sock *socket,
						 struct socket_state *state, bool egress, struct origin *origin,
						 bool *wanted)
{
	socket = bpf_sk_fullsock(socket);
	if (!socket) {
		*wanted = false;
		return 0;
	}
	if (socket->state == BPF_TCP_LISTEN || socket->type != SOCK_STREAM) {
		origin->netns = BPF_CORE_READ(kernel_socket(socket), __sk_common.skc_net.net, ns.inum);
		*wanted = is_anonymous_wanted(skb, origin->netns, egress) != 0;
		return 0;
	}
	origin->cookie = bpf_get_socket_cookie(skb);
	if (!state)
		state = new_state(socket);
	if (!state)
		count_loss(LOSS_SOCKET_STORAGE_FAILED);
	else
		announce(skb, socket, state, origin->cookie, egress);
	return state;
}

/* Whether the packet of a socket that has a state is wanted. */
static __always_inline bool is_wanted(struct __sk_buff *skb, struct socket_state *state, __u64 cookie, __u8 flags,
				      bool egress)
{
	if (state->flags & STATE_UNWANTED)
		return false;
	if (egress) {
		if ((flags & (TCP_SYN | TCP_ACK)) == TCP_SYN) {
			/* Maybe another connection of the same socket: connect(2) allows it after AF_UNSPEC. */
			state->flags &= ~(STATE_SKIP_INGRESS | STATE_EGRESS_SEEN | STATE_MUTED);
			state->ingress_checks = 0;
		}
		if (!(state->flags & STATE_EGRESS_SEEN))
			enter_sender(skb, state, cookie);
	} else if (!(flags & TCP_RST) && is_captured_at_sender(skb, state)) {
		/* A RST may come from no socket: where one cgroup is watched it is not seen where it was sent. */
		return false;
	}
	return !is_muted(state, cookie) || (flags & (TCP_SYN | TCP_FIN | TCP_RST));
}

/* In the order of what it costs. Bare ACKs, half of many a connection's packets, are recognised by the packet alone. */
static __always_inline void capture(struct __sk_buff *skb, bool egress)
{
	struct tcp_shape shape;
	struct socket_state *state;
	struct bpf_sock *socket = skb->sk;
	struct origin origin = {};
	bool wanted = true;

	if (!socket)
		return;
	if (!egress && is_known_loopback(skb, socket))
		return;
	switch (parse_shape(skb, &shape)) {
	case PARSE_TCP:
		break;
	case PARSE_OTHER:
		return;
	default:
		count_loss(LOSS_HEADERS_UNREADABLE);
		return;
	}
	if (shape.payload_length == 0 && !(shape.flags & (TCP_SYN | TCP_FIN | TCP_RST)))
		return;
	if (has_excluded_ports && is_excluded(skb))
		return;
	state = bpf_sk_storage_get(&socket_states, socket, 0, 0);
	if (state && is_announced(state, socket) && socket->state != BPF_TCP_LISTEN) {
		origin.cookie = state->announced_cookie;
		if (egress && !(state->flags & (STATE_OWNER_CONFIRMED | STATE_UNWANTED)))
			announce_sender(skb, socket, state);
	} else {
		state = meet(skb, socket, state, egress, &origin, &wanted);
	}
	if (state) {
		origin.netns = state->netns;
		wanted = is_wanted(skb, state, origin.cookie, shape.flags, egress);
	}
	if (wanted)
		emit(skb, shape.payload_offset | (egress ? EGRESS_BIT : 0), origin.cookie, origin.netns);
}

SEC("cgroup_skb/ingress")
int packet_ingress(struct __sk_buff *skb)
{
	capture(skb, false);
	return 1;
}

SEC("cgroup_skb/egress")
int packet_egress(struct __sk_buff *skb)
{
	capture(skb, true);
	return 1;
}
