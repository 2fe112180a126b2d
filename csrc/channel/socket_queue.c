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

static uint64_t path_bytes(int fd)
{
	struct tcp_info info = {0};
	socklen_t size = sizeof(info);

	/* a unix socket has no path to speak of */
	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size))
		return 0;
	return info.tcpi_delivery_rate * info.tcpi_min_rtt / 1000000;
}

uint32_t socket_queue_bytes(struct socket_queue *queue, int fd)
{
	int bytes = 0;

	if (ioctl(fd, SIOCOUTQ, &bytes) || bytes <= 0)
		return 0;
	if (queue->n_asked++ % ASK_EVERY == 0)
		queue->path_bytes = path_bytes(fd);
	return (uint64_t)bytes > queue->path_bytes
		       ? (uint32_t)((uint64_t)bytes - queue->path_bytes)
		       : 0;
}
