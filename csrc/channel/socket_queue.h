/* SPDX-License-Identifier: Apache-2.0 */
/*
 * socket_queue.h - how much of what was written waits for the link
 *
 * The kernel tells how many bytes the peer has not acknowledged. Of those, as
 * many are on the way as the path holds: what it delivers within a round
 * trip when nothing else is on it. The others wait, in the socket or in the
 * queue of the interface, which of the two depends on the congestion control.
 * Of a unix socket all that was not read yet waits.
 */
#ifndef PMIG_CHANNEL_SOCKET_QUEUE_H
#define PMIG_CHANNEL_SOCKET_QUEUE_H

#include <stdint.h>

#include "channel/channel.h"

/**
 * struct socket_queue - what is known of the path
 * @path_bytes:	that it holds
 * @round_trip_ns: the shortest that was seen
 * @n_asked:	since the kernel was asked for that
 */
struct socket_queue {
	uint64_t path_bytes;
	uint64_t round_trip_ns;
	unsigned int n_asked;
};

/* Bytes that wait; 0 where the kernel does not tell. */
uint32_t socket_queue_bytes(struct socket_queue *queue, int fd);

/* Where the bytes are; of a unix socket all are under way. */
void socket_queue_look(struct socket_queue *queue, int fd,
		       struct channel_sight *sight);

#endif
