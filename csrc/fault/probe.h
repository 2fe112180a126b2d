/* SPDX-License-Identifier: Apache-2.0 */
/*
 * probe.h - were pages that came along with an answer of any use?
 *
 * Theory of operation
 *
 * A page that is mapped is used without a trace. So of the pages that came
 * with an answer and were not asked for, one in PROBE_SHARE is left unmapped:
 * it is here, in the landing, and missing no longer. Whoever touches it
 * faults, is given it at once, without the source, and counts as a hit. The
 * others are placed when nothing is missing any more. Hits among the probes
 * are hits among all that came along, since chance chose them.
 *
 * A probe lies in the landing, in the attic or in a page of the file. When its
 * page is removed it is no probe any more, and reads as zero.
 */
#ifndef PMIG_FAULT_PROBE_H
#define PMIG_FAULT_PROBE_H

#include "fault/faults.h"

enum {
	PROBE_SHARE = 8,
};

/* Under the lock: which of these, that are complete, to leave unmapped. */
uint64_t probe_choose(const struct pmig_faults *faults,
		      const struct landed *landed, uint64_t live);

/*
 * Under the lock: pages are probes from now on. Those that somebody has begun
 * to wait for are returned: whoever does has to be woken, and faults anew.
 */
uint64_t probe_keep(struct pmig_faults *faults, uint64_t block, uint64_t pages);

/*
 * A page is touched that is here. If it is a probe it is placed, with
 * events_lock held shared; *found says so. 0 or -errno, as uffd_place().
 */
int probe_use(struct pmig_faults *faults, const struct landing *landing,
	      uint64_t number, uint64_t offset_bytes, bool *found);

/* Place all that were not used; -EAGAIN: an event has to be read first. */
int probe_place_all(struct pmig_faults *faults);

#endif
