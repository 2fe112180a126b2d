/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store.h - pages in a file, found by where they belong
 *
 * One contract for every format of file. A store is made once, and then read
 * by several threads at a time, each of which has a bench of its own.
 *
 * Reading is in three steps, so that a thread can claim what it will read
 * before it does: survey() says which pages come along with some, since they
 * were compressed together; the caller claims of them what nobody else has;
 * fetch() puts those together.
 */
#ifndef PMIG_RESTORE_STORE_H
#define PMIG_RESTORE_STORE_H

#include <sys/uio.h>

#include "memory/memory.h"
#include "restore/bench.h"

struct page_store;

/**
 * struct store_lot - pages of a block to be put together
 * @block:	where they belong
 * @number:	of the block
 * @wanted:	the pages
 * @at:		room for the block
 * @zero:	out: those of @wanted that are zeros, and not put at @at
 */
struct store_lot {
	struct pmig_block block;
	uint64_t number;
	uint64_t wanted;
	uint8_t *at;
	uint64_t zero;
};

/**
 * struct page_store_ops - a format
 * @survey:	which pages are as good as read when some are: those, and more
 * @fetch:	put pages together, and check them: -EBADMSG where they are not
 *		what they should be, and another -errno where the file cannot
 *		be read; what is at @at is then of no account
 * @free:	of the store; nothing fetches any more
 */
struct page_store_ops {
	int (*survey)(const struct page_store *store, struct store_bench *bench,
		      uint64_t number, uint64_t pages, uint64_t *gain,
		      struct pmig_error *err);
	int (*fetch)(const struct page_store *store, struct store_bench *bench,
		     struct store_lot *lot, struct pmig_error *err);
	void (*free)(struct page_store *store);
};

/**
 * struct page_store - the part that all formats have
 * @ops:	of the format
 * @memory:	whose pages they are; borrowed
 * @fd:		the file; borrowed
 * @size_bytes:	of the file
 * @stored:	per block, pages that may be other than zeros; owned
 * @state:	of the machine, or NULL; owned
 * @state_bytes: its size
 * @n_frames:	that describe pages, where the format has frames
 * @has_index:	the file says itself where they are
 */
struct page_store {
	const struct page_store_ops *ops;
	const struct pmig_memory *memory;
	int fd;
	uint64_t size_bytes;
	uint64_t *stored;
	uint8_t *state;
	uint64_t state_bytes;
	uint64_t n_frames;
	bool has_index;
};

/* A stream: index.c, stream.c. */
int stream_store_new(const struct pmig_memory *memory, int fd,
		     struct page_store **store, struct pmig_error *err);

/* Memory as it is; offsets: where each region begins. raw.c. */
int raw_store_new(const struct pmig_memory *memory, int fd,
		  const uint64_t *offsets, struct page_store **store,
		  struct pmig_error *err);

void store_free(struct page_store *store);

/* store.c: the common part. store_fini() is right also after a failure. */
int store_init(struct page_store *store, const struct page_store_ops *ops,
	       const struct pmig_memory *memory, int fd,
	       struct pmig_error *err);
void store_fini(struct page_store *store);

/* Read just so many bytes; changes iov. A file that ends is an error. */
int store_read(const struct page_store *store, struct store_bench *bench,
	       struct iovec *iov, int n_iov, uint64_t at_bytes,
	       struct pmig_error *err);

#endif
