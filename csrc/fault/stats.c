/* SPDX-License-Identifier: Apache-2.0 */
#include "fault/stats.h"

static void add_stall(struct fault_stats *stats, uint32_t thread, uint64_t ns)
{
	uint32_t i = 0;

	while (i < stats->n_threads && stats->threads[i].thread != thread)
		i++;
	if (i == stats->n_threads) {
		if (i == FAULT_THREADS)
			i--;
		else
			stats->threads[stats->n_threads++] =
				(struct fault_thread){.thread = thread};
	}
	stats->threads[i].stalled_ns += ns;
}

/* Every second one makes room for as many later ones. */
static void thin_out(struct fault_stats *stats)
{
	for (uint32_t i = 0; i < FAULT_SAMPLES / 2; i++)
		stats->samples[i] = stats->samples[2 * i];
	stats->n_samples = FAULT_SAMPLES / 2;
	stats->stride *= 2;
}

static void add_sample(struct fault_stats *stats, uint64_t at_ns,
		       uint64_t latency_ns)
{
	if (stats->skip) {
		stats->skip--;
		return;
	}
	if (!stats->stride)
		stats->stride = 1;
	if (stats->n_samples == FAULT_SAMPLES)
		thin_out(stats);
	stats->samples[stats->n_samples++] =
		(struct pmig_fault_sample){at_ns, latency_ns};
	stats->skip = stats->stride - 1;
}

static uint64_t between(uint64_t from_ns, uint64_t to_ns)
{
	return to_ns > from_ns ? to_ns - from_ns : 0;
}

void fault_stats_remote(struct fault_stats *stats, uint64_t began_ns,
			const struct fault_times *times)
{
	uint64_t latency_ns = between(times->since_ns, times->placed_ns);
	uint64_t asking_ns = between(times->since_ns, times->asked_ns);
	uint64_t away_ns = between(times->asked_ns, times->arrived_ns);

	histogram_add(&stats->remote, latency_ns);
	add_stall(stats, times->thread, latency_ns);
	add_sample(stats, between(began_ns, times->since_ns), latency_ns);
	if (!times->answer || !times->asked_ns) {
		stats->pushed++;
		return;
	}
	histogram_add(&stats->queueing, asking_ns + times->waited_ns);
	histogram_add(&stats->network, between(times->waited_ns, away_ns));
	histogram_add(&stats->placement,
		      between(times->arrived_ns, times->placed_ns));
}

void fault_stats_local(struct fault_stats *stats, uint32_t thread,
		       uint64_t latency_ns)
{
	histogram_add(&stats->local, latency_ns);
	add_stall(stats, thread, latency_ns);
}

static struct pmig_latency summary(const struct histogram *histogram)
{
	return (struct pmig_latency){
		.count = histogram->n,
		.p50_ns = histogram_quantile(histogram, 0.5),
		.p90_ns = histogram_quantile(histogram, 0.9),
		.p99_ns = histogram_quantile(histogram, 0.99),
		.max_ns = histogram->max,
		.sum_ns = histogram->sum,
	};
}

void fault_stats_report(const struct fault_stats *stats,
			struct pmig_faults_report *report)
{
	report->remote = summary(&stats->remote);
	report->local = summary(&stats->local);
	report->queueing = summary(&stats->queueing);
	report->network = summary(&stats->network);
	report->placement = summary(&stats->placement);
	report->pushed_faults = stats->pushed;
	report->n_threads = stats->n_threads;
	for (uint32_t i = 0; i < stats->n_threads; i++) {
		uint64_t ns = stats->threads[i].stalled_ns;

		report->stalled_ns += ns;
		if (ns > report->longest_stalled_ns)
			report->longest_stalled_ns = ns;
	}
}
