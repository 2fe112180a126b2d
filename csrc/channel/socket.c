/* SPDX-License-Identifier: Apache-2.0 */
/* socket.c - a channel over a connected stream socket, TCP or unix */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/error.h"
#include "channel/channel.h"
#include "channel/socket_path.h"
#include "channel/socket_queue.h"
#include "channel/socket_zerocopy.h"

/**
 * struct socket_channel - see pmig_channel_from_socket()
 * @base:	must be first
 * @zerocopy:	how stable pieces are sent
 * @queue:	of what waits for the link
 * @spaced:	each write is sent apart from the others
 */
struct socket_channel {
	struct pmig_channel base;
	struct zerocopy zerocopy;
	struct socket_queue queue;
	bool spaced;
};

static struct zerocopy *zerocopy_of(struct pmig_channel *channel)
{
	return &((struct socket_channel *)channel)->zerocopy;
}

static ssize_t socket_send(struct pmig_channel *channel,
			   const struct iovec *iov, int n_iov, bool stable,
			   bool more)
{
	struct socket_channel *socket = (void *)channel;
	int flags = more ? MSG_MORE : 0;

	/* segments end where writes do, or the kernel would join them */
	if (socket->spaced)
		return zerocopy_copy(channel->fd, iov, n_iov,
				     more ? MSG_MORE : MSG_EOR);
	if (stable)
		return zerocopy_send(zerocopy_of(channel), channel->fd, iov,
				     n_iov, flags);
	return zerocopy_copy(channel->fd, iov, n_iov, flags);
}

static ssize_t socket_writev(struct pmig_channel *channel,
			     const struct iovec *iov, int n_iov)
{
	return zerocopy_copy(channel->fd, iov, n_iov, 0);
}

static int socket_choose_zero_copy(struct pmig_channel *channel,
				   enum pmig_choice wanted,
				   struct pmig_error *err)
{
	struct socket_channel *socket = (void *)channel;

	return zerocopy_choose(&socket->zerocopy, channel->fd, wanted, err);
}

static bool socket_zero_copy_state(const struct pmig_channel *channel,
				   const char **reason)
{
	const struct socket_channel *socket = (const void *)channel;

	if (reason)
		*reason = socket->zerocopy.reason;
	/* spaced writes are copied: each is one call, and one segment */
	return !socket->spaced && socket->zerocopy.active;
}

static bool socket_settle(struct pmig_channel *channel)
{
	return zerocopy_reap(zerocopy_of(channel), channel->fd);
}

static bool socket_settled(const struct pmig_channel *channel)
{
	const struct zerocopy *zc =
		&((const struct socket_channel *)channel)->zerocopy;

	return zc->done == zc->sent;
}

static ssize_t socket_readv(struct pmig_channel *channel,
			    const struct iovec *iov, int n_iov)
{
	struct msghdr message = {
		.msg_iov = (struct iovec *)iov,
		.msg_iovlen = (size_t)n_iov,
	};
	ssize_t done;

	do {
		done = recvmsg(channel->fd, &message, 0);
	} while (done < 0 && errno == EINTR);
	return done < 0 ? -errno : done;
}

static uint32_t socket_backlog(struct pmig_channel *channel)
{
	struct socket_channel *socket = (void *)channel;

	return socket_queue_bytes(&socket->queue, channel->fd);
}

static void socket_look(struct pmig_channel *channel,
			struct channel_sight *sight)
{
	struct socket_channel *socket = (void *)channel;

	socket_queue_look(&socket->queue, channel->fd, sight);
}

static bool socket_space(struct pmig_channel *channel, uint64_t bytes_per_s)
{
	struct socket_channel *socket = (void *)channel;

	socket->spaced = socket_path_space(channel->fd, bytes_per_s);
	return socket->spaced;
}

static const struct channel_ops socket_ops = {
	.kind = "socket",
	.writev = socket_writev,
	.readv = socket_readv,
	.choose_zero_copy = socket_choose_zero_copy,
	.zero_copy_state = socket_zero_copy_state,
	.send = socket_send,
	.settle = socket_settle,
	.settled = socket_settled,
	.backlog = socket_backlog,
	.look = socket_look,
	.space = socket_space,
};

static int check_socket(int fd, struct pmig_error *err)
{
	socklen_t size = sizeof(int);
	int type;

	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size))
		return pmig_fail_errno(err, "fd %d is not a usable socket", fd);
	if (type != SOCK_STREAM)
		return pmig_fail(err, -EINVAL, "fd %d is not a stream socket",
				 fd);
	return 0;
}

int pmig_channel_from_socket(int fd, struct pmig_channel **channel,
			     struct pmig_error *err)
{
	struct socket_channel *made;
	bool local;
	int flags;
	int rc = check_socket(fd, err);

	if (rc)
		return rc;
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK))
		return pmig_fail_errno(err, "cannot make fd %d non-blocking",
				       fd);
	local = socket_path_tune(fd);
	made = calloc(1, sizeof(*made));
	if (!made)
		return pmig_fail(err, -ENOMEM, "no memory for a channel");
	made->base.ops = &socket_ops;
	made->base.fd = fd;
	made->base.local = local;
	zerocopy_init(&made->zerocopy);
	*channel = &made->base;
	return 0;
}
