/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What is kept with every TCP socket, in socket storage: shared by the programs and by the addon, which fills it on
 * kernels whose iterators cannot.
 */
#ifndef WIRESPAN_SOCKET_STATE_H
#define WIRESPAN_SOCKET_STATE_H

#include "events.h"

#define STATE_OWNER_KNOWN 1
#define STATE_OWNER_CONFIRMED 2 /* the owner was seen to send */
#define STATE_OWN 4		/* the agent's */
#define STATE_OWN_PEER 8	/* the other end of one of the agent's */
#define STATE_MUTED 16
#define STATE_EGRESS_SEEN 32  /* its flow entry has the sequence number of its first captured packet */
#define STATE_SKIP_INGRESS 64 /* what it receives was captured at its sender */
#define STATE_IGNORED 128 /* made in a cgroup that nobody wants: it is never announced, and its peers do not know it */
/* No packet of it is captured. */
#define STATE_UNWANTED (STATE_OWN | STATE_OWN_PEER | STATE_IGNORED)
/* What an accepted socket inherits from its listener. */
#define STATE_INHERITED (STATE_OWNER_KNOWN | STATE_OWN)

struct socket_state {
	__u64 announced_cookie;
	/* The socket this state was announced for, as a number: not this one after a clone from its listener. */
	__u64 announced_socket;
	__u64 process_start_ns;
	__u32 tgid;
	__u32 netns;
	__u32 flags;
	__u32 mute_generation; /* of the mute list when it was last consulted */
	__u32 ingress_checks;  /* look-ups made for the sender of what arrives */
	__u32 reserved;
	char comm[COMM_LENGTH];
};

#ifdef __bpf__
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/*
 * An accepted socket gets a copy of its listener's. The socket scan replaces its own by the capture's when it is
 * loaded.
 */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct socket_state);
} socket_states SEC(".maps");
#endif

/* The programs' variables that user space reads and writes: the only ones in .bss. */
struct capture_globals {
	__u32 mute_generation;
	__u32 agent_tgid;
	__u64 agent_start_ns;
	/* How many there are: with any, not all that comes over loopback was captured at its sender. */
	__u32 ignored_cgroups;
	__u32 reserved;
};

/* Why something was not captured: indexes of the per-CPU array `losses`. src/capture/live.ts names them. */
#define LOSS_PACKET_RING_FULL 0
#define LOSS_CONTROL_RING_FULL 1
#define LOSS_LOAD_BYTES_FAILED 2
#define LOSS_HEADERS_UNREADABLE 3
#define LOSS_PACKET_TOO_LARGE 4
#define LOSS_SOCKET_STORAGE_FAILED 5
#define LOSS_COUNT 6

#endif
