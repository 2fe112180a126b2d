# SPDX-License-Identifier: Apache-2.0
#
# guest.S - the guest programs
#
# Assembled into guest_image.c, which defines the names of layout.h as
# assembler symbols; copied to PVMM_CODE in guest memory. 64-bit, position
# independent. Some KVM backends interpret guest code in the kernel's
# instruction emulator, so only plain integer instructions are used (no SSE,
# no iretq: the emulator has none in long mode) and inner loops are short.
#
# Every vCPU runs
#
#	heartbeat; sometimes a device access; a batch of steps; wait for tick
#
# with interrupts off except in the wait. A tick is the LAPIC timer in
# TSC-deadline mode, in x2APIC mode. The handler therefore knows where it came from and
# jumps back to the loop instead of returning.
#
# Register use: rdi mailbox, rsi heartbeat page, r8 steps of this batch.
# Step routines may change all others.

	.intel_syntax noprefix

	.globl pvmm_guest_start, pvmm_guest_end
	.globl pvmm_guest_tick, pvmm_guest_spurious, pvmm_guest_exceptions
	.globl pvmm_guest_idle
	.globl pvmm_guest_sweep, pvmm_guest_sweep_marked
	.globl pvmm_guest_random, pvmm_guest_random_marked
	.globl pvmm_guest_read, pvmm_guest_read_marked
	.globl pvmm_guest_partial, pvmm_guest_partial_marked

	.equ MSR_TSC_DEADLINE, 0x6e0
	.equ MSR_X2APIC_EOI, 0x80b
	.equ MSR_X2APIC_SPURIOUS, 0x80f
	.equ MSR_X2APIC_LVT_TIMER, 0x832
	.equ LVT_TSC_DEADLINE, 0x40000
	.equ SPURIOUS_ENABLE, 0x100

# rax: the TSC
.macro read_tsc
	rdtsc
	shl	rdx, 32
	or	rax, rdx
.endm

.macro write_msr index, low
	mov	ecx, \index
	mov	eax, \low
	xor	edx, edx
	wrmsr
.endm

pvmm_guest_start:
	write_msr MSR_X2APIC_SPURIOUS, (SPURIOUS_ENABLE | PVMM_VECTOR_SPURIOUS)
	write_msr MSR_X2APIC_LVT_TIMER, (LVT_TSC_DEADLINE | PVMM_VECTOR_TICK)
	read_tsc
	mov	[rdi + M_DEADLINE], rax
	mov	[rsi + H_LAST], rax

guest_loop:
	call	heartbeat
	dec	qword ptr [rdi + M_COUNTDOWN]
	jnz	1f
	mov	rcx, [rdi + M_DEVICE_EVERY]
	mov	[rdi + M_COUNTDOWN], rcx
	call	device
1:	mov	r8, [rdi + M_BATCH]
	cmp	qword ptr [rdi + M_UNLIMITED], 0
	jne	2f
	call	next_tick
2:	test	r8, r8
	jz	3f
	mov	[rdi + M_RUNNING], r8
	mov	rax, [rdi + M_ENTRY]
	call	rax
	add	[rdi + M_STEPS], r8
3:	cmp	qword ptr [rdi + M_UNLIMITED], 0
	jne	guest_loop
guest_wait:
	sti
	hlt
	cli
	jmp	guest_wait

pvmm_guest_tick:
	write_msr MSR_X2APIC_EOI, 0
	mov	rsp, [rdi + M_STACK_TOP]
	jmp	guest_loop

# A spurious interrupt gets no EOI.
pvmm_guest_spurious:
	mov	rsp, [rdi + M_STACK_TOP]
	jmp	guest_wait

# Beat. Keeps the time since the last beat if it is the first one since the
# VMM asked (it clears H_FIRST_GAP), or the longest one.
heartbeat:
	read_tsc
	mov	rdx, [rsi + H_LAST]
	mov	[rsi + H_LAST], rax
	inc	qword ptr [rsi + H_COUNT]
	mov	rcx, rax
	sub	rcx, rdx
	jb	1f
	cmp	qword ptr [rsi + H_FIRST_GAP], 0
	jne	3f
	mov	[rsi + H_FIRST_GAP], rcx
3:	cmp	rcx, [rsi + H_MAX_GAP]
	jbe	2f
	mov	[rsi + H_MAX_GAP], rcx
	mov	[rsi + H_MAX_GAP_AT], rax
2:	ret
1:	inc	qword ptr [rsi + H_BACKWARDS]
	ret

# Set the timer to the next tick. r8: steps to do until then. A tick that is
# late by more than M_LATE starts a new series: no burst after a blackout.
next_tick:
	read_tsc
	mov	rbx, [rdi + M_DEADLINE]
	mov	r9, [rdi + M_TICK]
	add	rbx, r9
	mov	rcx, rax
	sub	rcx, rbx
	jb	1f
	cmp	rcx, [rdi + M_LATE]
	jbe	1f
	lea	rbx, [rax + r9]
1:	mov	[rdi + M_DEADLINE], rbx
	mov	ecx, MSR_TSC_DEADLINE
	mov	eax, ebx
	mov	rdx, rbx
	shr	rdx, 32
	wrmsr
	mov	r8, [rdi + M_CREDIT]
	add	r8, [rdi + M_PER_TICK]
	mov	eax, r8d
	mov	[rdi + M_CREDIT], rax
	shr	r8, 32
	ret

# Read the sequencer, check its number against the last one, echo it.
device:
	mov	edx, PVMM_PORT_SEQUENCE
	in	eax, dx
	mov	ecx, [rdi + M_SEQUENCE]
	imul	ecx, ecx, PVMM_LCG_MULTIPLIER
	add	ecx, PVMM_LCG_INCREMENT
	cmp	eax, ecx
	je	1f
	inc	qword ptr [rsi + H_DEVICE_ERRORS]
1:	mov	[rdi + M_SEQUENCE], eax
	mov	edx, PVMM_PORT_ECHO
	out	dx, eax
	mov	rcx, [rsi + H_DEVICE_READS]
	inc	rcx
	mov	[rsi + H_DEVICE_READS], rcx
	test	ecx, 15
	jnz	2f
	mov	edx, PVMM_PORT_SERIAL
	mov	eax, [rdi + M_LETTER]
	out	dx, al
2:	ret

# ---- step routines: r8 steps, r8 unchanged ---------------------------------
#
# Where a page has a shadow counter, M_INFLIGHT names the page before the two
# begin to differ: only that one may be behind when the vCPU is stopped.
#
# The _marked ones say after each write which page it was, in the log at
# PVMM_LOG_VA, bit n for page n. A vCPU can be stopped between write and
# mark: the VMM always takes M_INFLIGHT and M_INFLIGHT_SHADOW as written.

.macro announce marked, address, slot
	.if \marked
	mov	[rdi + \slot], \address
	.endif
.endm

# Changes rcx. rbp: the log.
.macro mark marked, address
	.if \marked
	mov	rcx, \address
	shr	rcx, PVMM_PAGE_SHIFT
	lock bts [rbp], rcx
	.endif
.endm

.macro load_log marked
	.if \marked
	movabs	rbp, PVMM_LOG_VA
	.endif
.endm

pvmm_guest_idle:
	ret

# Bump the counter of every page, in order.
.macro define_sweep name, marked
\name:
	load_log \marked
	mov	rbx, [rdi + M_POSITION]
	mov	r9, [rdi + M_PAGES]
	mov	r10, r8
1:	mov	r11, r9		# r11: steps until the end of this sweep
	sub	r11, rbx
	cmp	r11, r10
	jbe	2f
	mov	r11, r10
2:	sub	r10, r11
	mov	rax, rbx
	shl	rax, PVMM_PAGE_SHIFT
	add	rax, [rdi + M_SLICE]
	add	rbx, r11
3:	announce \marked, rax, M_INFLIGHT
	inc	qword ptr [rax]
	mark	\marked, rax
	add	rax, PVMM_PAGE_BYTES
	dec	r11
	jnz	3b
	cmp	rbx, r9
	jne	4f
	xor	ebx, ebx
4:	test	r10, r10
	jnz	1b
	mov	[rdi + M_POSITION], rbx
	ret
.endm

# Bump shadow counter rbx, then the counter of page rbx.
# r12: slice, r13: shadow. Changes rax (the page's address), rcx, rdx.
.macro bump marked
	lea	rdx, [r13 + rbx * 8]
	mov	rax, rbx
	shl	rax, PVMM_PAGE_SHIFT
	add	rax, r12
	announce \marked, rdx, M_INFLIGHT_SHADOW
	mov	[rdi + M_INFLIGHT], rax
	inc	qword ptr [rdx]
	inc	qword ptr [rax]
	mark	\marked, rdx
	mark	\marked, rax
.endm

# Bump random pages.
.macro define_random name, marked
\name:
	load_log \marked
	mov	r9, [rdi + M_PAGES]
	mov	r10, r8
	mov	r11, [rdi + M_RANDOM]
	mov	r12, [rdi + M_SLICE]
	mov	r13, [rdi + M_SHADOW]
	movabs	r14, 6364136223846793005
1:	imul	r11, r14
	add	r11, PVMM_LCG_INCREMENT
	mov	rbx, r11
	shr	rbx, 32
	imul	rbx, r9
	shr	rbx, 32
	bump	\marked
	dec	r10
	jnz	1b
	mov	[rdi + M_RANDOM], r11
	ret
.endm

# Check identity and counter of every page, in order; bump 1 of 64. One more
# is counted for each sweep, so that it is not always the same pages.
.macro define_read name, marked
\name:
	load_log \marked
	mov	rbx, [rdi + M_POSITION]
	mov	r9, [rdi + M_PAGES]
	mov	r10, r8
	mov	r11, [rdi + M_READS]
	mov	r12, [rdi + M_SLICE]
	mov	r13, [rdi + M_SHADOW]
	movabs	r14, PVMM_IDENTITY
1:	mov	rax, rbx
	shl	rax, PVMM_PAGE_SHIFT
	add	rax, r12
	mov	rdx, rax
	shr	rdx, PVMM_PAGE_SHIFT
	xor	rdx, r14
	cmp	rdx, [rax + 8]
	jne	5f
	mov	rdx, [rax]
	cmp	rdx, [r13 + rbx * 8]
	jne	5f
2:	inc	r11
	test	r11d, 63
	jz	6f
3:	inc	rbx
	cmp	rbx, r9
	jne	4f
	xor	ebx, ebx
	inc	r11
4:	dec	r10
	jnz	1b
	mov	[rdi + M_POSITION], rbx
	mov	[rdi + M_READS], r11
	ret
5:	inc	qword ptr [rsi + H_CONTENT_ERRORS]
	jmp	2b
6:	bump	\marked
	jmp	3b
.endm

# Write M_WORDS words into every page, in order. Version v of a page holds v
# at an offset that moves with v; then in its counter.
.macro define_partial name, marked
\name:
	load_log \marked
	mov	rbx, [rdi + M_POSITION]
	mov	r9, [rdi + M_PAGES]
	mov	r10, r8
	mov	r12, [rdi + M_SLICE]
	mov	r13, [rdi + M_SHADOW]
	mov	r14, [rdi + M_OFFSET_MASK]
	mov	r15, [rdi + M_WORDS]
	mov	r11, rdi
1:	lea	rdx, [r13 + rbx * 8]
	mov	rdi, rbx
	shl	rdi, PVMM_PAGE_SHIFT
	add	rdi, r12
	.if \marked
	mov	[r11 + M_INFLIGHT_SHADOW], rdx
	.endif
	mov	[r11 + M_INFLIGHT], rdi
	mov	rax, [rdx]
	inc	rax
	mov	[rdx], rax
	mark	\marked, rdx
	mov	rdx, rdi
	mov	rcx, rax
	shl	rcx, 6
	and	rcx, r14
	lea	rdi, [rdx + rcx + PVMM_PARTIAL_BYTES]
	mov	rcx, r15
	rep stosq
	mov	[rdx], rax
	mark	\marked, rdx
	inc	rbx
	cmp	rbx, r9
	jne	2f
	xor	ebx, ebx
2:	dec	r10
	jnz	1b
	mov	rdi, r11
	mov	[rdi + M_POSITION], rbx
	ret
.endm

	define_sweep pvmm_guest_sweep, 0
	define_sweep pvmm_guest_sweep_marked, 1
	define_random pvmm_guest_random, 0
	define_random pvmm_guest_random_marked, 1
	define_read pvmm_guest_read, 0
	define_read pvmm_guest_read_marked, 1
	define_partial pvmm_guest_partial, 0
	define_partial pvmm_guest_partial_marked, 1

# One stub of 16 bytes for each exception: tell the VMM, which stops us.
	.balign	16
pvmm_guest_exceptions:
	.set	vector, 0
	.rept	32
	mov	eax, vector
	mov	edx, PVMM_PORT_EXCEPTION
	out	dx, eax
	cli
	hlt
	.balign	16
	.set	vector, vector + 1
	.endr
pvmm_guest_end:

	.att_syntax prefix
