// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * TLS secrets from OpenSSL 3 and 4: one entry probe on
 *
 *     int EVP_KDF_derive(EVP_KDF_CTX *ctx, unsigned char *key, size_t keylen, const OSSL_PARAM params[]);
 *
 * through which libssl derives every secret of TLS. Its arguments are public ABI (openssl/core.h, openssl/kdf.h), so no
 * private structure is ever read. Three of its calls matter; every other one leaves as early as it can:
 *
 *  - TLS 1.3, label "s hs traffic": key = the handshake secret, data = Transcript-Hash(ClientHello..ServerHello). Of
 *    the two calls with these values ("c hs traffic" has the same) this is the one that both the client and the server
 *    make first.
 *  - TLS 1.3, label "c e traffic": key = the early secret, data = Transcript-Hash(ClientHello).
 *  - TLS 1.2 and before, first seed "key expansion": secret = the master secret, then the seeds server_random and
 *    client_random.
 *
 * Parameters are found by their key string, never by their index. To spare reads of the traced process's memory, a
 * parameter's strings are only read when its size can be that of a wanted one.
 */
#include <linux/types.h>
#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include "secret_probe.h"
#include "ossl_params.h"

#define LABEL_S_HS_TRAFFIC 12 /* lengths; no two wanted labels share one */
#define LABEL_C_E_TRAFFIC 11
#define SEED_KEY_EXPANSION 13
#define LABEL_MIN 11
#define LABEL_MAX 13

#define RANDOM_LENGTH 32
#define HASH_MIN 32 /* SHA-256 */
#define HASH_MAX 48 /* SHA-384 */
#define MASTER_SECRET_LENGTH 48

/*
 * What is known of a call's parameters is kept in numbers, by their places in the array, never in a struct on the
 * stack.
 *
 * The functions that look at parameters are global: the verifier checks them by themselves, instead of once for each
 * way that leads there, and knows nothing of what they return. They do not sleep: a program that may not sleep could
 * not have them then. What they cannot read they report by its place; it is brought into memory, and they are asked
 * again.
 */
#define UNREADABLE (1ULL << 32) /* with the place of the parameter in the lowest bits */
#define PLACE(result) ((result) & (PARAMS_MAX - 1))

/*
 * Goes over all parameters.
 * @returns bits 0..15: the places of what may be a wanted label, by its size; bits 16..31: of what may be a secret, a
 * hash or a random
 */
__noinline __u64 survey(__u64 params, __u32 block_number)
{
	struct head param;
	__u64 places = 0;
	__u32 place;

	for (place = 0; place < PARAMS_MAX; place++) {
		if (read_head(&param, params, place, block_number) != 0)
			return UNREADABLE | place;
		if (param.key == 0)
			break;
		if (param.data_size == HASH_MIN || param.data_size == HASH_MAX)
			places |= 1ULL << (16 + place);
		else if (param.data_size >= LABEL_MIN && param.data_size <= LABEL_MAX)
			places |= 1ULL << place;
	}
	return places;
}

/*
 * "s hs tra" "ffic"; "c e traf" "fic"; "key expa" "nsion": the first eight bytes of a label of this size, then four
 * from a fixed place.
 */
static __always_inline __u64 tail_of_label(__u64 size)
{
	return size == LABEL_S_HS_TRAFFIC ? 8 : size == LABEL_C_E_TRAFFIC ? 7 : 9;
}

static __always_inline __u64 classify_label(__u64 size, __u64 head, __u32 tail)
{
	if (size == LABEL_S_HS_TRAFFIC)
		return head == 0x6172742073682073ULL && tail == 0x63696666 ? SECRET_TLS13_HANDSHAKE : 0;
	if (size == LABEL_C_E_TRAFFIC)
		return head == 0x6661727420652063ULL && tail == 0x63696666 ? SECRET_TLS13_EARLY : 0;
	return head == 0x617078652079656bULL && tail == 0x6e6f6973 ? SECRET_TLS12_MASTER : 0;
}

#define NO_LABEL 16 /* another parameter of that size */

/* @returns the kind of secret, 0 when the label is not a wanted one, or UNREADABLE */
__noinline __u64 kind_of_label(__u64 address, __u64 size)
{
	__u64 head = 0;
	__u32 tail = 0;

	if (bpf_probe_read_user(&head, sizeof(head), (void *)address) != 0 ||
	    bpf_probe_read_user(&tail, sizeof(tail), (void *)(address + tail_of_label(size))) != 0)
		return UNREADABLE;
	return classify_label(size, head, tail);
}

/*
 * Looks at a parameter that may be a wanted label.
 * @returns NO_LABEL, the kind of secret, 0 when it is a label or first seed that is not wanted, or UNREADABLE
 */
__noinline __u64 kind_of_param(__u64 params, __u32 place, __u32 block_number)
{
	struct head param;
	__u64 word, kind;

	if (read_head(&param, params, place, block_number) != 0)
		return UNREADABLE | place;
	word = key_word(param.key);
	if (word == 0)
		return UNREADABLE | place;
	if (param.data_size == SEED_KEY_EXPANSION ? (word & MASK(5)) != WORD_SEED : (word & MASK(6)) != WORD_LABEL)
		return NO_LABEL;
	kind = kind_of_label(param.data, param.data_size);
	return kind & UNREADABLE ? UNREADABLE | place : kind;
}

/* The values of a wanted call: the kind of secret, their places, and which of them are there. */
#define KIND(values) (((values) >> 20) & 3)
#define HAS_SECRET (1ULL << 12)
#define HAS_CONTEXT (1ULL << 13)
#define HAS_CLIENT_RANDOM (1ULL << 14)
#define LONG_SECRET (1ULL << 15) /* of HASH_MAX bytes, else of HASH_MIN */
#define LONG_CONTEXT (1ULL << 16)
#define SECRET_PLACE(values) (15 & (values))
#define CONTEXT_PLACE(values) (((values) >> 4) & 15) /* of server_random in TLS 1.2 */
#define CLIENT_RANDOM_PLACE(values) (((values) >> 8) & 15)

static __always_inline __u64 with_secret(__u64 values, __u32 place, bool is_long)
{
	return (values & ~(15ULL | LONG_SECRET)) | HAS_SECRET | place | (is_long ? LONG_SECRET : 0);
}

static __always_inline __u64 with_context(__u64 values, __u32 place, bool is_long)
{
	return (values & ~(15ULL << 4 | LONG_CONTEXT)) | HAS_CONTEXT | place << 4 | (is_long ? LONG_CONTEXT : 0);
}

/*
 * Adds a parameter that may be one of the values.
 * @returns the values with it, or UNREADABLE
 */
__noinline __u64 with_param(__u64 params, __u32 place, __u64 values, __u32 block_number)
{
	struct head param;
	bool is_long;
	__u64 word;

	place &= PARAMS_MAX - 1;
	if (read_head(&param, params, place, block_number) != 0)
		return UNREADABLE | place;
	word = key_word(param.key);
	if (word == 0)
		return UNREADABLE | place;
	is_long = param.data_size == HASH_MAX;
	if (KIND(values) == SECRET_TLS12_MASTER) {
		if ((word & MASK(7)) == WORD_SECRET)
			return with_secret(values, place, is_long);
		/* The seeds: "key expansion", server_random, client_random. */
		if ((word & MASK(5)) != WORD_SEED || is_long)
			return values;
		if (!(values & HAS_CONTEXT))
			return with_context(values, place, false);
		if (!(values & HAS_CLIENT_RANDOM))
			return values | HAS_CLIENT_RANDOM | place << 8;
	} else if ((word & MASK(4)) == WORD_KEY) {
		return with_secret(values, place, is_long);
	} else if ((word & MASK(5)) == WORD_DATA) {
		return with_context(values, place, is_long);
	}
	return values;
}

/*
 * @returns the kind of secret that a call derives, by the labels at these places; 0: none that is wanted; or UNREADABLE
 */
__noinline __u64 find_kind(__u64 params, __u64 places, __u32 block_number)
{
	__u64 kind;
	__u32 place;

	for (place = 0; place < PARAMS_MAX; place++) {
		if (!((places >> place) & 1))
			continue;
		kind = kind_of_param(params, place, block_number);
		if (kind != NO_LABEL)
			return kind;
	}
	return 0;
}

/* @returns the values at these places, of a secret of that kind; or UNREADABLE */
__noinline __u64 find_values(__u64 params, __u64 places, __u32 kind, __u32 block_number)
{
	__u64 values = (__u64)kind << 20;
	__u32 place;

	for (place = 0; place < PARAMS_MAX; place++) {
		if (!((places >> (16 + place)) & 1))
			continue;
		values = with_param(params, place, values, block_number);
		if (values & UNREADABLE)
			return values;
	}
	return values;
}

/* Whether the sizes are those of a TLS cipher suite. */
static __always_inline bool is_whole(__u64 values)
{
	const __u64 tls12 = HAS_SECRET | HAS_CONTEXT | HAS_CLIENT_RANDOM | LONG_SECRET;
	const __u64 tls13 = HAS_SECRET | HAS_CONTEXT;

	if (KIND(values) == SECRET_TLS12_MASTER)
		return (values & tls12) == tls12;
	return (values & tls13) == tls13 && !(values & LONG_SECRET) == !(values & LONG_CONTEXT);
}

/* Reads the value of a parameter, of 32 or 48 bytes. @returns not 0 when it could not be read */
static __always_inline int read_value(void *to, __u64 params, __u32 place, bool is_long, __u32 block_number)
{
	struct head param;

	if (read_head(&param, params, place, block_number) != 0)
		return 1;
	return is_long ? bpf_probe_read_user(to, HASH_MAX, (void *)param.data)
		       : bpf_probe_read_user(to, HASH_MIN, (void *)param.data);
}

/* Functions of their own, for the sake of the frame. */
static __noinline int read_secret(struct secret_record *record, __u64 params, __u64 values, __u32 block_number)
{
	record->secret_length = values & LONG_SECRET ? HASH_MAX : HASH_MIN;
	return read_value(record->secret, params, SECRET_PLACE(values), values & LONG_SECRET, block_number);
}

static __noinline int read_context(struct secret_record *record, __u64 params, __u64 values, __u32 block_number)
{
	if (KIND(values) == SECRET_TLS12_MASTER) {
		record->context_length = 2 * RANDOM_LENGTH;
		if (read_value(record->context + RANDOM_LENGTH, params, CLIENT_RANDOM_PLACE(values), false,
			       block_number) != 0)
			return 1;
	} else {
		record->context_length = values & LONG_CONTEXT ? HASH_MAX : HASH_MIN;
	}
	return read_value(record->context, params, CONTEXT_PLACE(values), values & LONG_CONTEXT, block_number);
}

/* @returns not 0 when a value could not be read; nothing was emitted then */
static __noinline int emit_record(struct pt_regs *ctx, __u64 params, __u64 values, __u32 block_number)
{
	struct secret_record *record = reserve_secret(ctx, KIND(values));

	if (!record)
		return 0;
	/* No waiting for pages here: what comes after a reserved record in the ring waits for it. */
	if (read_secret(record, params, values, block_number) != 0 ||
	    read_context(record, params, values, block_number) != 0) {
		bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
		return 1;
	}
	COUNT(emitted);
	bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP); /* the handshake's packets wake the reader */
	return 0;
}

/*
 * Brings a parameter, its key and its data into memory, where the program may wait for that. They may well not be
 * there: the strings are in the library's constants.
 */
static __noinline int fault_in_param(__u64 address)
{
	__u64 size = 0;

	if (!may_fault)
		return 0;
	fault_in(address, sizeof(__u64)); /* the key's word; where its end is not mapped, the string is shorter */
	if (bpf_copy_from_user(&size, sizeof(size), (void *)(address + PARAM_SIZE)) != 0 || size < LABEL_MIN ||
	    size > HASH_MAX)
		return 0;
	fault_in(address + PARAM_DATA, size);
	return 0;
}

/*
 * Asks; and asks again after what could not be read was brought into memory, which a run that has a block must not wait
 * for.
 */
#define ASK(result, question)                                                                              \
	do {                                                                                               \
		(result) = (question);                                                                     \
		for (int again = 0; again < PAGES_MAX && may_fault && block_number == NO_BLOCK; again++) { \
			if (!(UNREADABLE & (result)))                                                      \
				break;                                                                     \
			fault_in_param(address_of(params, PLACE(result)));                                 \
			(result) = (question);                                                             \
		}                                                                                          \
	} while (0)
#define PAGES_MAX 4 /* the parameters and strings of a call lie on a few pages */

#define DONE 0
#define UNREAD 1 /* what it is could not be read; nothing was counted */

/* @returns DONE or UNREAD */
static __noinline int derive(struct pt_regs *ctx, __u64 params, __u32 block_number)
{
	__u64 places, kind, values;

	ASK(places, survey(params, block_number));
	if (places & UNREADABLE)
		return UNREAD;
	if ((places & 0xffff) == 0)
		return DONE;
	ASK(kind, find_kind(params, places, block_number));
	if (kind & UNREADABLE)
		return UNREAD;
	if (kind == 0)
		return DONE;
	ASK(values, find_values(params, places, kind, block_number));
	if (values & UNREADABLE)
		return UNREAD;
	if (!is_whole(values)) {
		COUNT(unexpected_values);
		return DONE;
	}
	if (emit_record(ctx, params, values, block_number) == 0)
		return DONE;
	if (block_number != NO_BLOCK)
		return UNREAD;
	fault_in_param(address_of(params, SECRET_PLACE(values)));
	fault_in_param(address_of(params, CONTEXT_PLACE(values)));
	fault_in_param(address_of(params, CLIENT_RANDOM_PLACE(values)));
	if (emit_record(ctx, params, values, block_number) != 0)
		COUNT(values_unreadable);
	return DONE;
}

SEC("uprobe")
int wirespan_kdf(struct pt_regs *ctx)
{
	__u64 params = ARGUMENT_3(ctx);
	__u32 block_number;
	int result;

	/*
	 * Keys and nonces: a TLS 1.3 secret has the length of its hash, a TLS 1.2 key block is at least 40 bytes long.
	 */
	if (ARGUMENT_2(ctx) < HASH_MIN || params == 0)
		return 0;
	block_number = take_block(params);
	if (block_number < BLOCKS) {
		result = derive(ctx, params, block_number);
		give_block_back(block_number);
		if (result == DONE)
			return 0;
	}
	if (derive(ctx, params, NO_BLOCK) == UNREAD)
		COUNT(params_unreadable);
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
