/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ask.h - requests for pages, on their way to the source
 *
 * Requests are frames of a stream of their own (docs/stream-format.md,
 * "Requests"), which goes against the pages on the urgent channel. A handler
 * writes its request itself, at once; it never waits for the channel: there
 * are no more requests than threads that wait, so a channel that takes none
 * leads to nobody. What could not be written is asked for again when a
 * channel is attached the next time.
 *
 * What came without being asked for waits for its turn in a socket of this
 * host, where the source does not see it, and a page that is asked for
 * meanwhile waits as long. So the source is told how far the reader of a
 * channel has come, and keeps what waits short.
 *
 * Where the pages are at hand in this process, in a file, requests go to a
 * sink: a function that takes them, with neither frames nor a channel.
 */
#ifndef PMIG_FAULT_ASK_H
#define PMIG_FAULT_ASK_H

#include <pthread.h>

#include "channel/channel.h"
#include "stream/wire.h"

/**
 * struct ask_sink - who has the pages, in this process
 * @request:	takes a request; called with the locks of the faults held, so
 *		it only notes what is wanted
 * @no_more:	nothing is missing any more; likewise
 * @opaque:	for both
 */
struct ask_sink {
	void (*request)(void *opaque, uint64_t block, uint64_t pages);
	void (*no_more)(void *opaque);
	void *opaque;
};

/**
 * struct ask - see above
 * @lock:	guards the others
 * @sink:	takes requests instead of a channel, or NULL; borrowed
 * @channel:	to the source, or NULL; borrowed
 * @sequence:	of the next frame
 * @broken:	a request was cut short, so nothing may follow
 */
struct ask {
	pthread_mutex_t lock;
	const struct ask_sink *sink;
	struct pmig_channel *channel;
	uint64_t sequence;
	bool broken;
};

void ask_init(struct ask *ask);
void ask_fini(struct ask *ask);

/* Ask on this channel from now on, or on none. */
void ask_attach(struct ask *ask, struct pmig_channel *channel);

/* Ask this sink from now on, or nobody; the one before is not called again. */
void ask_attach_sink(struct ask *ask, const struct ask_sink *sink);

/* Ask for pages of a block; false when that is not possible now. */
bool ask_for(struct ask *ask, uint64_t block,
	     const struct wire_request *request);

/* So many pages that came on a channel are dealt with; false likewise. */
bool ask_placed(struct ask *ask, uint32_t channel, uint64_t pages);

/* Nothing is missing any more; false likewise. */
bool ask_no_more(struct ask *ask);

#endif
