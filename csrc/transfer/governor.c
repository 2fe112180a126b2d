/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/governor.h"

#include <string.h>

/* In percent. */
enum {
	ADD_GAIN = 5,	  /* that an addition has to bring */
	REMOVE_LOSS = 2,  /* that a removal may cost */
	COMPUTES = 80,	  /* of its time: the worker is the limit */
	WAITS = 50,	  /* of its time: something else is */
	PACED = 10,	  /* of its time: the bandwidth limit is */
	FITS = 70,	  /* of the workers that would be left */
	HARDLY = 20,	  /* of its time, or there was nothing to do */
	OTHER_WORLD = 25, /* change of rate that makes old trials void */
};

static unsigned int min_uint(unsigned int a, unsigned int b)
{
	return a < b ? a : b;
}

void governor_init(struct governor *governor, unsigned int channels,
		   unsigned int cpus)
{
	*governor = (struct governor){
		.channels = channels,
		.cpus = cpus,
		.active = min_uint(GOVERNOR_FIRST_CHANNELS,
				   min_uint(channels, cpus)),
		.next_rest = GOVERNOR_FIRST_REST,
	};
	if (governor->active == 0)
		governor->active = 1;
}

static uint64_t rate_of(const struct governor_sample *sum)
{
	return (uint64_t)((unsigned __int128)sum->bytes * 1000000000u /
			  sum->interval_ns);
}

/* Does part reach percent of what n workers have in the interval? */
static bool reaches(const struct governor_sample *sum, uint64_t part,
		    unsigned int n, unsigned int percent)
{
	return (double)part * 100 >= (double)sum->interval_ns * n * percent;
}

static bool says_nothing(const struct governor *governor,
			 const struct governor_sample *sample)
{
	uint64_t occupied =
		sample->busy_ns + sample->blocked_ns + sample->paced_ns;

	return sample->interval_ns == 0 || sample->bytes == 0 ||
	       !reaches(sample, occupied, governor->active, HARDLY);
}

static void add_sample(struct governor *governor,
		       const struct governor_sample *sample)
{
	governor->sum.interval_ns += sample->interval_ns;
	governor->sum.bytes += sample->bytes;
	governor->sum.busy_ns += sample->busy_ns;
	governor->sum.blocked_ns += sample->blocked_ns;
	governor->sum.paced_ns += sample->paced_ns;
	governor->n++;
}

static void enter(struct governor *governor, enum governor_phase phase)
{
	governor->phase = phase;
	memset(&governor->sum, 0, sizeof(governor->sum));
	governor->n = 0;
}

static void try_count(struct governor *governor, unsigned int active)
{
	governor->before = governor->active;
	governor->before_rate = rate_of(&governor->sum);
	governor->active = active;
	enter(governor, GOVERNOR_SETTLES);
}

static bool may_add(const struct governor *governor)
{
	const struct governor_sample *sum = &governor->sum;
	unsigned int active = governor->active;

	if (active == governor->channels ||
	    reaches(sum, sum->paced_ns, active, PACED))
		return false;
	if (reaches(sum, sum->busy_ns, active, COMPUTES))
		return active < governor->cpus;
	return reaches(sum, sum->blocked_ns, active, WAITS);
}

static bool may_remove(const struct governor *governor)
{
	const struct governor_sample *sum = &governor->sum;

	return governor->active > 1 &&
	       governor->addition != GOVERNOR_ADDITION_HELPED &&
	       !reaches(sum, sum->busy_ns, governor->active - 1, FITS) &&
	       reaches(sum, sum->blocked_ns + sum->paced_ns, governor->active,
		       WAITS);
}

/* A rate that is far from the one at the last vain trial. */
static bool is_other_world(const struct governor *governor)
{
	double now = (double)rate_of(&governor->sum);
	double then = (double)governor->vain_rate;

	return governor->vain_rate && (now * 100 > then * (100 + OTHER_WORLD) ||
				       now * (100 + OTHER_WORLD) < then * 100);
}

static void forget_trials(struct governor *governor)
{
	governor->vain_rate = 0;
	governor->addition = GOVERNOR_ADDITION_OPEN;
	governor->rest = 0;
	governor->next_rest = GOVERNOR_FIRST_REST;
}

static void decide(struct governor *governor)
{
	bool add, remove;

	if (is_other_world(governor))
		forget_trials(governor);
	add = may_add(governor);
	remove = may_remove(governor);
	if (governor->rest)
		enter(governor, GOVERNOR_WATCHES);
	else if (add &&
		 !(remove && governor->addition == GOVERNOR_ADDITION_VAIN))
		try_count(governor, governor->active + 1);
	else if (remove)
		try_count(governor, governor->active - 1);
	else
		enter(governor, GOVERNOR_WATCHES);
}

static bool was_worth_it(const struct governor *governor)
{
	double now = (double)rate_of(&governor->sum);
	double before = (double)governor->before_rate;

	if (governor->active > governor->before)
		return now * 100 >= before * (100 + ADD_GAIN);
	return now * 100 >= before * (100 - REMOVE_LOSS);
}

static void judge(struct governor *governor)
{
	bool added = governor->active > governor->before;

	if (was_worth_it(governor)) {
		forget_trials(governor);
		/* going on in the same direction */
		governor->addition = added ? GOVERNOR_ADDITION_HELPED
					   : GOVERNOR_ADDITION_VAIN;
	} else {
		governor->active = governor->before;
		governor->vain_rate = governor->before_rate;
		governor->addition =
			added ? GOVERNOR_ADDITION_VAIN : GOVERNOR_ADDITION_OPEN;
		governor->rest = governor->next_rest;
		if (governor->next_rest < GOVERNOR_LONGEST_REST)
			governor->next_rest *= 2;
	}
	enter(governor, GOVERNOR_WATCHES);
}

unsigned int governor_step(struct governor *governor,
			   const struct governor_sample *sample)
{
	if (says_nothing(governor, sample))
		return governor->active;
	if (governor->phase == GOVERNOR_SETTLES) {
		enter(governor, GOVERNOR_MEASURES);
		return governor->active;
	}
	if (governor->rest)
		governor->rest--;
	add_sample(governor, sample);
	if (governor->n == GOVERNOR_WINDOW) {
		if (governor->phase == GOVERNOR_MEASURES)
			judge(governor);
		else
			decide(governor);
	}
	return governor->active;
}
