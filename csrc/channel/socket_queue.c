/* SPDX-License-Identifier: Apache-2.0 */
#include "channel/socket_queue.h"

#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

enum {
	/* the path changes slowly, and asking costs a microsecond */
	ASK_EVERY = 16,
};

static void look_at_path(struct socket_queue *queue, int fd)
{
	struct tcp_info info = {0};
	socklen_t size = sizeof(info);

	if (queue->n_asked++ % ASK_EVERY)
		return;
	/* a unix socket has no path to speak of */
	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size))
		return;
	queue->round_trip_ns = 1000ull * info.tcpi_min_rtt;
	queue->path_bytes =
		info.tcpi_delivery_rate * info.tcpi_min_rtt / 1000000;
}

/*
 * SIOCOUTQ: not acknowledged, of a unix socket not read. SIOCOUTQNSD: not
 * sent; a unix socket has none.
 */
static uint32_t count(int fd, unsigned long what)
{
	int bytes = 0;

	return ioctl(fd, what, &bytes) || bytes < 0 ? 0 : (uint32_t)bytes;
}

/* What of these is more than fits the path. */
static uint32_t beyond_path(const struct socket_queue *queue, uint32_t bytes)
{
	return bytes > queue->path_bytes ? bytes - (uint32_t)queue->path_bytes
					 : 0;
}

uint32_t socket_queue_bytes(struct socket_queue *queue, int fd)
{
	uint32_t bytes = count(fd, SIOCOUTQ);

	if (!bytes)
		return 0;
	look_at_path(queue, fd);
	return beyond_path(queue, bytes);
}

void socket_queue_look(struct socket_queue *queue, int fd,
		       struct channel_sight *sight)
{
	uint32_t unsent = count(fd, SIOCOUTQNSD);
	uint32_t unacknowledged = count(fd, SIOCOUTQ);

	look_at_path(queue, fd);
	*sight = (struct channel_sight){
		.unsent_bytes = unsent,
		/* some may have been sent in between */
		.in_flight_bytes =
			unacknowledged > unsent ? unacknowledged - unsent : 0,
		.backlog_bytes = beyond_path(queue, unacknowledged),
		.round_trip_ns = queue->round_trip_ns,
	};
}
