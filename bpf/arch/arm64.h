/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* arm64: the context of a uprobe program (arch/arm64/include/uapi/asm/ptrace.h), and the calling convention AAPCS64. */
#ifndef WIRESPAN_ARCH_ARM64_H
#define WIRESPAN_ARCH_ARM64_H

#include <linux/types.h>

/* Begins as the kernel's struct pt_regs does, whose further members are the kernel's own. */
struct pt_regs {
	__u64 regs[31];
	__u64 sp;
	__u64 pc;
	__u64 pstate;
};

#define ARGUMENT_0(ctx) ((ctx)->regs[0])
#define ARGUMENT_1(ctx) ((ctx)->regs[1])
#define ARGUMENT_2(ctx) ((ctx)->regs[2])
#define ARGUMENT_3(ctx) ((ctx)->regs[3])
#define ARGUMENT_4(ctx) ((ctx)->regs[4])
#define ARGUMENT_5(ctx) ((ctx)->regs[5])
#define STACK_POINTER(ctx) ((ctx)->sp)
#define STACK_ARGUMENTS 0

#endif
