/* SPDX-License-Identifier: Apache-2.0 */
/* null.c - a sink, to measure a sender without a receiver */
#include <stdlib.h>

#include <errno.h>

#include "base/error.h"
#include "channel/channel.h"

static ssize_t null_writev(struct pmig_channel *channel,
			   const struct iovec *iov, int n_iov)
{
	ssize_t bytes = 0;

	(void)channel;
	for (int i = 0; i < n_iov; i++)
		bytes += (ssize_t)iov[i].iov_len;
	return bytes;
}

static ssize_t null_readv(struct pmig_channel *channel, const struct iovec *iov,
			  int n_iov)
{
	(void)channel;
	(void)iov;
	(void)n_iov;
	return 0;
}

static const struct channel_ops null_ops = {
	.kind = "null",
	.ends = true,
	.writev = null_writev,
	.readv = null_readv,
};

int pmig_channel_null(struct pmig_channel **channel, struct pmig_error *err)
{
	*channel = calloc(1, sizeof(**channel));
	if (!*channel)
		return pmig_fail(err, -ENOMEM, "no memory for a channel");
	(*channel)->ops = &null_ops;
	(*channel)->fd = -1;
	return 0;
}
