/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Puts packets into the ring. */
#ifndef WIRESPAN_EMIT_H
#define WIRESPAN_EMIT_H

#include "kernel_types.h"
#include "events.h"
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include "losses.h"

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 32 * 1024 * 1024);
} packet_ring SEC(".maps");

static __always_inline void fill_packet(struct packet_record *record, struct __sk_buff *skb, __u64 cookie, __u32 netns,
					bool egress)
{
	record->header.type = RECORD_PACKET;
	record->header.flags = 0;
	record->header.time_ns = bpf_ktime_get_boot_ns();
	record->cookie = cookie;
	record->netns = netns;
	record->ifindex = skb->ifindex;
	record->payload_skip = 0;
	record->direction = egress ? DIRECTION_EGRESS : DIRECTION_INGRESS;
	__builtin_memset(record->reserved, 0, sizeof(record->reserved));
}

/*
 * One whole packet of at most `limit` bytes, a constant: the ring hands out constant sizes only, so there is one call
 * per size class. The length is clamped as the 5.10 verifier understands it, which learns nothing from `n != 0`.
 */
static __always_inline void emit_whole(struct __sk_buff *skb, __u64 cookie, __u32 netns, bool egress, const __u32 limit)
{
	struct packet_record *record = bpf_ringbuf_reserve(&packet_ring, sizeof(*record) + limit, 0);
	__u32 last = skb->len;

	if (!record) {
		count_loss(LOSS_PACKET_RING_FULL);
		return;
	}
	fill_packet(record, skb, cookie, netns, egress);
	last -= 1;
	asm volatile("" : "+r"(last));
	if (last > limit - 1)
		last = limit - 1;
	record->packet_length = last + 1;
	record->captured = last + 1;
	record->header.length = (sizeof(*record) + last + 1 + 7) & ~7u;
	if (bpf_skb_load_bytes(skb, 0, record + 1, last + 1) != 0) {
		count_loss(LOSS_LOAD_BYTES_FAILED);
		bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
		return;
	}
	bpf_ringbuf_submit(record, 0);
}

#define PIECE_HEADERS 256
#define PIECE_PAYLOAD 65536
#define PIECES_MAX 16 /* the kernel's packets end at 8 * 65,535 bytes (GSO_MAX_SIZE) */

/*
 * One piece of a packet: its headers again, and at most PIECE_PAYLOAD bytes of its payload from `skip` on. A global
 * function, which the verifier checks by itself: inlined into a loop it is more than the older ones follow.
 * @param header_length at most PIECE_HEADERS; EGRESS_BIT is added for the direction
 * @returns 0, or 1 when the rest of the packet cannot be had either
 */
#define EGRESS_BIT 0x80000000u
__noinline int emit_piece(struct __sk_buff *skb, __u32 header_length, __u32 skip, __u64 cookie, __u32 netns)
{
	bool egress = header_length & EGRESS_BIT;
	__u32 last_header = (header_length & ~EGRESS_BIT) - 1;
	__u32 last = skb->len - (last_header + 1) - skip - 1;
	struct packet_record *record =
		bpf_ringbuf_reserve(&packet_ring, sizeof(*record) + PIECE_HEADERS + PIECE_PAYLOAD, 0);

	if (!record) {
		count_loss(LOSS_PACKET_RING_FULL);
		return 1;
	}
	fill_packet(record, skb, cookie, netns, egress);
	if (last > PIECE_PAYLOAD - 1)
		last = PIECE_PAYLOAD - 1;
	/* Changes nothing, but this the verifiers follow. */
	asm volatile("" : "+r"(last_header), "+r"(last));
	last_header &= PIECE_HEADERS - 1;
	last &= PIECE_PAYLOAD - 1;
	record->payload_skip = skip;
	record->captured = last_header + 1 + last + 1;
	record->packet_length = record->captured + skip;
	record->header.length = (sizeof(*record) + record->captured + 7) & ~7u;
	if (bpf_skb_load_bytes(skb, 0, record + 1, last_header + 1) != 0 ||
	    bpf_skb_load_bytes(skb, last_header + 1 + skip, (__u8 *)(record + 1) + last_header + 1, last + 1) != 0) {
		count_loss(LOSS_LOAD_BYTES_FAILED);
		bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
		return 1;
	}
	bpf_ringbuf_submit(record, 0);
	return 0;
}

/* A packet beyond the largest class (BIG TCP). */
static __always_inline void emit_pieces(struct __sk_buff *skb, __u32 header_length, __u64 cookie, __u32 netns,
					bool egress)
{
	__u32 payload_length = skb->len - header_length;

	if (header_length > PIECE_HEADERS) {
		count_loss(LOSS_HEADERS_UNREADABLE);
		return;
	}
	for (__u32 skip = 0; skip < PIECES_MAX * PIECE_PAYLOAD; skip += PIECE_PAYLOAD) {
		if (skip >= payload_length)
			return;
		if (emit_piece(skb, header_length | (egress ? EGRESS_BIT : 0), skip, cookie, netns) != 0)
			return;
	}
	count_loss(LOSS_PACKET_TOO_LARGE);
}

/*
 * A packet, whatever its size. Global, so that the verifier goes through the classes once instead of once for each way
 * that leads here; inlined it was no faster. Classes: small requests, TLS handshakes, an Ethernet frame, jumbo frames,
 * one and more TLS records, and all that IP can hold.
 * @param header_length up to the payload; EGRESS_BIT is added for the direction
 */
__noinline int emit(struct __sk_buff *skb, __u32 header_length, __u64 cookie, __u32 netns)
{
	bool egress = header_length & EGRESS_BIT;
	__u32 length = skb->len;

	if (length <= 200)
		emit_whole(skb, cookie, netns, egress, 200);
	else if (length <= 456)
		emit_whole(skb, cookie, netns, egress, 456);
	else if (length <= 968)
		emit_whole(skb, cookie, netns, egress, 968);
	else if (length <= 1544)
		emit_whole(skb, cookie, netns, egress, 1544);
	else if (length <= 4040)
		emit_whole(skb, cookie, netns, egress, 4040);
	else if (length <= 9064)
		emit_whole(skb, cookie, netns, egress, 9064);
	else if (length <= 17352)
		emit_whole(skb, cookie, netns, egress, 17352);
	else if (length <= 33736)
		emit_whole(skb, cookie, netns, egress, 33736);
	else if (length <= 65576) /* 65,535 bytes behind an IPv6 header */
		emit_whole(skb, cookie, netns, egress, 65576);
	else
		emit_pieces(skb, header_length & ~EGRESS_BIT, cookie, netns, egress);
	return 0;
}

#endif
