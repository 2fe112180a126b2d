/* SPDX-License-Identifier: Apache-2.0 */
/*
 * program.c - the guest programs in C, for the threads backend
 *
 * Step by step the same as guest.S, where they are explained. Memory is
 * written through volatile and hidden from the thread sanitizer: that others
 * read it meanwhile is what it is for.
 */
#include "vmm/layout.h"
#include "vmm/vm.h"

#define RANDOM_MULTIPLIER 6364136223846793005ull

#define GUEST_ACCESS	  __attribute__((no_sanitize("thread")))

/**
 * struct step - what one step needs
 * @track:	for its log
 * @registers:	of this writer
 * @slice:	of this writer
 * @plan:	of the machine
 * @ram:	of the machine
 * @heartbeat:	page of this writer
 */
struct step {
	struct pvmm_track *track;
	struct pvmm_registers *registers;
	const struct pvmm_slice *slice;
	const struct pvmm_plan *plan;
	uint8_t *ram;
	void *heartbeat;
};

static volatile uint64_t *word_at(const struct step *step, uint64_t offset)
{
	return (volatile uint64_t *)(step->ram + offset);
}

static uint64_t page_offset(const struct step *step, uint64_t index)
{
	return step->slice->offset + index * PVMM_PAGE_BYTES;
}

/* Add 1 to the word at offset and log its page. */
GUEST_ACCESS static void increment(const struct step *step, uint64_t offset)
{
	volatile uint64_t *word = word_at(step, offset);

	*word = *word + 1;
	pvmm_track_log(step->track, offset);
}

GUEST_ACCESS static void bump(const struct step *step, uint64_t index)
{
	increment(step, step->slice->shadow + index * 8);
	increment(step, page_offset(step, index));
}

/* True when the sweep begins anew. */
static bool advance(const struct step *step)
{
	if (++step->registers->position < step->slice->n_pages)
		return false;
	step->registers->position = 0;
	return true;
}

static void step_sweep(const struct step *step)
{
	increment(step, page_offset(step, step->registers->position));
	advance(step);
}

static void step_random(const struct step *step)
{
	struct pvmm_registers *registers = step->registers;

	registers->random =
		registers->random * RANDOM_MULTIPLIER + PVMM_LCG_INCREMENT;
	bump(step, (registers->random >> 32) * step->slice->n_pages >> 32);
}

GUEST_ACCESS static void step_read(const struct step *step)
{
	struct pvmm_registers *registers = step->registers;
	uint64_t index = registers->position;
	uint64_t offset = page_offset(step, index);
	volatile uint64_t *page = word_at(step, offset);
	volatile uint64_t *errors;

	if (page[1] != (offset / PVMM_PAGE_BYTES ^ PVMM_IDENTITY) ||
	    page[0] != *word_at(step, step->slice->shadow + index * 8)) {
		errors = pvmm_word(step->heartbeat, H_CONTENT_ERRORS);
		*errors = *errors + 1;
	}
	if (!(++registers->reads & 63))
		bump(step, index);
	registers->reads += advance(step);
}

GUEST_ACCESS static void step_partial(const struct step *step)
{
	uint64_t index = step->registers->position;
	uint64_t shadow_offset = step->slice->shadow + index * 8;
	uint64_t offset = page_offset(step, index);
	volatile uint64_t *shadow = word_at(step, shadow_offset);
	volatile uint64_t *words;
	uint64_t version;

	increment(step, shadow_offset);
	version = *shadow;
	words = word_at(step,
			offset + pvmm_partial_offset(step->plan, version));
	for (uint64_t i = 0; i < step->plan->partial_words; i++)
		words[i] = version;
	*word_at(step, offset) = version;
	pvmm_track_log(step->track, offset);
	advance(step);
}

static void step_idle(const struct step *step)
{
	(void)step;
}

static void (*const steps[])(const struct step *step) = {
	[PVMM_PROGRAM_SWEEP] = step_sweep,
	[PVMM_PROGRAM_RANDOM] = step_random,
	[PVMM_PROGRAM_READ] = step_read,
	[PVMM_PROGRAM_PARTIAL] = step_partial,
	[PVMM_PROGRAM_IDLE] = step_idle,
};

void pvmm_program_run(struct pvmm *vm, uint32_t index, uint64_t n)
{
	struct step step = {
		.track = &vm->track,
		.registers = &vm->writers.registers[index],
		.slice = &vm->plan.slices[index],
		.plan = &vm->plan,
		.ram = vm->ram.base,
		.heartbeat = pvmm_heartbeat_page(vm, index),
	};

	while (n--)
		steps[vm->plan.config.program](&step);
}
