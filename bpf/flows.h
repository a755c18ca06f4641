/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The connected sockets of this machine by their addresses, to find the other end of a connection. */
#ifndef WIRESPAN_FLOWS_H
#define WIRESPAN_FLOWS_H

#include "kernel_types.h"
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include "packet.h"
#include "socket_state.h"

#define SEQUENCE_WINDOW (1u << 30)

struct flow {
	__u64 cookie;
	__u32 first_sequence; /* of its first captured packet */
	__u32 flags;	      /* STATE_OWN, STATE_EGRESS_SEEN */
};

/* The connected sockets of this machine by their own view of their addresses. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct flow_key);
	__type(value, struct flow);
} flows SEC(".maps");

/*
 * Where the agent itself listens: the local half of a key, the other half is 0. A connection to it is known by its
 * first packet.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 256);
	__type(key, struct flow_key);
	__type(value, __u8);
} own_listeners SEC(".maps");

static __always_inline void local_key(struct flow_key *key, const struct tcp_packet *packet, bool egress, __u32 netns)
{
	__builtin_memcpy(key->local, egress ? packet->source : packet->destination, 16);
	__builtin_memcpy(key->remote, egress ? packet->destination : packet->source, 16);
	key->local_port = egress ? packet->source_port : packet->destination_port;
	key->remote_port = egress ? packet->destination_port : packet->source_port;
	key->scope = packet->is_loopback ? netns : 0;
}

/* Whether the packet is from a client to a listener of the agent, or its answer. @param to the listener */
static __always_inline bool is_own_service(const struct tcp_packet *packet, bool to, __u32 netns)
{
	struct flow_key key;

	local_key(&key, packet, !to, netns);
	__builtin_memset(key.remote, 0, sizeof(key.remote));
	key.remote_port = 0;
	return bpf_map_lookup_elem(&own_listeners, &key) != 0;
}

/*
 * The socket at the other end, when it is on this machine. Its sequence numbers must fit: the same addresses may have
 * been used before.
 */
static __always_inline struct flow *find_peer(const struct tcp_packet *packet, bool egress, __u32 netns)
{
	struct flow_key key;
	struct flow *peer;
	__u32 sequence = egress ? packet->acknowledgment : packet->sequence;

	local_key(&key, packet, !egress, netns);
	peer = bpf_map_lookup_elem(&flows, &key);
	if (!peer)
		return 0;
	if (packet->flags & TCP_RST)
		return peer; /* its acknowledgment number may be 0 */
	if ((peer->flags & STATE_EGRESS_SEEN) && sequence - peer->first_sequence >= SEQUENCE_WINDOW)
		return 0;
	return peer;
}

/*
 * A SYN arrives at its listener. If it was not captured where it was sent, what is known of its sender's addresses is of an earlier
 * connection. Sequence numbers cannot tell later: a kernel that uses an address again soon continues those of the connection before.
 */
static __always_inline void forget_earlier_client(const struct tcp_packet *packet, __u32 netns)
{
	struct flow_key key;
	struct flow *client;

	local_key(&key, packet, true, netns);
	client = bpf_map_lookup_elem(&flows, &key);
	if (client && (!(client->flags & STATE_EGRESS_SEEN) || client->first_sequence != packet->sequence))
		bpf_map_delete_elem(&flows, &key);
}

/* Enters the socket in `flows`. */
static __always_inline void enter_flow(struct socket_state *state, __u64 cookie, const struct tcp_packet *packet,
				       bool egress)
{
	struct flow_key key;
	struct flow flow = { .cookie = cookie, .flags = state->flags & STATE_OWN };

	local_key(&key, packet, egress, state->netns);
	if (egress) {
		flow.first_sequence = packet->sequence;
		flow.flags |= STATE_EGRESS_SEEN;
		state->flags |= STATE_EGRESS_SEEN;
	}
	bpf_map_update_elem(&flows, &key, &flow, BPF_ANY);
}

#endif
