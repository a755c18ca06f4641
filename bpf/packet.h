/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Finds TCP in a packet that begins with its network header. */
#ifndef WIRESPAN_PACKET_H
#define WIRESPAN_PACKET_H

#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "flow_key.h"

#define TCP_FIN 1
#define TCP_SYN 2
#define TCP_RST 4
#define TCP_ACK 16
#define EXTENSION_HEADERS_MAX 8

/* All that most packets are looked at for. */
struct tcp_shape {
	__u32 payload_offset;
	__u32 payload_length;
	__u8 flags;
};

struct tcp_packet {
	__u32 sequence;
	__u32 acknowledgment;
	__u8 flags;
	__u8 is_loopback; /* the addresses, not the interface */
	__u32 source[4];
	__u32 destination[4];
	__u16 source_port; /* network byte order */
	__u16 destination_port;
};

enum parse_result { PARSE_TCP, PARSE_OTHER, PARSE_UNREADABLE };

#define NOT_TCP (-1)
#define CUT_OFF (-2)

/*
 * RFC 8200 section 4: walks the extension headers. A global function, which the verifier checks by itself: inlined
 * everywhere it is more than even new ones follow.
 * @param type of the first one
 * @returns offset of the TCP header, NOT_TCP, or CUT_OFF
 */
__noinline int skip_extension_headers(struct __sk_buff *skb, __u32 type)
{
	__u32 offset = sizeof(struct ipv6hdr);

	for (int i = 0; i < EXTENSION_HEADERS_MAX; i++) {
		__u8 head[4];

		if (type != IPPROTO_HOPOPTS && type != IPPROTO_ROUTING && type != IPPROTO_DSTOPTS &&
		    type != IPPROTO_FRAGMENT && type != IPPROTO_AH)
			break;
		if (bpf_skb_load_bytes(skb, offset, head, sizeof(head)) != 0)
			return CUT_OFF;
		if (type == IPPROTO_FRAGMENT) {
			/* section 4.5: unless it is the first fragment, there is no TCP header in it */
			if ((((__u32)head[2] << 8) | (head[3] & 0xf8)) != 0)
				return NOT_TCP;
			offset += 8;
		} else if (type == IPPROTO_AH) {
			offset += ((__u32)head[1] + 2) * 4; /* RFC 4302 section 2.2 */
		} else {
			offset += ((__u32)head[1] + 1) * 8;
		}
		type = head[0];
	}
	return type == IPPROTO_TCP ? (int)offset : NOT_TCP;
}

/*
 * Finds the TCP header, `transport` bytes into the packet. Needs only what the kernel keeps in one piece of every
 * packet.
 */
static __always_inline enum parse_result find_tcp(struct __sk_buff *skb, __u32 *transport)
{
	void *data = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;

	if (data + sizeof(struct iphdr) > end)
		return PARSE_UNREADABLE;
	if ((*(__u8 *)data >> 4) == 4) {
		struct iphdr *ip = data;

		if (ip->protocol != IPPROTO_TCP || (ip->frag_off & bpf_htons(0x1fff)) != 0)
			return PARSE_OTHER;
		*transport = ip->ihl * 4;
	} else {
		struct ipv6hdr *ip = data;
		int offset = sizeof(*ip);

		if (data + sizeof(*ip) > end)
			return PARSE_UNREADABLE;
		if (ip->nexthdr != IPPROTO_TCP)
			offset = skip_extension_headers(skb, ip->nexthdr);
		if (offset < 0)
			return offset == NOT_TCP ? PARSE_OTHER : PARSE_UNREADABLE;
		*transport = offset;
	}
	return PARSE_TCP;
}

/* The farthest that a TCP header is looked for by direct access; the verifier wants a bound. */
#define DIRECT_OFFSET_MAX 255

static __always_inline enum parse_result parse_shape(struct __sk_buff *skb, struct tcp_shape *shape)
{
	void *data, *end;
	__u32 transport;
	__u32 header_length;
	__u32 length = skb->len;
	enum parse_result result = find_tcp(skb, &transport);

	if (result != PARSE_TCP)
		return result;
	data = (void *)(long)skb->data;
	end = (void *)(long)skb->data_end;
	if (transport <= DIRECT_OFFSET_MAX && data + transport + sizeof(struct tcphdr) <= end) {
		const __u8 *bytes = data + transport;

		header_length = (bytes[12] >> 4) * 4;
		shape->flags = bytes[13];
	} else {
		__u8 bytes[14];

		if (bpf_skb_load_bytes(skb, transport, bytes, sizeof(bytes)) != 0)
			return PARSE_UNREADABLE;
		header_length = (bytes[12] >> 4) * 4;
		shape->flags = bytes[13];
	}
	shape->payload_offset = transport + header_length;
	if (header_length < sizeof(struct tcphdr) || shape->payload_offset > length)
		return PARSE_UNREADABLE;
	shape->payload_length = length - shape->payload_offset;
	return PARSE_TCP;
}

/* The addresses and numbers too. Not for every packet. @returns whether it is TCP that can be read */
static __always_inline bool parse_packet(struct __sk_buff *skb, struct tcp_packet *packet)
{
	void *data, *end;
	struct tcphdr header;
	__u32 transport;

	if (find_tcp(skb, &transport) != PARSE_TCP)
		return false;
	data = (void *)(long)skb->data;
	end = (void *)(long)skb->data_end;
	if (data + sizeof(struct iphdr) > end)
		return false;
	if ((*(__u8 *)data >> 4) == 4) {
		struct iphdr *ip = data;

		packet->source[0] = packet->source[1] = packet->destination[0] = packet->destination[1] = 0;
		packet->source[2] = packet->destination[2] = bpf_htonl(0xffff);
		packet->source[3] = ip->saddr;
		packet->destination[3] = ip->daddr;
		packet->is_loopback = (ip->saddr & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000) ||
				      (ip->daddr & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000);
	} else {
		struct ipv6hdr *ip = data;

		if (data + sizeof(*ip) > end)
			return false;
		__builtin_memcpy(packet->source, &ip->saddr, 16);
		__builtin_memcpy(packet->destination, &ip->daddr, 16);
		packet->is_loopback = packet->destination[0] == 0 && packet->destination[1] == 0 &&
				      packet->destination[2] == 0 && packet->destination[3] == bpf_htonl(1);
	}
	if (bpf_skb_load_bytes(skb, transport, &header, sizeof(header)) != 0)
		return false;
	packet->sequence = bpf_ntohl(header.seq);
	packet->acknowledgment = bpf_ntohl(header.ack_seq);
	packet->flags = ((__u8 *)&header)[13];
	packet->source_port = header.source;
	packet->destination_port = header.dest;
	return true;
}

#endif
