/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* x86-64: the context of a uprobe program (arch/x86/include/asm/ptrace.h), and the calling convention of System V. */
#ifndef WIRESPAN_ARCH_X86_H
#define WIRESPAN_ARCH_X86_H

#include <linux/types.h>

struct pt_regs {
	__u64 r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp, ss;
};

#define ARGUMENT_0(ctx) ((ctx)->di)
#define ARGUMENT_1(ctx) ((ctx)->si)
#define ARGUMENT_2(ctx) ((ctx)->dx)
#define ARGUMENT_3(ctx) ((ctx)->cx)
#define ARGUMENT_4(ctx) ((ctx)->r8)
#define ARGUMENT_5(ctx) ((ctx)->r9)
#define STACK_POINTER(ctx) ((ctx)->sp)
#define STACK_ARGUMENTS 8 /* behind the return address */

#endif
