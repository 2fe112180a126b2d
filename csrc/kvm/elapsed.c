/* SPDX-License-Identifier: Apache-2.0 */
#include "kvm/time.h"

#include <time.h>

static uint64_t read_clock(clockid_t id)
{
	struct timespec now;

	clock_gettime(id, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint64_t pmig_kvm_realtime_ns(void)
{
	return read_clock(CLOCK_REALTIME);
}

uint64_t pmig_kvm_monotonic_ns(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

uint64_t pmig_kvm_elapsed_ns(uint64_t realtime_ns)
{
	uint64_t now_ns = pmig_kvm_realtime_ns();

	return now_ns > realtime_ns ? now_ns - realtime_ns : 0;
}
