/* SPDX-License-Identifier: Apache-2.0 */
#include "channel/socket_path.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

/* Frames are written whole, so waiting to fill a segment only adds delay. */
static void set_nodelay(int fd)
{
	int on = 1;

	/* a unix socket has no such option, and needs none */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

/*
 * On a short path the kernel's own choice, 4 MiB and more, holds no more of
 * the link and pushes every page out of the cache between the sender and the
 * receiver. This much (the kernel doubles it) carries 4 GB/s at the longest
 * round trip that counts as short. Failure leaves the kernel's choice.
 */
static void bound_buffer(int fd)
{
	const uint32_t short_rtt_us = 250;
	const int send_bytes = 512 << 10;
	struct tcp_info info = {0};
	socklen_t size = sizeof(info);

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) ||
	    info.tcpi_rtt == 0 || info.tcpi_rtt > short_rtt_us)
		return;
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send_bytes, sizeof(send_bytes));
}

static bool is_loopback4(struct in_addr address)
{
	return (ntohl(address.s_addr) >> 24) == 127;
}

bool socket_path_is_local(const struct sockaddr_storage *here,
			  const struct sockaddr_storage *there)
{
	const struct sockaddr_in6 *here6 = (const void *)here;
	const struct sockaddr_in6 *there6 = (const void *)there;
	const struct sockaddr_in *here4 = (const void *)here;
	const struct sockaddr_in *there4 = (const void *)there;

	if (here->ss_family != there->ss_family)
		return false;
	if (here->ss_family == AF_UNIX)
		return true;
	if (here->ss_family == AF_INET6)
		return memcmp(&here6->sin6_addr, &there6->sin6_addr,
			      sizeof(here6->sin6_addr)) == 0;
	if (here->ss_family != AF_INET)
		return false;
	return here4->sin_addr.s_addr == there4->sin_addr.s_addr ||
	       (is_loopback4(here4->sin_addr) &&
		is_loopback4(there4->sin_addr));
}

static bool stays_here(int fd)
{
	struct sockaddr_storage here = {0}, there = {0};
	socklen_t here_size = sizeof(here), there_size = sizeof(there);

	return getsockname(fd, (struct sockaddr *)&here, &here_size) == 0 &&
	       getpeername(fd, (struct sockaddr *)&there, &there_size) == 0 &&
	       socket_path_is_local(&here, &there);
}

/*
 * Within one host there is nothing that could be congested, and what BBR does
 * to find out (rates, timers, smaller bursts) costs a quarter of the speed.
 * Reno is in every kernel, open to every user, and idle without losses. A
 * path that leaves the host keeps what its administrator chose. A socket that
 * connected with BBR stays paced all the same: only who sets this before
 * connect() is rid of the timers, too.
 */
static void control_no_congestion(int fd)
{
	static const char name[] = "reno";

	/* a unix socket has no such option, and no congestion */
	setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, strlen(name));
}

bool socket_path_space(int fd, uint64_t bytes_per_s)
{
	int protocol = 0;
	socklen_t size = sizeof(protocol);

	/* a unix socket takes the option, too, and does nothing with it */
	return getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &size) == 0 &&
	       protocol == IPPROTO_TCP &&
	       setsockopt(fd, SOL_SOCKET, SO_MAX_PACING_RATE, &bytes_per_s,
			  sizeof(bytes_per_s)) == 0;
}

bool socket_path_tune(int fd)
{
	bool local = stays_here(fd);

	set_nodelay(fd);
	bound_buffer(fd);
	if (local)
		control_no_congestion(fd);
	return local;
}
