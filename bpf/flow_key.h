/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The key of a connection's end, shared by the programs and by the addon, which enters the agent's own listeners. */
#ifndef WIRESPAN_FLOW_KEY_H
#define WIRESPAN_FLOW_KEY_H

#include <linux/types.h>

struct flow_key {
	__u32 local[4]; /* IPv4 as ::ffff:a.b.c.d */
	__u32 remote[4];
	__u16 local_port; /* network byte order */
	__u16 remote_port;
	__u32 scope; /* network namespace of loopback addresses, which every namespace has; else 0 */
};

#endif
