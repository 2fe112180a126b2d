/* SPDX-License-Identifier: Apache-2.0 */
/*
 * foreign.h - memory of another process, and what outlives its handler
 *
 * Theory of operation
 *
 * A process that is killed (SIGKILL) while it handles the faults of another
 * one leaves behind threads that wait, some for pages that it had read the
 * fault of and never placed. The userfaultfd lives as long as the other
 * process keeps it. Whoever goes on with it must know, of each page that is
 * not mapped, whether it is still missing or was removed (a balloon): one gets
 * what the source has, the other zeros. Page tables do not tell.
 *
 * So there is a record, a file in shared memory: a bit for each page, set as
 * long as the page is to come from the source. Bits are only ever cleared:
 *
 *	placed	after the page was. Killed in between, the page is placed
 *		again, which the kernel refuses (EEXIST): it is there.
 *	removed	when the event is read. The kernel lets the other process go
 *		on once the event was taken from it, so that it must not be
 *		lost between the kernel and the bit: events are read into the
 *		record itself. Copying them there is a part of the system call
 *		that takes them, which SIGKILL does not interrupt.
 *
 * Who goes on applies the removals that the record holds, which does no harm
 * where it was done before; expects pages as far as their bits are set; and
 * wakes all who wait, so that they fault again and are heard of.
 *
 * A page of the backing larger than 4 KiB is one thing here: its bits are
 * cleared together, for until it was placed its parts were in the process that
 * was killed.
 *
 * When nothing is missing, the memory is unregistered, and is from then on as
 * any other. Who removed memory just then waits for the event to be read; so
 * events are read until no removal is under way.
 */
#ifndef PMIG_FAULT_FOREIGN_H
#define PMIG_FAULT_FOREIGN_H

#include "base/bitmap.h"
#include "uffd/uffd.h"

struct pmig_faults;

/**
 * struct foreign_record - see above
 * @messages:	events, as the kernel wrote them last
 * @reserved:	0
 * @words:	per block, pages that are to come from the source
 */
struct foreign_record {
	_Alignas(8) uint8_t messages[UFFD_MESSAGES * UFFD_MESSAGE_BYTES];
	uint8_t reserved[PMIG_FAULTS_RECORD_BYTES -
			 UFFD_MESSAGES * UFFD_MESSAGE_BYTES];
	uint64_t words[];
};

/* Pages that were placed, or removed. */
static inline void foreign_forget(struct foreign_record *record, uint64_t block,
				  uint64_t pages)
{
	pmig_bits_clear(&record->words[block], pages);
}

static inline uint64_t foreign_recorded(const struct foreign_record *record,
					uint64_t block)
{
	return pmig_bits_load(&record->words[block]);
}

/* Before a handler listens: go on where another one stopped, if it did. */
void foreign_begin(struct pmig_faults *faults);

/* Once a handler listens: whoever waits faults again. */
void foreign_wake(struct pmig_faults *faults);

/* After the last handler ended: hold up nobody who removes memory. */
void foreign_end(struct pmig_faults *faults);

#endif
