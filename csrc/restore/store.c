/* SPDX-License-Identifier: Apache-2.0 */
/* store.c - what all formats of files share; see store.h */
#include "restore/store.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"

int store_init(struct page_store *store, const struct page_store_ops *ops,
	       const struct pmig_memory *memory, int fd, struct pmig_error *err)
{
	struct stat status;

	store->ops = ops;
	store->memory = memory;
	store->fd = fd;
	store->stored = calloc(memory->n_blocks, sizeof(*store->stored));
	if (!store->stored)
		return pmig_fail(err, -ENOMEM, "no memory for an index");
	if (fstat(fd, &status))
		return pmig_fail_errno(err, "cannot look at the file");
	if (!S_ISREG(status.st_mode))
		return pmig_fail(err, -EINVAL,
				 "memory can come from a regular file only");
	store->size_bytes = (uint64_t)status.st_size;
	return 0;
}

void store_fini(struct page_store *store)
{
	free(store->state);
	free(store->stored);
}

void store_free(struct page_store *store)
{
	if (store)
		store->ops->free(store);
}

/* So many bytes of them are there. */
static struct iovec *advance(struct iovec *iov, int *n_iov, size_t bytes)
{
	while (*n_iov && bytes >= iov->iov_len) {
		bytes -= iov->iov_len;
		iov++;
		(*n_iov)--;
	}
	if (*n_iov) {
		iov->iov_base = (uint8_t *)iov->iov_base + bytes;
		iov->iov_len -= bytes;
	}
	return iov;
}

int store_read(const struct page_store *store, struct store_bench *bench,
	       struct iovec *iov, int n_iov, uint64_t at_bytes,
	       struct pmig_error *err)
{
	while (n_iov) {
		ssize_t got = preadv(store->fd, iov, n_iov, (off_t)at_bytes);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return pmig_fail_errno(
				err, "cannot read the file at %" PRIu64,
				at_bytes);
		if (got == 0)
			return pmig_fail(err, -EBADMSG,
					 "the file ends at %" PRIu64
					 ": it was cut off after it was opened",
					 at_bytes);
		at_bytes += (uint64_t)got;
		bench->read_bytes += (uint64_t)got;
		iov = advance(iov, &n_iov, (size_t)got);
	}
	return 0;
}
