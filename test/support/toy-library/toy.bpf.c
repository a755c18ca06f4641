// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The programs of a provider for the library in toy.c: the least that one can be. */
#include "secret_probe.h"

#define RANDOM_LENGTH 32
#define SECRET_SIZE 48

static __always_inline int emit(struct pt_regs *ctx, __u64 secret, __u64 random)
{
	struct secret_record *record = reserve_secret(ctx, SECRET_TLS12_MASTER);

	if (!record)
		return 0;
	record->secret_length = SECRET_SIZE;
	record->context_length = 2 * RANDOM_LENGTH;
	/* Where the server's random would be, what the place was given: for the test. */
	record->context[0] = place_parameter(ctx);
	if (bpf_probe_read_user(record->secret, SECRET_SIZE, (void *)secret) != 0 ||
	    bpf_probe_read_user(record->context + RANDOM_LENGTH, RANDOM_LENGTH, (void *)random) != 0) {
		bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
		COUNT(values_unreadable);
		return 0;
	}
	COUNT(emitted);
	bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
	return 0;
}

/* void toy_secret(const char *label, const unsigned char *secret, const unsigned char *random); */
SEC("uprobe")
int toy_secret(struct pt_regs *ctx)
{
	return emit(ctx, ARGUMENT_1(ctx), ARGUMENT_2(ctx));
}

/* void toy_early(long, long, long, long, long, long, const unsigned char *secret, const unsigned char *random); */
SEC("uprobe")
int toy_early(struct pt_regs *ctx)
{
	__u64 arguments[2] = {};

	if (bpf_probe_read_user(arguments, sizeof(arguments), (void *)(STACK_POINTER(ctx) + STACK_ARGUMENTS)) != 0) {
		COUNT(params_unreadable);
		return 0;
	}
	return emit(ctx, arguments[0], arguments[1]);
}

char _license[] SEC("license") = "Dual BSD/GPL";
