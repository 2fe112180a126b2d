/* SPDX-License-Identifier: Apache-2.0 */
/* reader_read.c - bytes of the running frame; theory in receiver.h */
#include <errno.h>

#include "base/error.h"
#include "transfer/receiver.h"

int reader_read(struct reader *reader, struct iovec *iov, int n_iov,
		struct pmig_error *err)
{
	size_t bytes = 0;
	int rc;

	for (int i = 0; i < n_iov; i++)
		bytes += iov[i].iov_len;
	rc = channel_read(reader->channel, iov, n_iov, &reader->wait, err);
	if (rc == -ENODATA)
		return pmig_fail(err, -EPIPE, "the stream ends within a frame");
	reader->wire_bytes += bytes;
	return rc;
}
