/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * The registers as the kernel gives them to uprobes and kprobes; a stable interface of each architecture
 * (arch/<name>/include/uapi/asm/ptrace.h). PT_REGS_PARM1 and the like of bpf_tracing.h read them.
 */
#ifndef KUMON_REGISTERS_H
#define KUMON_REGISTERS_H

#if defined(__TARGET_ARCH_x86)
struct pt_regs {
    unsigned long r15, r14, r13, r12, rbp, rbx;
    unsigned long r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi;
    unsigned long orig_rax, rip, cs, eflags, rsp, ss;
};
#elif defined(__TARGET_ARCH_arm64)
struct user_pt_regs {
    u64 regs[31];
    u64 sp, pc, pstate;
};
#else
#error "the registers of this architecture are not described here"
#endif

#endif
