/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/climate.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
	PULSE_NS = 50 * 1000 * 1000,
};

/* Waiting for this share of the time, the link was the limit. */
static const double LIMITED = 0.1;
/* Per pulse, while it was not: tenfold takes 17 pulses. */
static const double RAISE = 1.15;
/* Weight of the newest interval. */
static const double NEWEST = 0.5;

/* Idle time of the host in ticks, those waiting for disks included. */
static uint64_t idle_ticks(const struct climate *climate)
{
	unsigned long long idle = 0, iowait = 0;
	char text[256];
	ssize_t n;

	if (climate->stat_fd < 0)
		return 0;
	n = pread(climate->stat_fd, text, sizeof(text) - 1, 0);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	/* cpu  user nice system idle iowait ... */
	if (sscanf(text, "cpu %*u %*u %*u %llu %llu", &idle, &iowait) != 2)
		return 0;
	return idle + iowait;
}

static unsigned int count_cpus(void)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set))
		return 1;
	return (unsigned int)CPU_COUNT(&set);
}

void climate_init(struct climate *climate)
{
	climate->stat_fd = open("/proc/stat", O_RDONLY | O_CLOEXEC);
	climate->n_cpus = count_cpus();
	climate->spare_milli = 1000 * climate->n_cpus;
}

void climate_fini(struct climate *climate)
{
	if (climate->stat_fd >= 0)
		close(climate->stat_fd);
}

void climate_begin(struct climate *climate, uint64_t now_ns,
		   const struct climate_sums *sums)
{
	climate->since_ns = now_ns;
	climate->before = *sums;
	climate->idle_ticks = idle_ticks(climate);
	climate->next_ns = now_ns + PULSE_NS;
}

bool climate_due(struct climate *climate, uint64_t now_ns)
{
	uint64_t next_ns = climate->next_ns;

	return now_ns >= next_ns &&
	       atomic_compare_exchange_strong(&climate->next_ns, &next_ns,
					      UINT64_MAX);
}

static uint64_t link_estimate(const struct climate *climate,
			      const struct climate_sums *now, double passed_ns,
			      uint32_t n_active)
{
	double sent = (double)(now->wire_bytes - climate->before.wire_bytes);
	double blocked =
		(double)(now->blocked_ns - climate->before.blocked_ns) /
		(passed_ns * n_active);
	double before = (double)climate->link_bytes_per_s;
	double rate = 1e9 * sent / passed_ns;

	if (blocked >= LIMITED)
		return (uint64_t)(before ? before + NEWEST * (rate - before)
					 : rate);
	if (before == 0)
		return 0;
	return (uint64_t)(RAISE * (rate > before ? rate : before));
}

static uint64_t spare_estimate(const struct climate *climate,
			       const struct climate_sums *now, double passed_ns,
			       uint32_t n_active, uint64_t idle)
{
	double used = (double)(now->cpu_ns - climate->before.cpu_ns);
	double tick_ns = 1e9 / (double)sysconf(_SC_CLK_TCK);
	double before = (double)climate->spare_milli;
	double spare;

	if (climate->stat_fd >= 0)
		spare = used + tick_ns * (double)(idle - climate->idle_ticks);
	else if (climate->n_cpus > n_active)
		spare = used + passed_ns * (climate->n_cpus - n_active);
	else
		spare = used;
	return (uint64_t)(before +
			  NEWEST * (1000 * spare / passed_ns - before));
}

void climate_pulse(struct climate *climate, uint64_t now_ns,
		   const struct climate_sums *sums, uint32_t n_active)
{
	double passed_ns = (double)(now_ns - climate->since_ns);
	uint64_t idle = idle_ticks(climate);

	climate->link_bytes_per_s =
		link_estimate(climate, sums, passed_ns, n_active);
	climate->spare_milli =
		spare_estimate(climate, sums, passed_ns, n_active, idle);
	climate->since_ns = now_ns;
	climate->before = *sums;
	climate->idle_ticks = idle;
	climate->next_ns = now_ns + PULSE_NS;
}

struct choice_climate climate_of_worker(const struct climate *climate,
					uint32_t n_active)
{
	uint64_t link_bytes_per_s = climate->link_bytes_per_s;
	double spare = (double)climate->spare_milli / 1000 / n_active;
	struct choice_climate mine = {.spare = spare > 1 ? 1 : spare};

	if (link_bytes_per_s)
		mine.link_ns_per_byte =
			1e9 * n_active / (double)link_bytes_per_s;
	return mine;
}
