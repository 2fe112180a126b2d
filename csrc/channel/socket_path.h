/* SPDX-License-Identifier: Apache-2.0 */
/* socket_path.h - settings of a socket that follow from where it leads */
#ifndef PMIG_CHANNEL_SOCKET_PATH_H
#define PMIG_CHANNEL_SOCKET_PATH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

/*
 * Settle all of them; none is needed for the socket to work. Returns whether
 * both ends of the connection are on this host.
 */
bool socket_path_tune(int fd);

/* Have the kernel send no faster than this; false where it cannot. */
bool socket_path_space(int fd, uint64_t bytes_per_s);

/* Do both ends, as getsockname() and getpeername() tell, lie on one host? */
bool socket_path_is_local(const struct sockaddr_storage *here,
			  const struct sockaddr_storage *there);

#endif
