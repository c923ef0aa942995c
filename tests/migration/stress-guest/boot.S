/*
 * Stress guest: from the multiboot entry, or a startup IPI, to CPL 3
 *
 * Some KVM builds run guest code natively only in 64-bit mode at CPL 3 and
 * emulate all the rest. So every vCPU passes through CPL 0 as briefly as it can
 * and does its work at CPL 3, with interrupts off for good.
 *
 * Copyright (c) 2026 Dirty throttle maintainers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "layout.h"

#define MULTIBOOT_MAGIC 0x1badb002
#define MULTIBOOT_FLAGS 0x00000003      /* page-aligned modules, memory size */

#define MSR_EFER 0xc0000080
#define EFER_LME 0x100
#define CR0_PROTECTED 0x00000013        /* ET, MP, PE; caches on */
#define CR0_PAGING 0x80000000
#define CR4_PAE 0x20
#define RFLAGS_NO_INTERRUPTS 0x2

/* Present, writable, user, accessed: so the CPU never writes to the tables */
#define PTE_TABLE 0x27
/* The same, and dirty, for a page of 2 MiB */
#define PTE_LARGE_USER 0xe7
/* Present, writable, not cached, accessed, dirty, 2 MiB */
#define PTE_LARGE_DEVICE 0xfb
#define PTE_LARGE_USER_DEVICE 0xff

        .section .multiboot, "a"
        .p2align 2
        .long MULTIBOOT_MAGIC
        .long MULTIBOOT_FLAGS
        .long -(MULTIBOOT_MAGIC + MULTIBOOT_FLAGS)

        .text
        .code32
        .globl _start
_start:
        cli
        cld
        mov     %ebx, multiboot_info
        lgdt    gdt_descriptor
        ljmp    $SEL_CODE32, $1f
1:      mov     $SEL_DATA, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss

        /* No PIC line may keep asking for an interrupt nobody will take */
        mov     $0xff, %al
        outb    %al, $0x21
        outb    %al, $0xa1

        mov     $trampoline, %esi
        mov     $TRAMPOLINE, %edi
        mov     $(trampoline_end - trampoline), %ecx
        rep movsb

enter_long_mode:
        mov     $CR4_PAE, %eax
        mov     %eax, %cr4
        mov     $pml4, %eax
        mov     %eax, %cr3
        mov     $MSR_EFER, %ecx
        xor     %edx, %edx
        mov     $EFER_LME, %eax
        wrmsr
        mov     $(CR0_PAGING | CR0_PROTECTED), %eax
        mov     %eax, %cr0
        ljmp    $SEL_CODE64, $long_mode

        .code64
long_mode:
        mov     $SEL_USER_DATA, %eax
        mov     %eax, %ds
        mov     %eax, %es

        /* Slots are given out in the order of arrival, vCPU 0 comes first */
        mov     $1, %ebx
        lock xadd %ebx, slots_taken(%rip)
        mov     %ebx, %r12d
        shl     $PAGE_SHIFT, %r12
        lea     kernel_stacks + PAGE_SIZE(%r12), %rsp
        lidt    idt_descriptor(%rip)
        mov     %ebx, %edi
        call    boot_main               /* returns the vCPU's index, or never */

        shl     $4, %ebx
        add     $SEL_TSS, %ebx
        ltr     %bx
        mov     %eax, %edi
        /* As if user_main() had been called: its frame begins below a word */
        lea     user_stacks + PAGE_SIZE - 8(%r12), %rcx
        pushq   $SEL_USER_DATA
        push    %rcx
        pushq   $RFLAGS_NO_INTERRUPTS
        pushq   $SEL_USER_CODE64
        pushq   $user_main
        iretq

        /* Runs at TRAMPOLINE, in real mode, on a vCPU that has no stack yet */
        .code16
trampoline:
        cli
        xor     %ax, %ax
        mov     %ax, %ds
        lgdtl   TRAMPOLINE + (trampoline_gdt - trampoline)
        mov     $CR0_PROTECTED, %eax
        mov     %eax, %cr0
        data32 ljmp $SEL_CODE32, $ap_entry
        .p2align 2
trampoline_gdt:
        .word   gdt_end - gdt - 1
        .long   gdt
trampoline_end:

        .code32
ap_entry:
        mov     $SEL_DATA, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        jmp     enter_long_mode

        /* Each entry leaves vector and error code on the stack, as TrapFrame */
        .code64
        .macro  TRAP vector
trap_\vector:
        /* The CPU pushes an error code for these vectors itself */
        .if     !((0x60227d00 >> \vector) & 1)
        pushq   $0
        .endif
        pushq   $\vector
        jmp     trap_common
        .endm
        .altmacro
        .set    n, 0
        .rept   NR_TRAPS
        TRAP    %n
        .set    n, n + 1
        .endr

trap_common:
        mov     %rsp, %rdi
        and     $-16, %rsp
        call    trap_report

        .globl  timer_entry
timer_entry:
        lock btrl $0, (%rdi)
        jc      1f
        mov     $(LAPIC_BASE + LAPIC_EOI), %eax
        movl    $0, (%rax)
1:      iretq

        .section .rodata
        .globl  trap_entries
        .p2align 3
        .macro  TRAP_ENTRY vector
        .quad   trap_\vector
        .endm
trap_entries:
        .set    n, 0
        .rept   NR_TRAPS
        TRAP_ENTRY %n
        .set    n, n + 1
        .endr

gdt_descriptor:
        .word   gdt_end - gdt - 1
        .long   gdt
idt_descriptor:
        .word   NR_GATES * 16 - 1
        .quad   idt

        .data
        .globl  gdt
        .p2align 4
gdt:
        .quad   0
        .quad   0x00cf9b000000ffff      /* SEL_CODE32 */
        .quad   0x00cf93000000ffff      /* SEL_DATA */
        .quad   0x00af9b000000ffff      /* SEL_CODE64 */
        .quad   0x00cff3000000ffff      /* SEL_USER_DATA */
        .quad   0x00affb000000ffff      /* SEL_USER_CODE64 */
        .fill   2 * MAX_VCPUS, 8, 0
gdt_end:

        .globl  multiboot_info
multiboot_info:
        .long   0
slots_taken:
        .long   0

        /* Address = physical address, in pages of 2 MiB, up to 4 GiB */
        .p2align PAGE_SHIFT
pml4:
        .quad   pdpt + PTE_TABLE
        .fill   511, 8, 0
pdpt:
        .quad   page_directories + PTE_TABLE
        .quad   page_directories + PAGE_SIZE + PTE_TABLE
        .quad   page_directories + 2 * PAGE_SIZE + PTE_TABLE
        .quad   page_directories + 3 * PAGE_SIZE + PTE_TABLE
        .fill   508, 8, 0
page_directories:
        .set    addr, 0
        .rept   USER_END / 0x200000
        .quad   addr + PTE_LARGE_USER
        .set    addr, addr + 0x200000
        .endr
        .rept   (0x100000000 - USER_END) / 0x200000
        .if     addr == USER_REGISTERS
        .quad   addr + PTE_LARGE_USER_DEVICE
        .else
        .quad   addr + PTE_LARGE_DEVICE
        .endif
        .set    addr, addr + 0x200000
        .endr

        .bss
        .globl  idt, kernel_stacks
        .p2align PAGE_SHIFT
idt:
        .skip   NR_GATES * 16
        .p2align PAGE_SHIFT
kernel_stacks:
        .skip   PAGE_SIZE * MAX_VCPUS
        /* A page each, so that no vCPU dirties another's stack */
user_stacks:
        .skip   PAGE_SIZE * MAX_VCPUS

        .section .note.GNU-stack, "", @progbits
