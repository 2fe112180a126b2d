/* SPDX-License-Identifier: Apache-2.0 */
/*
 * socket_splice.h - sending pages by reference, with no word when they are gone
 *
 * Theory of operation
 *
 * vmsplice(2) puts references to the caller's pages into a pipe, and splice(2)
 * moves them from there into a socket. Nothing is copied on the way, and where
 * both ends are on one host the receiver copies out of the sender's pages:
 * one copy where write(2), and MSG_ZEROCOPY on such a path, make two.
 *
 * There is no notification: the kernel lets a page go when the peer has read
 * it. What is written to the page before that may or may not be what is sent.
 * That is the same freedom that MSG_ZEROCOPY takes, and the stream allows it
 * for guest pages (docs/stream-format.md, "Suspect pages"). Nothing is
 * charged to RLIMIT_MEMLOCK.
 *
 * What lies in the pipe is always the beginning of what the caller has yet to
 * send: splice_send() counts only what has left the pipe, and the caller comes
 * again with the rest.
 */
#ifndef PMIG_CHANNEL_SOCKET_SPLICE_H
#define PMIG_CHANNEL_SOCKET_SPLICE_H

#include <stdbool.h>
#include <sys/types.h>
#include <sys/uio.h>

/**
 * struct splice_path - see above
 * @pipe_fds:	owned; -1 while there is no pipe
 * @waiting_bytes: in the pipe
 * @refused:	the kernel cannot do it with this socket
 */
struct splice_path {
	int pipe_fds[2];
	size_t waiting_bytes;
	bool refused;
};

void splice_init(struct splice_path *path);
void splice_fini(struct splice_path *path);

/* Make the pipe, once; without one splice_usable() says no. */
void splice_open(struct splice_path *path);

bool splice_usable(const struct splice_path *path);

/*
 * Send some bytes of the first piece: the count, -EAGAIN or another -errno.
 * -ENOTSUP, when nothing was taken, means that it is not usable any more.
 */
ssize_t splice_send(struct splice_path *path, int fd, const struct iovec *iov,
		    bool more);

#endif
