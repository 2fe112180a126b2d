/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/climate.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cpus.h"

enum {
	PULSE_NS = 50 * 1000 * 1000,
	/* as long as little is known of the link and the processors */
	EARLY_PULSE_NS = 10 * 1000 * 1000,
	EARLY_PULSES = 10,
	/* of the fresh look; and how many times as late the next one is */
	LOOK_NS = 6 * 1000 * 1000,
	FIRST_LOOK = 4,
	LOOK_GROWTH = 4,
};

/* Waiting for this share of the time, the link was the limit, */
static const double LIMITED = 0.1;
/* or with a backlog before this share of the bytes. */
static const double BACKLOG = 0.7;
/* Before less than this share of them, it was idle again and again. */
static const double IDLE_AGAIN = 0.2;
/* Per pulse, while it was not: tenfold takes 17 pulses. */
static const double RAISE = 1.15;
/* The same where this share of what was seen last is sent anyway. */
static const double CLOSE = 0.7;
static const double RAISE_CLOSE = 1.03;
/* Weight of the newest interval. */
static const double NEWEST = 0.5;

static uint64_t pulse_ns(const struct climate *climate)
{
	return climate->n_pulses < EARLY_PULSES || !climate->link_bytes_per_s
		       ? EARLY_PULSE_NS
		       : PULSE_NS;
}

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

void climate_init(struct climate *climate)
{
	climate->stat_fd = open("/proc/stat", O_RDONLY | O_CLOEXEC);
	climate->n_cpus = pmig_cpus_usable();
	climate->next_look = FIRST_LOOK;
	climate->idle_milli = 1000 * climate->n_cpus;
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
	climate->next_ns = now_ns + pulse_ns(climate);
}

bool climate_due(struct climate *climate, uint64_t now_ns)
{
	uint64_t next_ns = climate->next_ns;

	return now_ns >= next_ns &&
	       atomic_compare_exchange_strong(&climate->next_ns, &next_ns,
					      UINT64_MAX);
}

/* What happened in the interval. */
struct interval {
	double ns;
	double sent_bytes;
	double waiting_bytes;
	double blocked_ns;
	double used_ns;
	double idle_ns;
};

static struct interval look_back(const struct climate *climate, uint64_t now_ns,
				 const struct climate_sums *now,
				 uint32_t n_active, uint64_t idle)
{
	const struct climate_sums *before = &climate->before;
	double tick_ns = 1e9 / (double)sysconf(_SC_CLK_TCK);
	struct interval past = {
		.ns = (double)(now_ns - climate->since_ns),
		.sent_bytes = (double)(now->wire_bytes - before->wire_bytes),
		.waiting_bytes =
			(double)(now->waiting_bytes - before->waiting_bytes),
		.blocked_ns = (double)(now->blocked_ns - before->blocked_ns),
		.used_ns = (double)(now->cpu_ns - before->cpu_ns),
	};

	if (climate->stat_fd >= 0)
		past.idle_ns = tick_ns * (double)(idle - climate->idle_ticks);
	else if (climate->n_cpus > n_active)
		past.idle_ns = past.ns * (climate->n_cpus - n_active);
	return past;
}

static bool is_limited(const struct interval *past, uint32_t n_active)
{
	return past->blocked_ns >= LIMITED * past->ns * n_active ||
	       past->waiting_bytes >= BACKLOG * past->sent_bytes;
}

static bool is_idle(const struct interval *past)
{
	return past->waiting_bytes < IDLE_AGAIN * past->sent_bytes;
}

/*
 * Close to what the link was seen to carry it is most likely still what it
 * carries: raising the estimate quickly would make pages larger for nothing.
 */
static double raise_of(const struct climate *climate, double rate)
{
	return rate >= CLOSE * (double)climate->seen_bytes_per_s ? RAISE_CLOSE
								 : RAISE;
}

static void estimate_link(struct climate *climate, const struct interval *past,
			  uint32_t n_active)
{
	double before = (double)climate->link_bytes_per_s;
	double rate = 1e9 * past->sent_bytes / past->ns;
	double after = before;

	if (past->sent_bytes == 0)
		return;
	if (is_limited(past, n_active)) {
		after = before ? before + NEWEST * (rate - before) : rate;
		climate->seen_bytes_per_s = (uint64_t)after;
	} else if (before && is_idle(past)) {
		after = rate > before ? rate : before;
		after *= raise_of(climate, rate);
	}
	climate->link_bytes_per_s = (uint64_t)after;
}

/* Of processors, in thousandths, smoothed once something was seen. */
static uint64_t share_estimate(const struct climate *climate,
			       uint64_t before_milli, double ns,
			       const struct interval *past)
{
	double weight = climate->n_pulses ? NEWEST : 1;
	double before = (double)before_milli;

	return (uint64_t)(before + weight * (1000 * ns / past->ns - before));
}

/* The link was not the limit: what was taken for it may be something else. */
static bool is_doubtful(const struct climate *climate,
			const struct interval *past, uint32_t n_active)
{
	return climate->link_bytes_per_s && !is_limited(past, n_active);
}

/* After a pulse: how long the next interval is, and whether it is a look. */
static uint64_t next_interval(struct climate *climate, bool doubtful)
{
	climate->looking = doubtful && climate->n_pulses >= climate->next_look;
	if (!climate->looking)
		return pulse_ns(climate);
	climate->next_look = LOOK_GROWTH * climate->n_pulses;
	return LOOK_NS;
}

void climate_pulse(struct climate *climate, uint64_t now_ns,
		   const struct climate_sums *sums, uint32_t n_active)
{
	uint64_t idle = idle_ticks(climate);
	const struct interval past =
		look_back(climate, now_ns, sums, n_active, idle);

	estimate_link(climate, &past, n_active);
	climate->idle_milli = share_estimate(climate, climate->idle_milli,
					     past.idle_ns, &past);
	climate->spare_milli =
		share_estimate(climate, climate->spare_milli,
			       past.idle_ns + past.used_ns, &past);
	climate->since_ns = now_ns;
	climate->before = *sums;
	climate->idle_ticks = idle;
	climate->n_pulses++;
	climate->next_ns =
		now_ns +
		next_interval(climate, is_doubtful(climate, &past, n_active));
}

double climate_idle(const struct climate *climate)
{
	return climate->n_pulses ? (double)climate->idle_milli / 1000 : 0;
}

struct choice_climate climate_of_worker(const struct climate *climate,
					uint32_t n_active)
{
	uint64_t link_bytes_per_s = climate->link_bytes_per_s;
	struct choice_climate mine = {
		.idle = (double)climate->idle_milli / 1000 / n_active,
		.spare = (double)climate->spare_milli / 1000 / n_active,
	};

	if (mine.spare > 1)
		mine.spare = 1;
	if (link_bytes_per_s && !climate->looking)
		mine.link_ns_per_byte =
			1e9 * n_active / (double)link_bytes_per_s;
	return mine;
}
