/* SPDX-License-Identifier: Apache-2.0 */
/* sender_pulse.c - what changes while a round runs; theory in climate.h */
#include "base/clock.h"
#include "transfer/sender.h"

enum {
	/* asking for processor time costs as much as a third of a page */
	BLOCKS_PER_CPU_READING = 8,
};

struct climate_sums sender_sums(const struct pmig_sender *sender)
{
	struct climate_sums sums = {0};

	for (uint32_t i = 0; i < sender->n_workers; i++) {
		const struct send_worker *worker = &sender->workers[i];

		sums.wire_bytes += worker->wire_bytes;
		sums.waiting_bytes += worker->waiting_bytes;
		sums.blocked_ns += worker->box.channel->blocked_ns;
		sums.paced_ns += worker->box.paced_ns;
		sums.cpu_ns += worker->cpu_ns;
	}
	return sums;
}

void sender_activate(struct pmig_sender *sender, uint32_t n)
{
	pthread_mutex_lock(&sender->lock);
	sender->n_active = n;
	pthread_cond_broadcast(&sender->more);
	pthread_mutex_unlock(&sender->lock);
}

/* The settings as they are now. */
static void follow_tuning(struct send_worker *worker)
{
	struct pmig_sender *sender = worker->sender;
	uint32_t n;

	if (!tuning_refresh(&sender->tuning, &worker->encoder.tuning))
		return;
	/* where it cannot be, pages are copied as before, and rounds say so */
	channel_zero_copy(worker->box.channel,
			  worker->encoder.tuning.value.zero_copy, NULL);
	n = worker->encoder.tuning.value.active_channels;
	if (n && n != sender->n_active)
		sender_activate(sender, n);
}

/* Is another number of channels better? */
static void govern(struct pmig_sender *sender, uint64_t now_ns,
		   const struct climate_sums *now, bool automatic)
{
	const struct climate_sums *before = &sender->governed;
	const struct governor_sample sample = {
		.interval_ns = now_ns - sender->governed_ns,
		.bytes = now->wire_bytes - before->wire_bytes,
		.busy_ns = now->cpu_ns - before->cpu_ns,
		.blocked_ns = now->blocked_ns - before->blocked_ns,
		.paced_ns = now->paced_ns - before->paced_ns,
	};
	uint32_t n;

	if (sample.interval_ns < GOVERNOR_INTERVAL_MS * 1000000ull)
		return;
	sender->governed_ns = now_ns;
	sender->governed = *now;
	n = governor_step(&sender->governor, &sample);
	if (automatic && n != sender->n_active)
		sender_activate(sender, n);
}

static void publish(struct send_worker *worker)
{
	struct encoder *encoder = &worker->encoder;

	worker->wire_bytes = worker->box.wire_bytes;
	worker->waiting_bytes = worker->box.waiting_bytes;
	if (encoder->n_blocks % BLOCKS_PER_CPU_READING == 0) {
		uint64_t cpu_ns = pmig_cpu_now_ns();

		choice_worked(&encoder->choice,
			      (double)(cpu_ns - worker->cpu_ns));
		worker->cpu_ns = cpu_ns;
	}
}

void sender_pulse(struct send_worker *worker)
{
	struct pmig_sender *sender = worker->sender;
	struct climate *climate = &sender->climate;
	uint64_t now_ns = pmig_now_ns();

	publish(worker);
	follow_tuning(worker);
	if (climate_due(climate, now_ns)) {
		const struct climate_sums sums = sender_sums(sender);

		govern(sender, now_ns, &sums,
		       worker->encoder.tuning.value.active_channels == 0);
		climate_pulse(climate, now_ns, &sums, sender->n_active);
	}
	worker->encoder.climate = climate_of_worker(climate, sender->n_active);
	worker->encoder.climate.queued_ns =
		worker->encoder.climate.link_ns_per_byte *
		outbox_backlog(&worker->box);
}
