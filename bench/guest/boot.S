# SPDX-License-Identifier: Apache-2.0
#
# boot.S - the guest that other hypervisors run in the benchmarks
#
# What the reference VMM's guest programs do (csrc/vmm/guest.S), without their
# bookkeeping: on each tick of a 1000 Hz timer, so many steps over a working
# set; or steps without end. A step adds 1 to the first word of the next page,
# or writes a new number all over it. build.py assembles this and fills in the
# parameters.
#
# The image is 64 KiB and stands in for the firmware: at the reset vector is
# what a firmware does with a boot sector, and the sector is bootable from a
# disk as well. Where KVM interprets guests, a real firmware takes seconds and
# does not always come to an end.
#
# Interpreted guests again: plain integer instructions only, and the interrupt
# handler jumps to where it is needed, since there is no iret to be had.

	.equ SECTOR, 0x7c00		# where boot sectors are loaded
	.equ IDT, 0x8000
	.equ VECTOR_TICK, 0x20
	.equ STATUS, 0x9000		# what the harness reads
	.equ S_TICKS, 0			#   ticks handled
	.equ S_STEPS, 4			#   steps done, modulo 2^32
	.equ LAPIC, 0xfee00000
	.equ LAPIC_EOI, LAPIC + 0xb0
	.equ LAPIC_SPURIOUS, LAPIC + 0xf0
	.equ LAPIC_LVT_TIMER, LAPIC + 0x320
	.equ LAPIC_INITIAL_COUNT, LAPIC + 0x380
	.equ LAPIC_DIVIDE, LAPIC + 0x3e0
	.equ LAPIC_ENABLE, 0x1ff
	.equ DIVIDE_BY_1, 0xb
	.equ PERIODIC, 0x20000
	.equ TICK_COUNT, 1000000	# KVM counts nanoseconds: 1000 Hz
	.equ PAGE_SHIFT, 12
	.equ PAGE_BYTES, 4096
	.equ UNLIMITED, 0xffffffff
	.equ BATCH, 256			# unlimited: steps between two counts
	.equ WHOLE_PAGES, 2

	.section .sector, "ax"
	.code16
	.globl _start
_start:
	cli
	xorw	%ax, %ax
	movw	%ax, %ds
	lgdtl	gdt_register
	movl	%cr0, %eax
	orl	$1, %eax
	movl	%eax, %cr0
	ljmpl	$8, $protected

	.code32
protected:
	movl	$16, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	movl	$SECTOR, %esp

	# One gate: code segment 8, present, 32-bit interrupt gate.
	movl	$(8 << 16), %eax
	addl	$tick, %eax
	movl	%eax, IDT + 8 * VECTOR_TICK
	movl	$0x8e00, IDT + 8 * VECTOR_TICK + 4
	lidtl	idt_register

	# The old interrupt controllers are silent; the timer of the LAPIC beats.
	movb	$0xff, %al
	outb	%al, $0x21
	outb	%al, $0xa1
	movl	$LAPIC_ENABLE, LAPIC_SPURIOUS
	movl	$DIVIDE_BY_1, LAPIC_DIVIDE
	movl	$(PERIODIC | VECTOR_TICK), LAPIC_LVT_TIMER
	movl	first, %edi		# edi: the next page
	xorl	%ebp, %ebp		# ebp: fraction of a step, 16 bits
	movl	%ebp, STATUS + S_TICKS
	movl	%ebp, STATUS + S_STEPS
	cld
	cmpl	$UNLIMITED, rate
	je	endless
	movl	$TICK_COUNT, LAPIC_INITIAL_COUNT
wait:
	sti
	hlt
	jmp	wait

tick:
	movl	$0, LAPIC_EOI
	movl	$SECTOR, %esp
	incl	STATUS + S_TICKS
	addl	rate, %ebp
	movl	%ebp, %ecx
	andl	$0xffff, %ebp
	shrl	$16, %ecx
	jz	wait
	call	steps
	jmp	wait

endless:
	movl	$BATCH, %ecx
	call	steps
	incl	STATUS + S_TICKS
	jmp	endless

# ecx steps, in runs that end with the working set at the latest.
steps:
	addl	%ecx, STATUS + S_STEPS
1:	movl	end, %edx
	subl	%edi, %edx
	shrl	$PAGE_SHIFT, %edx	# edx: steps of this run
	cmpl	%ecx, %edx
	jbe	2f
	movl	%ecx, %edx
2:	subl	%edx, %ecx
	call	run
	cmpl	end, %edi
	jb	3f
	movl	first, %edi
3:	testl	%ecx, %ecx
	jnz	1b
	ret

run:
	cmpl	$WHOLE_PAGES, program
	je	rewrite
1:	incl	(%edi)
	addl	$PAGE_BYTES, %edi
	decl	%edx
	jnz	1b
	ret

rewrite:
	movl	%ecx, %ebx
	movl	(%edi), %eax
	incl	%eax
1:	movl	$(PAGE_BYTES / 4), %ecx
	rep stosl
	decl	%edx
	jnz	1b
	movl	%ebx, %ecx
	ret

	.balign	8
gdt:
	.quad	0
	.quad	0x00cf9a000000ffff	# 8: code, flat
	.quad	0x00cf92000000ffff	# 16: data, flat
gdt_register:
	.word	. - gdt - 1
	.long	gdt
idt_register:
	.word	8 * (VECTOR_TICK + 1) - 1
	.long	IDT

# Written by build.py, in this order.
	.org	0x1e0
program:
	.long	0			# 0 nothing, 1 four bytes, 2 all bytes
first:
	.long	0			# the working set
end:
	.long	0
rate:
	.long	0			# steps in a tick, 16.16; or UNLIMITED
	.org	510
	.word	0xaa55

# The last 64 KiB below 1 MiB, and below 4 GiB, where a processor starts.
	.section .reset, "ax"
	.code16
firmware:
	cli
	cld
	xorw	%ax, %ax
	movw	%ax, %es
	movw	$0xf000, %ax
	movw	%ax, %ds
	xorw	%si, %si
	movw	$SECTOR, %di
	movw	$256, %cx
	rep movsw
	ljmpw	$0, $SECTOR
	.org	0xf0
	ljmpw	$0xf000, $firmware
	.org	0x100
