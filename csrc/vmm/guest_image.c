/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guest_image.c - guest.S as data of this program
 *
 * The assembler finds guest.S through -Wa,-I or its working directory. The
 * macros of layout.h become assembler symbols of the same name, so there is
 * one definition of every offset.
 */
#include "vmm/guest_image.h"

#include <assert.h>
#include <string.h>

#include "vmm/layout.h"

#define TEXT(x)	  TEXT_(x)
#define TEXT_(x)  #x
#define SYMBOL(x) ".set " #x ", " TEXT(x) "\n\t"

/* The assembler takes no suffix on numbers. */
#define LOG_VA 0x7fc0000000
static_assert(LOG_VA == PVMM_LOG_VA, "address of the log");

/* clang-format off */
__asm__(
	".pushsection .rodata.pvmm_guest, \"a\", @progbits\n\t"
	SYMBOL(PVMM_PAGE_SHIFT) SYMBOL(PVMM_PAGE_BYTES)
	".set PVMM_LOG_VA, " TEXT(LOG_VA) "\n\t"
	SYMBOL(PVMM_VECTOR_TICK) SYMBOL(PVMM_VECTOR_SPURIOUS)
	SYMBOL(PVMM_PORT_SERIAL) SYMBOL(PVMM_PORT_SEQUENCE)
	SYMBOL(PVMM_PORT_ECHO) SYMBOL(PVMM_PORT_EXCEPTION)
	SYMBOL(PVMM_LCG_MULTIPLIER) SYMBOL(PVMM_LCG_INCREMENT)
	SYMBOL(PVMM_IDENTITY) SYMBOL(PVMM_PARTIAL_BYTES)
	SYMBOL(M_ENTRY) SYMBOL(M_SLICE) SYMBOL(M_PAGES) SYMBOL(M_SHADOW)
	SYMBOL(M_UNLIMITED) SYMBOL(M_BATCH) SYMBOL(M_TICK) SYMBOL(M_LATE)
	SYMBOL(M_PER_TICK) SYMBOL(M_WORDS) SYMBOL(M_OFFSET_MASK)
	SYMBOL(M_DEVICE_EVERY) SYMBOL(M_STACK_TOP) SYMBOL(M_LETTER)
	SYMBOL(M_POSITION) SYMBOL(M_RANDOM) SYMBOL(M_READS) SYMBOL(M_CREDIT)
	SYMBOL(M_DEADLINE) SYMBOL(M_SEQUENCE) SYMBOL(M_COUNTDOWN)
	SYMBOL(M_STEPS) SYMBOL(M_RUNNING) SYMBOL(M_INFLIGHT)
	SYMBOL(M_INFLIGHT_SHADOW)
	SYMBOL(H_COUNT) SYMBOL(H_LAST) SYMBOL(H_MAX_GAP) SYMBOL(H_MAX_GAP_AT)
	SYMBOL(H_BACKWARDS) SYMBOL(H_DEVICE_READS) SYMBOL(H_DEVICE_ERRORS)
	SYMBOL(H_CONTENT_ERRORS) SYMBOL(H_FIRST_GAP)
	".include \"vmm/guest.S\"\n\t"
	".popsection");
/* clang-format on */

/*
 * Symbols of guest.S. Hidden, as everything here: the compiler then knows
 * that they are in this object.
 */
#define IMAGE_SYMBOL extern const uint8_t __attribute__((visibility("hidden")))

IMAGE_SYMBOL pvmm_guest_start[], pvmm_guest_end[], pvmm_guest_tick[],
	pvmm_guest_spurious[], pvmm_guest_exceptions[], pvmm_guest_idle[],
	pvmm_guest_sweep[], pvmm_guest_sweep_marked[], pvmm_guest_random[],
	pvmm_guest_random_marked[], pvmm_guest_read[], pvmm_guest_read_marked[],
	pvmm_guest_partial[], pvmm_guest_partial_marked[];

#define EXCEPTION_STUB_BYTES 16

static uint64_t address(const uint8_t *symbol)
{
	return PVMM_CODE + (uint64_t)(symbol - pvmm_guest_start);
}

uint64_t pvmm_image_start(void)
{
	return address(pvmm_guest_start);
}

uint64_t pvmm_image_tick(void)
{
	return address(pvmm_guest_tick);
}

uint64_t pvmm_image_spurious(void)
{
	return address(pvmm_guest_spurious);
}

uint64_t pvmm_image_exception(unsigned int vector)
{
	return address(pvmm_guest_exceptions) + vector * EXCEPTION_STUB_BYTES;
}

uint64_t pvmm_image_entry(enum pvmm_program program, bool marked)
{
	switch (program) {
	case PVMM_PROGRAM_SWEEP:
		return address(marked ? pvmm_guest_sweep_marked
				      : pvmm_guest_sweep);
	case PVMM_PROGRAM_RANDOM:
		return address(marked ? pvmm_guest_random_marked
				      : pvmm_guest_random);
	case PVMM_PROGRAM_READ:
		return address(marked ? pvmm_guest_read_marked
				      : pvmm_guest_read);
	case PVMM_PROGRAM_PARTIAL:
		return address(marked ? pvmm_guest_partial_marked
				      : pvmm_guest_partial);
	case PVMM_PROGRAM_IDLE:
		break;
	}
	return address(pvmm_guest_idle);
}

void pvmm_image_install(void *ram)
{
	memcpy((uint8_t *)ram + PVMM_CODE, pvmm_guest_start,
	       (size_t)(pvmm_guest_end - pvmm_guest_start));
}
