/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oracle_slice.c - is every page what the program must have left there?
 *
 * A page of the working set is a function of its number, its counter and,
 * for the partial program, nothing else: version v of a page is its initial
 * content with the last writes repeated over it.  So the whole page is made
 * again and compared, and what remains is whether the counter is right:
 *
 *	sweep	counters are n+1 up to some page and n from there on
 *	others	the counter equals its shadow, which lies elsewhere in guest
 *		memory; the page that the vCPU was writing when it was stopped
 *		may be behind by one
 */
#include "vmm/oracle.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "vmm/content.h"
#include "vmm/vm.h"

/**
 * struct check - of one page
 * @page:	its number in RAM
 * @words:	what it holds
 * @count:	its counter
 * @shadow:	its shadow counter; the counter itself for sweep
 */
struct check {
	uint64_t page;
	const uint64_t *words;
	uint64_t count;
	uint64_t shadow;
};

__attribute__((format(printf, 3, 4))) static bool
wrong(char *message, size_t message_bytes, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(message, message_bytes, format, args);
	va_end(args);
	return false;
}

/* Repeat the writes that version count of a page shows; it is any number. */
static void replay_partial(const struct pvmm_plan *plan, uint64_t count,
			   uint64_t *words)
{
	uint64_t period = plan->partial_mask / PVMM_PARTIAL_BYTES + 1;
	uint64_t n = count < period ? count : period;

	while (n--) {
		uint64_t version = count - n;
		uint64_t at = pvmm_partial_offset(plan, version) / 8;

		for (uint64_t i = 0; i < plan->partial_words; i++)
			words[at + i] = version;
	}
}

/* A write that has begun: words of the new version, as far as it came. */
static void follow_pending(const struct pvmm_plan *plan,
			   const struct check *check, uint64_t *words)
{
	uint64_t at = pvmm_partial_offset(plan, check->shadow) / 8;

	for (uint64_t i = 0; i < plan->partial_words; i++) {
		if (check->words[at + i] != check->shadow)
			return;
		words[at + i] = check->shadow;
	}
}

static bool page_is_right(const struct pvmm *vm, const struct check *check)
{
	const struct pvmm_config *config = &vm->plan.config;
	uint64_t expected[PVMM_PAGE_WORDS];

	pvmm_content_page(vm, check->page, expected);
	expected[1] = check->page ^ PVMM_IDENTITY;
	if (config->program == PVMM_PROGRAM_PARTIAL) {
		replay_partial(&vm->plan, check->count, expected);
		if (check->shadow != check->count)
			follow_pending(&vm->plan, check, expected);
	}
	expected[0] = check->count;
	return !memcmp(expected, check->words, sizeof(expected));
}

static struct check look_at(const struct pvmm *vm, uint32_t vcpu, uint64_t i)
{
	const struct pvmm_slice *slice = &vm->plan.slices[vcpu];
	uint64_t offset = slice->offset + i * PVMM_PAGE_BYTES;
	struct check check = {
		.page = offset / PVMM_PAGE_BYTES,
		.words = (const uint64_t *)(vm->ram.base + offset),
	};

	check.count = check.words[0];
	check.shadow = check.count;
	if (vm->plan.config.program == PVMM_PROGRAM_RANDOM ||
	    vm->plan.config.program == PVMM_PROGRAM_READ ||
	    vm->plan.config.program == PVMM_PROGRAM_PARTIAL)
		check.shadow = *(const uint64_t *)(vm->ram.base +
						   slice->shadow + i * 8);
	return check;
}

/* May the counters of two neighbours in a sweep be these? */
static bool sweep_goes_on(uint64_t before, uint64_t count, bool *stepped)
{
	if (count == before)
		return true;
	if (*stepped || count + 1 != before)
		return false;
	*stepped = true;
	return true;
}

bool pvmm_oracle_slice(const struct pvmm *vm, uint32_t vcpu,
		       struct pvmm_verdict *verdict, char *message,
		       size_t message_bytes)
{
	const struct pvmm_slice *slice = &vm->plan.slices[vcpu];
	bool in_order = vm->plan.config.program == PVMM_PROGRAM_SWEEP;
	uint64_t inflight = *pvmm_word(pvmm_mailbox(vm, vcpu), M_INFLIGHT) /
			    PVMM_PAGE_BYTES;
	uint64_t before = *(const uint64_t *)(vm->ram.base + slice->offset);
	bool stepped = false;

	*verdict = (struct pvmm_verdict){.n_sweeps = UINT64_MAX};
	for (uint64_t i = 0; i < slice->n_pages; i++) {
		struct check check = look_at(vm, vcpu, i);
		bool behind = check.page == inflight &&
			      check.shadow == check.count + 1;

		if (check.shadow != check.count && !behind)
			return wrong(message, message_bytes,
				     "page %llu was written %llu times, its "
				     "counter is %llu",
				     (unsigned long long)check.page,
				     (unsigned long long)check.shadow,
				     (unsigned long long)check.count);
		if (in_order && !sweep_goes_on(before, check.count, &stepped))
			return wrong(message, message_bytes,
				     "page %llu has counter %llu after a page "
				     "with %llu",
				     (unsigned long long)check.page,
				     (unsigned long long)check.count,
				     (unsigned long long)before);
		if (!page_is_right(vm, &check))
			return wrong(message, message_bytes,
				     "page %llu differs from its version %llu",
				     (unsigned long long)check.page,
				     (unsigned long long)check.count);
		verdict->n_pending += behind;
		verdict->n_steps += check.count;
		if (check.count < verdict->n_sweeps)
			verdict->n_sweeps = check.count;
		before = check.count;
	}
	return true;
}
