/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What became of the TLS secrets that the probes came upon: shared by the program and by the addon. */
#ifndef WIRESPAN_SECRET_LOSSES_H
#define WIRESPAN_SECRET_LOSSES_H

#include <linux/types.h>

struct secret_losses {
	__u64 ring_full;
	__u64 params_unreadable; /* what says which derivation it is: it may have been a wanted one */
	__u64 values_unreadable;
	__u64 unexpected_values; /* the wanted label, with a secret or hash of a size that no TLS cipher suite has */
	__u64 emitted;
};

#endif
