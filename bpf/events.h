/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The records that travel from the kernel to user space: the one source of their layout. Included by the BPF programs
 * and by the addon; src/capture/records.ts repeats the offsets, and a test compares them with what the addon reports
 * (offsetof).
 *
 * All integers are little-endian. Every record begins with struct record_header and its length is a multiple of 8.
 */
#ifndef WIRESPAN_EVENTS_H
#define WIRESPAN_EVENTS_H

#define RECORD_ZEROS 0 /* all of it zeros, which write over what older records left in their ring: nothing to be read */
#define RECORD_PACKET 1
#define RECORD_SOCKET 2
#define RECORD_PROCESS 3
#define RECORD_SECRET 4

struct record_header {
	__u32 length; /* of the whole record, header included */
	__u16 type;
	__u16 flags;
	__u64 time_ns; /* CLOCK_BOOTTIME */
};

#define DIRECTION_INGRESS 0
#define DIRECTION_EGRESS 1

/* One TCP/IP packet, from its network header on. */
struct packet_record {
	struct record_header header;
	/*
	 * Of the socket that sent (egress) or receives (ingress) it; 0 when that is a listener (SYN, SYN-ACK) or one of
	 * the kernel's own (RST of no socket), which say nothing of the connection.
	 */
	__u64 cookie;
	__u32 netns; /* inode number of the socket's network namespace */
	__u32 ifindex;
	/*
	 * Of the packet on the wire, network header included; of a packet in several records up to the end of this
	 * piece, so that no piece looks cut off.
	 */
	__u32 packet_length;
	__u32 captured; /* bytes that follow this struct */
	/*
	 * TCP payload bytes left out between the headers and what follows them; 0 but for the later pieces of a packet
	 * that is larger than one record holds.
	 */
	__u32 payload_skip;
	__u8 direction;
	__u8 reserved[3];
	/* captured bytes follow: IP header, TCP header, payload */
};

/* process_start_ns, tgid and comm are of the process that made the socket or sends on it */
#define SOCKET_OWNER_KNOWN 1
#define SOCKET_OWN 2 /* the agent's own */

#define COMM_LENGTH 16

/*
 * Sent for every TCP socket before its first packet_record, and again when another process is found to own it (a worker
 * that answers on a connection accepted from its master's listener).
 */
struct socket_record {
	struct record_header header;
	__u64 cookie;
	__u64 peer_cookie; /* the local socket at the other end, 0 when there is none or it is not known */
	__u64 cgroup_id;
	__u64 process_start_ns; /* CLOCK_BOOTTIME, tells a reused process id */
	__u32 tgid;
	__u32 netns;
	char comm[COMM_LENGTH]; /* of the process, not of the thread */
};

#define PROCESS_EXEC 0	       /* has just executed a new program */
#define PROCESS_FIRST_SOCKET 1 /* makes its first socket */

#define FILENAME_LENGTH 256

struct process_record {
	struct record_header header;
	__u64 process_start_ns;
	__u32 tgid;
	__u32 reason;
	char comm[COMM_LENGTH];
	char filename[FILENAME_LENGTH]; /* PROCESS_EXEC: as given to execve(2), NUL-terminated, maybe cut; else empty */
};

#define SECRET_TLS13_HANDSHAKE 1 /* handshake secret; context = Transcript-Hash(ClientHello..ServerHello) */
#define SECRET_TLS13_EARLY 2	 /* early secret; context = Transcript-Hash(ClientHello) */
#define SECRET_TLS12_MASTER 3	 /* master secret; context = server_random || client_random */

#define SECRET_LENGTH 64
#define CONTEXT_LENGTH 64

struct secret_record {
	struct record_header header;
	__u32 tgid;
	__u8 kind;
	__u8 secret_length;
	__u8 context_length;
	__u8 reserved;
	__u64 library; /* the attach cookie: which probed file */
	__u8 secret[SECRET_LENGTH];
	__u8 context[CONTEXT_LENGTH];
};

#endif
