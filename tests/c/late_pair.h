/* SPDX-License-Identifier: Apache-2.0 */
/* late_pair.h - a source whose pages come late, and a destination */
#ifndef TESTS_C_LATE_PAIR_H
#define TESTS_C_LATE_PAIR_H

#include <pthread.h>

#include "backing.h"

enum {
	LATE_CHANNELS = 3, /* the last one is urgent */
};

/**
 * struct late_pair - both sides
 * @n_pages:	of the memory
 * @late_thread: in pmig_sender_late(), while is_sending
 * @late_rc:	what that returned
 * @late_err:	likewise
 */
struct late_pair {
	struct backed source;
	struct backed destination;
	struct pmig_memory *from;
	struct pmig_memory *to;
	uint64_t n_pages;
	struct pmig_dirty *dirty;
	struct pmig_view *view;
	struct pmig_faults *faults;
	int fds[LATE_CHANNELS][2];
	struct pmig_channel *out[LATE_CHANNELS];
	struct pmig_channel *in[LATE_CHANNELS];
	struct pmig_sender *sender;
	struct pmig_receiver *receiver;
	struct pmig_tuning tuning;
	pthread_t late_thread;
	bool is_sending;
	int late_rc;
	struct pmig_error late_err;
	struct pmig_round round;
	struct pmig_late late;
};

/* Memory, tracker and faults; skips the test where the kernel lacks some. */
void late_open(struct late_pair *pair, enum backing backing,
	       uint64_t size_bytes, uint32_t faults_flags);
void late_close(struct late_pair *pair);

/* Channels, a sender and a receiver. */
void late_connect(struct late_pair *pair);

/* Free them; with cut, as if the network broke, without a word. */
void late_disconnect(struct late_pair *pair, bool cut);

/* After that: connect anew, with a sender that owes what is missing. */
void late_reconnect(struct late_pair *pair);

/* One epoch: a round of pages, or of names of pages (defer). */
void late_round(struct late_pair *pair, enum pmig_epoch_kind kind, bool defer);

/* Connect, and name all pages instead of sending them, in two epochs. */
void late_leave_all(struct late_pair *pair);

/* The guest may run: faults are handled, and late pages are sent. */
void late_start(struct late_pair *pair);

/* Send late pages on a thread of their own. */
void late_send(struct late_pair *pair);

/* Wait for that thread. */
void late_join(struct late_pair *pair);

/* Wait until nothing is missing; fails the test where that takes too long. */
void late_wait(struct late_pair *pair);

/* Wait until so many are missing, or fewer. */
void late_await(struct late_pair *pair, uint64_t n_missing);

/* Fill pages of the source with what tells them apart, and mark them. */
void late_fill(struct late_pair *pair, uint64_t first_page, uint64_t n_pages,
	       uint64_t seed);

/* Is a page of the destination what the source has? Touches it. */
bool late_same(const struct late_pair *pair, uint64_t page);

#endif
