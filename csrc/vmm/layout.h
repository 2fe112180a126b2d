/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layout.h - what the VMM and the guest programs agree on
 *
 * Guest virtual addresses are *RAM offsets*: the page tables map RAM in one
 * piece from 0, although its part above 3 GiB lies from 4 GiB up in guest
 * physical space.  The host maps RAM in one piece too, so an address that
 * the guest uses is an offset into pvmm_ram() and nothing else.
 *
 *	0x000ff8	digest of what content was made of
 *	0x001000	GDT
 *	0x002000	IDT
 *	0x003000	guest programs
 *	0x010000	page tables: PML4, PDPT, PD of the log, PDs of RAM
 *	0x100000	per vCPU: mailbox page, heartbeat page, stack page
 *	0x200000	shadow counters of vCPU 0, 1, ...
 *	...		slices of vCPU 0, 1, ...: the working set
 *	...		other content
 *
 * The numbers are macros because guest.S gets them as assembler symbols.
 */
#ifndef PVMM_LAYOUT_H
#define PVMM_LAYOUT_H

#include <stdint.h>

#define PVMM_PAGE_SHIFT	 12
#define PVMM_PAGE_BYTES	 4096
#define PVMM_PAGE_WORDS	 512
#define PVMM_LARGE_BYTES 0x200000ull

#define PVMM_CORPUS	 0xff8 /* digest; 0: of nothing */
#define PVMM_GDT	 0x1000
#define PVMM_IDT	 0x2000
#define PVMM_CODE	 0x3000
#define PVMM_CODE_BYTES	 0x5000
#define PVMM_PML4	 0x10000
#define PVMM_PDPT	 0x11000
#define PVMM_LOG_PD	 0x12000
#define PVMM_RAM_PD	 0x13000
#define PVMM_VCPU_AREA	 0x100000
#define PVMM_LOW_BYTES	 0x200000

/* Per-vCPU area. */
#define PVMM_VCPU_STRIDE  0x4000
#define PVMM_HEARTBEAT	  0x1000
#define PVMM_STACK	  0x2000
#define PVMM_VCPU_WRITTEN 0x3000

/* RAM above 3 GiB continues at 4 GiB: APICs and the log lie in between. */
#define PVMM_HOLE_START	      0xc0000000ull
#define PVMM_HOLE_END	      0x100000000ull
#define PVMM_LOG_GPA	      0xc0000000ull
#define PVMM_LOG_VA	      (511ull << 30)

#define PVMM_MAX_MEMORY_BYTES (64ull << 30)

/* Interrupt vectors. */
#define PVMM_VECTOR_TICK     0x40
#define PVMM_VECTOR_SPURIOUS 0xff

/* Ports. */
#define PVMM_PORT_SERIAL    0x3f8
#define PVMM_PORT_SEQUENCE  0x510 /* read: the next number of the stream */
#define PVMM_PORT_ECHO	    0x514 /* write: the number just read */
#define PVMM_PORT_EXCEPTION 0x518 /* write: an exception's vector */

/* The sequencer's stream: x -> x * MULTIPLIER + INCREMENT, 32 bits. */
#define PVMM_LCG_MULTIPLIER 1664525
#define PVMM_LCG_INCREMENT  1013904223

/* Word 0 of a page of the working set is its counter, word 1 its identity. */
#define PVMM_IDENTITY 0x5bd1e9955bd1e995

/* Partial writes start at multiples of this from the same offset on. */
#define PVMM_PARTIAL_BYTES 64

/* Mailbox: what a vCPU is to do, written by the VMM before it first runs. */
#define M_ENTRY	       0x00 /* address of the program's step routine */
#define M_SLICE	       0x08 /* address of the first page */
#define M_PAGES	       0x10 /* pages in the slice */
#define M_SHADOW       0x18 /* address of its shadow counters, 8 bytes each */
#define M_UNLIMITED    0x20 /* not 0: do not pace */
#define M_BATCH	       0x28 /* unlimited: steps between two heartbeats */
#define M_TICK	       0x30 /* TSC ticks between two heartbeats */
#define M_LATE	       0x38 /* TSC ticks of lateness that are caught up */
#define M_PER_TICK     0x40 /* steps for each tick, 32.32 fixed point */
#define M_WORDS	       0x48 /* partial: 8-byte words to write */
#define M_OFFSET_MASK  0x50 /* partial: bits of the varying offset */
#define M_DEVICE_EVERY 0x58 /* heartbeats between two device accesses */
#define M_STACK_TOP    0x60
#define M_LETTER       0x68 /* what to write to the serial port */

/* Mailbox: the program's own variables. */
#define M_POSITION	  0x80 /* next page of the slice */
#define M_RANDOM	  0x88 /* generator of program random */
#define M_READS		  0x90 /* program read: pages read */
#define M_CREDIT	  0x98 /* fraction of a step left over, 0.32 */
#define M_DEADLINE	  0xa0 /* TSC of the next tick */
#define M_SEQUENCE	  0xa8 /* last number read from the sequencer */
#define M_COUNTDOWN	  0xb0 /* heartbeats until the next device access */
#define M_STEPS		  0xb8 /* steps done before the current batch */
#define M_RUNNING	  0xc0 /* steps of the current batch */
#define M_INFLIGHT	  0xc8 /* page being written, where it has a shadow */
#define M_INFLIGHT_SHADOW 0xd0 /* marked: its shadow counter */

/* Heartbeat page. */
#define H_COUNT		 0x00
#define H_LAST		 0x08
#define H_MAX_GAP	 0x10
#define H_MAX_GAP_AT	 0x18
#define H_BACKWARDS	 0x20
#define H_DEVICE_READS	 0x28
#define H_DEVICE_ERRORS	 0x30
#define H_CONTENT_ERRORS 0x38
#define H_FIRST_GAP	 0x40 /* 0: the next beat sets it */

/* The word at an M_ or H_ offset of a page in guest memory. */
static inline volatile uint64_t *pvmm_word(void *page, uint64_t offset)
{
	return (volatile uint64_t *)((uint8_t *)page + offset);
}

/* Guest physical address of a RAM offset. */
static inline uint64_t pvmm_gpa(uint64_t offset)
{
	return offset < PVMM_HOLE_START
		       ? offset
		       : offset + (PVMM_HOLE_END - PVMM_HOLE_START);
}

#endif
