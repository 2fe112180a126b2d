/* SPDX-License-Identifier: Apache-2.0 */
/* file.c - a channel over an open file, pipe or block device */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "channel/channel.h"

static ssize_t file_writev(struct pmig_channel *channel,
			   const struct iovec *iov, int n_iov)
{
	ssize_t done;

	do {
		done = writev(channel->fd, iov, n_iov);
	} while (done < 0 && errno == EINTR);
	return done < 0 ? -errno : done;
}

static ssize_t file_readv(struct pmig_channel *channel, const struct iovec *iov,
			  int n_iov)
{
	ssize_t done;

	do {
		done = readv(channel->fd, iov, n_iov);
	} while (done < 0 && errno == EINTR);
	return done < 0 ? -errno : done;
}

static int file_flush(struct pmig_channel *channel)
{
	/* a pipe cannot be synchronized and says EINVAL */
	if (fdatasync(channel->fd) && errno != EINVAL && errno != EROFS)
		return -errno;
	return 0;
}

static const struct channel_ops file_ops = {
	.kind = "file",
	.ends = true,
	.writev = file_writev,
	.readv = file_readv,
	.flush = file_flush,
};

int pmig_channel_from_file(int fd, struct pmig_channel **channel,
			   struct pmig_error *err)
{
	if (fcntl(fd, F_GETFL) < 0)
		return pmig_fail_errno(err, "fd %d is not an open file", fd);
	*channel = calloc(1, sizeof(**channel));
	if (!*channel)
		return pmig_fail(err, -ENOMEM, "no memory for a channel");
	(*channel)->ops = &file_ops;
	(*channel)->fd = fd;
	return 0;
}
