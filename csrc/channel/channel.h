/* SPDX-License-Identifier: Apache-2.0 */
/*
 * channel.h - an ordered byte stream, whatever carries it
 *
 * The engine writes and reads whole runs of bytes through channel_write() and
 * channel_read(); those loop over the ops of the kind of channel, which move
 * some bytes or say that they would block. Waiting happens in one place, so
 * that every wait ends on cancellation and on a stall.
 */
#ifndef PMIG_CHANNEL_CHANNEL_H
#define PMIG_CHANNEL_CHANNEL_H

#include <stdatomic.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "pymigrate.h"

/**
 * struct channel_sight - where bytes that were written are
 * @unsent_bytes: in this host, and wait for their turn
 * @in_flight_bytes: under way, and not acknowledged by the peer
 * @backlog_bytes: of all these, more than the path itself holds: they wait
 *		somewhere; see channel_backlog()
 * @round_trip_ns: the shortest that was seen; 0: not known
 */
struct channel_sight {
	uint64_t unsent_bytes;
	uint64_t in_flight_bytes;
	uint32_t backlog_bytes;
	uint64_t round_trip_ns;
};

/**
 * struct channel_ops - one kind of channel
 * @kind:	for messages: "socket", "file", "null", "memory"
 * @ends:	reading at the end says so at once, so that it can be asked
 * @writev:	write some bytes of at most IOV_MAX pieces; the count (> 0),
 *		-EAGAIN when nothing can be written now, or another -errno
 * @readv:	read some bytes; the count, 0 at the end, -EAGAIN, or -errno
 * @choose_zero_copy: see channel_zero_copy(). NULL: the kind has none.
 * @zero_copy_state: see channel_zero_copy_state(). NULL likewise.
 * @send:	as @writev, of memory that may change until it has been sent
 *		when @stable, with more to follow at once when @more. NULL
 *		where that makes no difference.
 * @settle:	take note of sends that are complete; true when there were
 *		some. NULL where sending is complete at once.
 * @settled:	all are. NULL likewise.
 * @backlog:	bytes still waiting to be sent. NULL: there never are any
 * @look:	see channel_look(). NULL: nothing is ever under way
 * @space:	see channel_space(). NULL: it cannot
 * @flush:	make what was written durable; 0 or -errno. May be NULL.
 * @free:	release what the kind owns. May be NULL.
 */
struct channel_ops {
	const char *kind;
	bool ends;
	ssize_t (*writev)(struct pmig_channel *channel, const struct iovec *iov,
			  int n_iov);
	ssize_t (*readv)(struct pmig_channel *channel, const struct iovec *iov,
			 int n_iov);
	int (*choose_zero_copy)(struct pmig_channel *channel,
				enum pmig_choice wanted,
				struct pmig_error *err);
	bool (*zero_copy_state)(const struct pmig_channel *channel,
				const char **reason);
	ssize_t (*send)(struct pmig_channel *channel, const struct iovec *iov,
			int n_iov, bool stable, bool more);
	bool (*settle)(struct pmig_channel *channel);
	bool (*settled)(const struct pmig_channel *channel);
	uint32_t (*backlog)(struct pmig_channel *channel);
	void (*look)(struct pmig_channel *channel, struct channel_sight *sight);
	bool (*space)(struct pmig_channel *channel, uint64_t bytes_per_s);
	int (*flush)(struct pmig_channel *channel);
	void (*free)(struct pmig_channel *channel);
};

/**
 * struct pmig_channel - base of every kind
 * @ops:	its kind
 * @fd:		the caller's descriptor, or -1
 * @local:	the peer runs on this host, and shares its processors
 * @blocked_ns:	time spent waiting until something could be written
 */
struct pmig_channel {
	const struct channel_ops *ops;
	int fd;
	bool local;
	atomic_uint_least64_t blocked_ns;
};

/**
 * struct channel_wait - when to stop waiting
 * @cancel_fd:	an eventfd; readable means -ECANCELED
 * @stall_ms:	no byte moved for this long means -ETIMEDOUT; -1: never
 */
struct channel_wait {
	int cancel_fd;
	int stall_ms;
};

/*
 * Write everything. iov is used up. 0, -ECANCELED, -ETIMEDOUT, -EPIPE when
 * the peer is gone, or another -errno, with a sentence.
 */
int channel_write(struct pmig_channel *channel, struct iovec *iov, int n_iov,
		  const struct channel_wait *wait, struct pmig_error *err);

/*
 * As channel_write(), where bit i of the bitmap stable marks piece i as
 * stable: memory that stays where it is, and may be read by the kernel until
 * the peer has acknowledged it. Changing it meanwhile changes what is sent, or
 * does not; guest pages are such memory, and whatever has a hash in the
 * stream. All other pieces are copied, and may be reused on return. It makes a
 * difference only where channel_zero_copy() asked for it.
 */
int channel_write_marked(struct pmig_channel *channel, struct iovec *iov,
			 int n_iov, const uint64_t *stable,
			 const struct channel_wait *wait,
			 struct pmig_error *err);

/*
 * Whether marked pieces are to be sent without a copy (MSG_ZEROCOPY):
 * PMIG_CHOICE_AUTO tries and gives up where it does not help, PMIG_CHOICE_ON
 * goes on where the kernel copies anyway. Off to begin with. -ENOTSUP for
 * PMIG_CHOICE_ON where it cannot be; AUTO never fails. Only on the thread
 * that writes.
 */
int channel_zero_copy(struct pmig_channel *channel, enum pmig_choice wanted,
		      struct pmig_error *err);

/*
 * Are marked pieces sent without a copy? *reason (may be NULL) receives what
 * speaks against it, or NULL; a static string.
 */
bool channel_zero_copy_state(const struct pmig_channel *channel,
			     const char **reason);

/*
 * Wait until the kernel has let go of all marked pieces, that is, until the
 * peer has acknowledged them: what is changed from then on is not sent. Errors
 * as channel_write(); returns at once where nothing is outstanding.
 */
int channel_settle(struct pmig_channel *channel,
		   const struct channel_wait *wait, struct pmig_error *err);

/*
 * Read exactly the bytes of iov, which is used up. Errors as above; -EPIPE
 * when the stream ends before that, and -ENODATA when it ends before the
 * first byte.
 */
int channel_read(struct pmig_channel *channel, struct iovec *iov, int n_iov,
		 const struct channel_wait *wait, struct pmig_error *err);

/* Wait until there is something to read (or the end). */
int channel_wait_readable(struct pmig_channel *channel,
			  const struct channel_wait *wait,
			  struct pmig_error *err);

/* Wait until something can be written. */
int channel_wait_writable(struct pmig_channel *channel,
			  const struct channel_wait *wait,
			  struct pmig_error *err);

/* The writer had to wait before it could write, for whatever reason. */
static inline void channel_blocked(struct pmig_channel *channel, uint64_t ns)
{
	atomic_fetch_add_explicit(&channel->blocked_ns, ns,
				  memory_order_relaxed);
}

/*
 * Bytes that were written before and are still waiting to be sent. Whoever
 * finds some at every write is faster than the link.
 */
static inline uint32_t channel_backlog(struct pmig_channel *channel)
{
	return channel->ops->backlog ? channel->ops->backlog(channel) : 0;
}

/* Where is what was written? Only on the thread that writes. */
static inline struct channel_sight channel_look(struct pmig_channel *channel)
{
	struct channel_sight sight = {0};

	if (channel->ops->look)
		channel->ops->look(channel, &sight);
	return sight;
}

/*
 * Let the kernel send no faster than this, and each write apart from the
 * others, so that nothing on the way has to hold more than one of them.
 * False: it cannot. Only on the thread that writes.
 */
static inline bool channel_space(struct pmig_channel *channel,
				 uint64_t bytes_per_s)
{
	return channel->ops->space && channel->ops->space(channel, bytes_per_s);
}

int channel_flush(struct pmig_channel *channel, struct pmig_error *err);

#endif
