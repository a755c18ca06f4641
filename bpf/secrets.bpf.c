// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * TLS secrets from OpenSSL 3 and 4: one entry probe on
 *
 *     int EVP_KDF_derive(EVP_KDF_CTX *ctx, unsigned char *key, size_t keylen, const OSSL_PARAM params[]);
 *
 * through which libssl derives every secret of TLS. Its arguments are public ABI (openssl/core.h, openssl/kdf.h), so no private
 * structure is ever read. Three of its calls are of use; every other one leaves as early as it can:
 *
 *  - TLS 1.3, label "s hs traffic": key = the handshake secret, data = Transcript-Hash(ClientHello..ServerHello). Of the two calls with
 *    these values ("c hs traffic" has the same) this is the one that both the client and the server make first.
 *  - TLS 1.3, label "c e traffic": key = the early secret, data = Transcript-Hash(ClientHello).
 *  - TLS 1.2 and before, first seed "key expansion": secret = the master secret, then the seeds server_random and client_random.
 *
 * Parameters are found by their key string, never by their index. To spare reads of the traced process's memory, a parameter's
 * strings are only read when its size can be that of a wanted one.
 */
#include <linux/types.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "events.h"
#include "ring.h"

/* x86-64, arch/x86/include/asm/ptrace.h; the context of a uprobe program. Only the argument registers are named as used. */
struct pt_regs {
	__u64 r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp, ss;
};

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

#define PARAMS_MAX 16
/* Read at once: all parameters of libssl's TLS 1.3 calls with their end, and all that is wanted of TLS 1.2's 8. More does not fit the stack. */
#define PARAMS_BLOCK 7

/* Little-endian words of the key strings, their NUL included. */
#define WORD_KEY 0x0079656bULL	       /* "key" */
#define WORD_DATA 0x0061746164ULL      /* "data" */
#define WORD_LABEL 0x006c6562616cULL   /* "label" */
#define WORD_SEED 0x0064656573ULL      /* "seed" */
#define WORD_SECRET 0x00746572636573ULL /* "secret" */
#define MASK(length) ((1ULL << (8 * (length))) - 1)

#define LABEL_S_HS_TRAFFIC 12 /* lengths; no two wanted labels share one */
#define LABEL_C_E_TRAFFIC 11
#define SEED_KEY_EXPANSION 13

#define RANDOM_LENGTH 32
#define HASH_MIN 32 /* SHA-256 */
#define HASH_MAX 48 /* SHA-384 */
#define MASTER_SECRET_LENGTH 48

/* What was lost, by reason; the order is known to native/probes.cc. */
struct secret_losses {
	__u64 ring_full;
	__u64 params_unreadable; /* what says which derivation it is: it may have been a wanted one */
	__u64 values_unreadable;
	__u64 unexpected_values; /* the wanted label, with a secret or hash of a size that no TLS cipher suite has */
	__u64 emitted;
};
struct secret_losses secret_losses;

/* Set before loading: bpf_get_attach_cookie exists (5.15). Where it is 0 the verifier removes the call. */
const volatile __u8 has_attach_cookie = 0;

/*
 * Set before loading: the program is sleepable (6.0) and may wait for pages. A library's strings are only in a process's page table once it
 * has touched them or their neighbours, and the kernel takes cold ones out again: a new process's "s hs traffic" may well not be there.
 * Where it is 0 the verifier removes the calls.
 */
const volatile __u8 may_fault = 0;

#define COUNT(field) __sync_fetch_and_add(&secret_losses.field, 1)

/* What a block of parameters holds of the wanted ones; user addresses. */
struct found {
	__u64 secret; /* `key` of HKDF, `secret` of the TLS 1 PRF */
	__u64 context; /* `data` of HKDF, server_random of the PRF */
	__u64 client_random;
	__u32 secret_size;
	__u32 context_size;
	__u8 kind;
	__u8 seeds; /* 1: "key expansion" was seen; 2: server_random; 3: client_random */
	__u8 end;
};

/*
 * Global functions, this one and the next: the verifier checks them by themselves, instead of once for each parameter and each way that
 * leads there. That halves the time to load the program. They do not sleep: a program that may not sleep could not have them then.
 */

/* 0: the string is empty or cannot be read. */
__noinline __u64 key_word(__u64 address)
{
	__u64 word = 0;
	/* A string that ends less than 8 bytes before an unreadable page is read by its NUL. */
	if (bpf_probe_read_user(&word, sizeof(word), (void *)address) != 0)
		bpf_probe_read_user_str(&word, sizeof(word), (void *)address);
	return word;
}

#define UNREADABLE (-1)

/* "s hs tra" "ffic"; "c e traf" "fic"; "key expa" "nsion": the first eight bytes of a label of this size, then four from a fixed place. */
static __always_inline __u64 tail_of_label(__u64 size)
{
	return size == LABEL_S_HS_TRAFFIC ? 8 : size == LABEL_C_E_TRAFFIC ? 7 : 9;
}

static __always_inline int classify_label(__u64 size, __u64 head, __u32 tail)
{
	if (size == LABEL_S_HS_TRAFFIC)
		return head == 0x6172742073682073ULL && tail == 0x63696666 ? SECRET_TLS13_HANDSHAKE : 0;
	if (size == LABEL_C_E_TRAFFIC)
		return head == 0x6661727420652063ULL && tail == 0x63696666 ? SECRET_TLS13_EARLY : 0;
	return head == 0x617078652079656bULL && tail == 0x6e6f6973 ? SECRET_TLS12_MASTER : 0;
}

/* 0: not a wanted one. */
__noinline int kind_of_label(__u64 address, __u64 size)
{
	__u64 head = 0;
	__u32 tail = 0;

	if (bpf_probe_read_user(&head, sizeof(head), (void *)address) != 0 ||
	    bpf_probe_read_user(&tail, sizeof(tail), (void *)(address + tail_of_label(size))) != 0)
		return UNREADABLE;
	return classify_label(size, head, tail);
}

/* Brings the pages of a value into memory, where the program may wait for that. */
static __always_inline void fault_in(__u64 address, __u32 size)
{
	__u8 byte;

	if (!may_fault || address == 0)
		return;
	bpf_copy_from_user(&byte, 1, (void *)address);
	bpf_copy_from_user(&byte, 1, (void *)(address + size - 1));
}

static __always_inline __u64 read_key_word(__u64 address)
{
	__u64 word = key_word(address);

	if (word != 0 || address == 0)
		return word;
	/* When that fails, at the end of what is mapped, the string's own page is there nevertheless. */
	if (!may_fault || bpf_copy_from_user(&word, sizeof(word), (void *)address) != 0)
		word = key_word(address);
	if (word == 0)
		COUNT(params_unreadable);
	return word;
}

static __always_inline int read_kind_of_label(__u64 address, __u64 size)
{
	int kind = kind_of_label(address, size);
	__u64 head = 0;
	__u32 tail = 0;

	if (kind != UNREADABLE)
		return kind;
	if (may_fault && bpf_copy_from_user(&head, sizeof(head), (void *)address) == 0 &&
	    bpf_copy_from_user(&tail, sizeof(tail), (void *)(address + tail_of_label(size))) == 0)
		return classify_label(size, head, tail);
	COUNT(params_unreadable);
	return 0;
}

static __always_inline void look_at(const struct ossl_param *param, struct found *found)
{
	__u64 word, size = param->data_size;

	if (size == LABEL_S_HS_TRAFFIC || size == LABEL_C_E_TRAFFIC || size == SEED_KEY_EXPANSION) {
		__u8 kind;
		if (found->kind != 0)
			return;
		word = read_key_word(param->key);
		if (size == SEED_KEY_EXPANSION) {
			if ((word & MASK(5)) != WORD_SEED || found->seeds != 0)
				return;
		} else if ((word & MASK(6)) != WORD_LABEL) {
			return;
		}
		kind = read_kind_of_label(param->data, size);
		if (kind == 0) {
			found->end = 1; /* another label, or another derivation by seeds */
			return;
		}
		found->kind = kind;
		if (kind == SECRET_TLS12_MASTER)
			found->seeds = 1;
	}
}

static __always_inline void take_value(const struct ossl_param *param, struct found *found)
{
	__u64 word, size = param->data_size;

	if (size != HASH_MIN && size != HASH_MAX)
		return;
	word = read_key_word(param->key);
	if (found->kind == SECRET_TLS12_MASTER) {
		if ((word & MASK(7)) == WORD_SECRET) {
			found->secret = param->data;
			found->secret_size = size;
		} else if ((word & MASK(5)) == WORD_SEED && size == RANDOM_LENGTH) {
			if (found->seeds == 1)
				found->context = param->data;
			else if (found->seeds == 2)
				found->client_random = param->data;
			found->context_size = RANDOM_LENGTH;
			found->seeds++;
		}
	} else if ((word & MASK(4)) == WORD_KEY) {
		found->secret = param->data;
		found->secret_size = size;
	} else if ((word & MASK(5)) == WORD_DATA) {
		found->context = param->data;
		found->context_size = size;
	}
}

/* One value of 32 or 48 bytes. */
static __always_inline int read_value(void *to, __u64 from, __u32 size)
{
	return size == HASH_MAX ? bpf_probe_read_user(to, HASH_MAX, (void *)from) : bpf_probe_read_user(to, HASH_MIN, (void *)from);
}

/* @returns not 0 when a value could not be read; nothing was emitted then */
static __noinline int emit_record(struct pt_regs *ctx, const struct found *found)
{
	struct secret_record *record;
	int failed;

	record = bpf_ringbuf_reserve(&control_ring, sizeof(*record), 0);
	if (!record) {
		COUNT(ring_full);
		return 0;
	}
	__builtin_memset(record, 0, sizeof(*record));
	record->header.length = sizeof(*record);
	record->header.type = RECORD_SECRET;
	record->header.time_ns = bpf_ktime_get_boot_ns();
	record->tgid = bpf_get_current_pid_tgid() >> 32;
	record->kind = found->kind;
	record->secret_length = found->secret_size;
	if (has_attach_cookie)
		record->library = bpf_get_attach_cookie(ctx);
	/* No waiting for pages here: what comes after a reserved record in the ring waits for it. */
	failed = read_value(record->secret, found->secret, found->secret_size);
	if (found->kind == SECRET_TLS12_MASTER) {
		record->context_length = 2 * RANDOM_LENGTH;
		failed |= bpf_probe_read_user(record->context, RANDOM_LENGTH, (void *)found->context);
		failed |= bpf_probe_read_user(record->context + RANDOM_LENGTH, RANDOM_LENGTH, (void *)found->client_random);
	} else {
		record->context_length = found->context_size;
		failed |= read_value(record->context, found->context, found->context_size);
	}
	if (failed) {
		bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
		return failed;
	}
	COUNT(emitted);
	bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP); /* the handshake's packets wake the reader */
	return 0;
}

static __always_inline void emit(struct pt_regs *ctx, struct found *found)
{
	if (found->kind == SECRET_TLS12_MASTER) {
		if (found->secret_size != MASTER_SECRET_LENGTH || found->seeds != 3) {
			COUNT(unexpected_values);
			return;
		}
	} else if (found->secret_size == 0 || found->secret_size != found->context_size) {
		COUNT(unexpected_values);
		return;
	}
	if (emit_record(ctx, found) == 0)
		return;
	fault_in(found->secret, found->secret_size);
	fault_in(found->context, found->context_size);
	fault_in(found->client_random, RANDOM_LENGTH);
	if (emit_record(ctx, found) != 0)
		COUNT(values_unreadable);
}

/* The parameters one by one: an array whose end lies close to an unreadable page, or with more in it than the first block. */
static __noinline int collect_one_by_one(__u64 params, struct found *found)
{
	struct ossl_param param;
	int i, pass;

	found->kind = found->seeds = 0;
	for (pass = 0; pass < 2; pass++) {
		for (i = 0; i < PARAMS_MAX; i++) {
			__u64 address = params + i * sizeof(param);
			if (bpf_probe_read_user(&param, sizeof(param), (void *)address) != 0) {
				fault_in(address, sizeof(param));
				if (bpf_probe_read_user(&param, sizeof(param), (void *)address) != 0) {
					COUNT(params_unreadable);
					return 0;
				}
			}
			if (param.key == 0)
				break;
			if (pass == 0)
				look_at(&param, found);
			else
				take_value(&param, found);
			if (found->end)
				return 0;
		}
		if (found->kind == 0)
			return 0;
	}
	return 1;
}

SEC("uprobe")
int wirespan_kdf(struct pt_regs *ctx)
{
	struct ossl_param params[PARAMS_BLOCK];
	struct found found = {};
	__u64 address = ctx->cx;
	int i;

	/* Keys and nonces: a TLS 1.3 secret has the length of its hash, a TLS 1.2 key block is at least 40 bytes long. */
	if (ctx->dx < HASH_MIN || address == 0)
		return 0;
	if (bpf_probe_read_user(params, sizeof(params), (void *)address) != 0) {
		if (collect_one_by_one(address, &found))
			emit(ctx, &found);
		return 0;
	}

#pragma unroll
	for (i = 0; i < PARAMS_BLOCK; i++) {
		if (params[i].key == 0)
			break;
		look_at(&params[i], &found);
		if (found.end)
			return 0;
	}
	if (found.kind == 0 && i < PARAMS_BLOCK)
		return 0;
	if (found.kind != 0) {
#pragma unroll
		for (i = 0; i < PARAMS_BLOCK; i++) {
			if (params[i].key == 0)
				break;
			take_value(&params[i], &found);
		}
	}
	if (found.secret_size == 0 || found.context_size == 0 || (found.kind == SECRET_TLS12_MASTER && found.seeds < 3)) {
		if (!collect_one_by_one(address, &found))
			return 0;
	}
	emit(ctx, &found);
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
