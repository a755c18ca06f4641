/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Finds TCP in a packet that begins with its network header. */
#ifndef WIRESPAN_PACKET_H
#define WIRESPAN_PACKET_H

#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define TCP_FIN 1
#define TCP_SYN 2
#define TCP_RST 4
#define TCP_ACK 16
#define EXTENSION_HEADERS_MAX 8

struct flow_key {
	__u32 local[4]; /* IPv4 as ::ffff:a.b.c.d */
	__u32 remote[4];
	__u16 local_port;
	__u16 remote_port;
	__u32 scope; /* network namespace of loopback addresses, which every namespace has; else 0 */
};

struct tcp_packet {
	__u32 length;
	__u32 payload_offset;
	__u32 payload_length;
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

/* RFC 8200 section 4: walks the extension headers. @returns offset of the upper-layer header and its type in `next` */
static __always_inline int skip_extension_headers(struct __sk_buff *skb, __u8 *next)
{
	__u32 offset = sizeof(struct ipv6hdr);
	__u8 type = *next;

	for (int i = 0; i < EXTENSION_HEADERS_MAX; i++) {
		__u8 head[4];

		if (type != IPPROTO_HOPOPTS && type != IPPROTO_ROUTING && type != IPPROTO_DSTOPTS && type != IPPROTO_FRAGMENT &&
		    type != IPPROTO_AH)
			break;
		if (bpf_skb_load_bytes(skb, offset, head, sizeof(head)) != 0)
			return -1;
		if (type == IPPROTO_FRAGMENT) {
			if ((((__u32)head[2] << 8) | (head[3] & 0xf8)) != 0) {
				/* section 4.5: not the first fragment, so no TCP header in it */
				*next = IPPROTO_NONE;
				return offset;
			}
			offset += 8;
		} else if (type == IPPROTO_AH) {
			offset += ((__u32)head[1] + 2) * 4; /* RFC 4302 section 2.2 */
		} else {
			offset += ((__u32)head[1] + 1) * 8;
		}
		type = head[0];
	}
	*next = type;
	return offset;
}

static __always_inline enum parse_result parse_packet(struct __sk_buff *skb, struct tcp_packet *packet)
{
	void *data = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;
	__u32 transport;
	struct tcphdr header;
	__u32 header_length;

	if (data + 1 > end)
		return PARSE_UNREADABLE;
	if ((*(__u8 *)data >> 4) == 4) {
		struct iphdr *ip = data;

		if (data + sizeof(*ip) > end)
			return PARSE_UNREADABLE;
		if (ip->protocol != IPPROTO_TCP || (ip->frag_off & bpf_htons(0x1fff)) != 0)
			return PARSE_OTHER;
		transport = ip->ihl * 4;
		packet->source[0] = packet->source[1] = packet->destination[0] = packet->destination[1] = 0;
		packet->source[2] = packet->destination[2] = bpf_htonl(0xffff);
		packet->source[3] = ip->saddr;
		packet->destination[3] = ip->daddr;
		packet->is_loopback = (ip->saddr & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000) ||
				      (ip->daddr & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000);
	} else {
		struct ipv6hdr *ip = data;
		__u8 next;
		int offset = sizeof(*ip);

		if (data + sizeof(*ip) > end)
			return PARSE_UNREADABLE;
		__builtin_memcpy(packet->source, &ip->saddr, 16);
		__builtin_memcpy(packet->destination, &ip->daddr, 16);
		packet->is_loopback = packet->destination[0] == 0 && packet->destination[1] == 0 && packet->destination[2] == 0 &&
				      packet->destination[3] == bpf_htonl(1);
		next = ip->nexthdr;
		if (next != IPPROTO_TCP)
			offset = skip_extension_headers(skb, &next);
		if (offset < 0)
			return PARSE_UNREADABLE;
		if (next != IPPROTO_TCP)
			return PARSE_OTHER;
		transport = offset;
	}

	if (bpf_skb_load_bytes(skb, transport, &header, sizeof(header)) != 0)
		return PARSE_UNREADABLE;
	header_length = header.doff * 4;
	packet->length = skb->len;
	packet->payload_offset = transport + header_length;
	if (header_length < sizeof(header) || packet->payload_offset > packet->length)
		return PARSE_UNREADABLE;
	packet->payload_length = packet->length - packet->payload_offset;
	packet->sequence = bpf_ntohl(header.seq);
	packet->acknowledgment = bpf_ntohl(header.ack_seq);
	packet->flags = ((__u8 *)&header)[13];
	packet->source_port = header.source;
	packet->destination_port = header.dest;
	return PARSE_TCP;
}

#endif
