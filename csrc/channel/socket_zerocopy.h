/* SPDX-License-Identifier: Apache-2.0 */
/*
 * socket_zerocopy.h - MSG_ZEROCOPY: sending pages without copying them
 *
 * Theory of operation
 *
 * With MSG_ZEROCOPY the kernel takes references to the caller's pages instead
 * of copying their bytes, and tells in the socket's error queue when it has
 * let them go: after the peer has acknowledged them. Until then whoever
 * writes to such a page changes what is sent.
 *
 * So only memory that may change in flight is sent that way, and only in runs
 * that are long enough to pay for the bookkeeping. The pieces of a write that
 * are marked as stable are guest pages; frame heads and everything else that
 * is built in a buffer is sent with a copy, and its buffer may be reused at
 * once. What docs/architecture.md says of suspect pages holds for pages that
 * change in flight as it does for pages that change between being hashed and
 * being copied; the time in which it can happen is longer.
 *
 * How much is outstanding is bounded by the send buffer of the socket, which
 * counts referenced pages as well. They also count against RLIMIT_MEMLOCK,
 * and their notifications against net.core.optmem_max. When one of these is
 * used up (ENOBUFS), the run at hand is copied; nobody waits, so a lack of
 * lockable memory costs no more than not having the feature.
 *
 * It is given up, with a reason that can be shown:
 *
 *	at once		the socket is not TCP, or the kernel is older than 4.14
 *	at ENOBUFS	with nothing outstanding, or for most runs
 *	by completions	that say that the bytes were copied after all: over
 *			loopback and veth, and by cards without scatter-gather;
 *			then it costs more than plain sending
 *
 * PMIG_CHOICE_ON goes on in spite of the last.
 */
#ifndef PMIG_CHANNEL_SOCKET_ZEROCOPY_H
#define PMIG_CHANNEL_SOCKET_ZEROCOPY_H

#include <sys/types.h>
#include <sys/uio.h>

#include "pymigrate.h"

enum {
	/* of a run; below, looking pages up costs more than copying them */
	ZEROCOPY_MIN_BYTES = 32 << 10,
	/* completions, or attempts, after which the kernel's way is known */
	ZEROCOPY_TRIAL = 16,
};

/**
 * struct zerocopy - state of one socket
 * @wanted:	as asked for last
 * @possible:	SO_ZEROCOPY is set
 * @active:	long runs are sent without a copy
 * @verdict:	what experience says against it, or NULL; static
 * @reason:	what speaks against it altogether, or NULL; static
 * @sent:	sends that will be notified; the kernel numbers them in 32 bits
 * @done:	notified
 * @copied:	of @done, those whose bytes were copied after all
 * @refused:	runs that met ENOBUFS
 */
struct zerocopy {
	enum pmig_choice wanted;
	bool possible;
	bool active;
	const char *verdict;
	const char *reason;
	uint32_t sent;
	uint32_t done;
	uint32_t copied;
	uint32_t refused;
};

void zerocopy_init(struct zerocopy *zc);

/*
 * Ask for it, or stop it. Asking for something else than before forgets what
 * experience said. -ENOTSUP for PMIG_CHOICE_ON where it cannot be.
 */
int zerocopy_choose(struct zerocopy *zc, int fd, enum pmig_choice wanted,
		    struct pmig_error *err);

/*
 * Send some bytes of pages that may change in flight: the count, -EAGAIN or
 * another -errno. Copies them where that is better.
 */
ssize_t zerocopy_send(struct zerocopy *zc, int fd, const struct iovec *iov,
		      int n_iov, int flags);

/* Send some bytes with a copy; as zerocopy_send(). */
ssize_t zerocopy_copy(int fd, const struct iovec *iov, int n_iov, int flags);

/* Read the notifications that have come; true when there were any. */
bool zerocopy_reap(struct zerocopy *zc, int fd);

#endif
