/* SPDX-License-Identifier: Apache-2.0 */
/* transfer_pair.h - a source and a destination joined by socket pairs */
#ifndef TESTS_C_TRANSFER_PAIR_H
#define TESTS_C_TRANSFER_PAIR_H

#include "guest_memory.h"

enum {
	PAIR_MAX_CHANNELS = 4
};

struct transfer_pair {
	struct guest_memory source;
	struct guest_memory destination;
	struct pmig_dirty *dirty;
	struct pmig_view *view;
	uint32_t n_channels;
	/* settings of the sender, to be changed before pair_connect() */
	struct pmig_tuning tuning;
	uint32_t encodings;
	uint64_t delta_memory_bytes;
	uint32_t flags; /* enum pmig_sender_flags */
	int fds[PAIR_MAX_CHANNELS][2];
	struct pmig_channel *out[PAIR_MAX_CHANNELS];
	struct pmig_channel *in[PAIR_MAX_CHANNELS];
	struct pmig_sender *sender;
	struct pmig_receiver *receiver;
};

/* Memory and a marked tracker at the source, memory at the destination. */
void pair_open(struct transfer_pair *pair, size_t size_bytes, bool shared,
	       uint32_t n_channels);

/* Connect them, with a sender and a receiver. */
void pair_connect(struct transfer_pair *pair);

void pair_close(struct transfer_pair *pair);

/* Send one epoch and wait until it has arrived. */
void pair_round(struct transfer_pair *pair, enum pmig_epoch_kind kind,
		struct pmig_round *round, struct pmig_event *event);

/* Every byte of both memories is the same. */
void pair_check_equal(const struct transfer_pair *pair);

/* Mark pages of the source as written. */
void pair_mark(struct transfer_pair *pair, size_t first_page, size_t n_pages);

#endif
