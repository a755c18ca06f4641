/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The registers of a probed function, by their part in a call. What a program reads of its context it reads through
 * these names, so that it is the same for every processor:
 *
 *   ARGUMENT_0(ctx) to ARGUMENT_5(ctx)  integer arguments of a C function, at its first instruction
 *   STACK_POINTER(ctx)                  where its further arguments are, in the traced process's memory
 *   STACK_ARGUMENTS                     bytes from there to the first of them
 *
 * The build says which processor it is, by libbpf's names.
 */
#ifndef WIRESPAN_REGISTERS_H
#define WIRESPAN_REGISTERS_H

#if defined(__TARGET_ARCH_x86)
#include "x86.h"
#elif defined(__TARGET_ARCH_arm64)
#include "arm64.h"
#else
#error "no registers are known for this processor: add a file to bpf/arch/ and a target to native/arch/targets.mjs"
#endif

#endif
