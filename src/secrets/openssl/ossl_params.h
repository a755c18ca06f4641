/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Reads the parameters of a call of OpenSSL 3 and 4, an array of OSSL_PARAM, in the traced process's memory. */
#ifndef WIRESPAN_OSSL_PARAMS_H
#define WIRESPAN_OSSL_PARAMS_H

#include <linux/types.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/* openssl/core.h */
struct ossl_param {
	__u64 key; /* const char *, 0 ends the array */
	__u32 data_type;
	__u32 padding;
	__u64 data;
	__u64 data_size;
	__u64 return_size;
};
_Static_assert(sizeof(struct ossl_param) == 40, "OSSL_PARAM");

#define PARAM_DATA __builtin_offsetof(struct ossl_param, data)
#define PARAM_SIZE __builtin_offsetof(struct ossl_param, data_size)

#define PARAMS_MAX 16
#define PARAMS_BLOCK 8 /* read at once: all of libssl's calls, their end included */

/* Little-endian words of the key strings, their NUL included. */
#define WORD_KEY 0x0079656bULL		/* "key" */
#define WORD_DATA 0x0061746164ULL	/* "data" */
#define WORD_LABEL 0x006c6562616cULL	/* "label" */
#define WORD_SEED 0x0064656573ULL	/* "seed" */
#define WORD_SECRET 0x00746572636573ULL /* "secret" */
#define MASK(length) ((1ULL << (8 * (length))) - 1)

/*
 * Where parameters are read to, at once: a read for each costs more than all else here together [measured: 0.4 us a
 * call]. The stack has no room for them.
 *
 * A run of the program that raises `users` from 0 to 1 has the block until it lowers it again, and does not sleep until
 * then. One that finds another number lowers it at once, and reads the parameters one by one. This needs no atomic
 * operation that returns a value (5.12).
 */
struct block {
	__u64 users;
	struct ossl_param params[PARAMS_BLOCK];
	__u64 padding[7]; /* cache lines are not shared */
};
_Static_assert(sizeof(struct block) % 64 == 0, "a block is whole cache lines");

#define BLOCKS 256 /* processors beyond that share them */
#define NO_BLOCK BLOCKS

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, BLOCKS);
	__type(key, __u32);
	__type(value, struct block);
} param_blocks SEC(".maps");

/* Takes a block and fills it with the parameters. @returns its number, or NO_BLOCK */
__noinline __u32 take_block(__u64 params)
{
	__u32 number = bpf_get_smp_processor_id() & (BLOCKS - 1);
	struct block *block = bpf_map_lookup_elem(&param_blocks, &number);

	if (!block)
		return NO_BLOCK;
	__sync_fetch_and_add(&block->users, 1);
	if (*(volatile __u64 *)&block->users == 1 &&
	    bpf_probe_read_user(block->params, sizeof(block->params), (void *)params) == 0)
		return number;
	__sync_fetch_and_add(&block->users, -1);
	return NO_BLOCK;
}

__noinline int give_block_back(__u32 number)
{
	struct block *block = bpf_map_lookup_elem(&param_blocks, &number);

	if (block)
		__sync_fetch_and_add(&block->users, -1);
	return 0;
}

static __always_inline __u64 address_of(__u64 params, __u32 place)
{
	return params + (place & (PARAMS_MAX - 1)) * sizeof(struct ossl_param);
}

/* What is read of a parameter. */
struct head {
	__u64 key;
	__u64 data_type; /* and padding */
	__u64 data;
	__u64 data_size;
};

/* @returns not 0 when it could not be read */
static __always_inline int read_head(struct head *head, __u64 params, __u32 place, __u32 block_number)
{
	struct block *block;

	if (block_number >= BLOCKS || place >= PARAMS_BLOCK)
		return bpf_probe_read_user(head, sizeof(*head), (void *)address_of(params, place));
	block = bpf_map_lookup_elem(&param_blocks, &block_number);
	if (!block)
		return 1;
	head->key = block->params[place].key;
	head->data = block->params[place].data;
	head->data_size = block->params[place].data_size;
	return 0;
}

/* 0: the string is empty or cannot be read. */
__noinline __u64 key_word(__u64 address)
{
	__u64 word = 0;
	/* A string that ends less than 8 bytes before an unreadable page is read by its NUL. */
	if (bpf_probe_read_user(&word, sizeof(word), (void *)address) != 0)
		bpf_probe_read_user_str(&word, sizeof(word), (void *)address);
	return word;
}

#endif
