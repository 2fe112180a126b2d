/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uffd.h - userfaultfd(2): opening, registering, placing pages, listening
 *
 * A thin layer that knows the interface's corners and nothing of guests:
 *
 * - Placing may stop short, and goes on. A page that is there already is no
 *   failure, but whoever waits for it may have missed the wake-up, so it is
 *   woken. A page whose mapping is gone needs none.
 * - A run that crosses the end of a mapping is refused as if it were gone;
 *   it is placed in pieces, and only a single page counts as gone.
 * - While an event of a changed mapping is unread, every placement answers
 *   EAGAIN: the caller has to let the events be read, and try again.
 *
 * Addresses are those of the process whose memory the userfaultfd is for.
 */
#ifndef PMIG_UFFD_UFFD_H
#define PMIG_UFFD_UFFD_H

#include "pymigrate.h"

/* Not in the headers of Linux before the version named. */
enum {
	PMIG_UFFD_WP_UNPOPULATED = 1 << 13, /* 6.4 */
	PMIG_UFFD_WP_ASYNC = 1 << 15,	    /* 6.7 */
};

/*
 * A new userfaultfd for faults of the kernel, too, as KVM's are; features are
 * not agreed on yet. -ENOTSUP where none is to be had.
 */
int uffd_new(struct pmig_error *err);

/* Agree on features; may be repeated with others as long as it fails. */
bool uffd_agree(int fd, uint64_t features);

/* All features that this kernel offers; 0 where there is no userfaultfd. */
uint64_t uffd_offered(void);

/* Begin and end to handle faults of a range; mode as UFFDIO_REGISTER's. */
int uffd_register_range(int fd, uint64_t start, uint64_t size_bytes,
			uint64_t mode);
int uffd_unregister_range(int fd, uint64_t start, uint64_t size_bytes);

/* How the pages of a range come to be. */
enum uffd_placement {
	UFFD_COPY,     /* new ones, with contents from elsewhere */
	UFFD_ZERO,     /* the zero page; not for hugetlbfs */
	UFFD_CONTINUE, /* those that the file behind the mapping has */
};

/**
 * struct uffd_range - pages to place
 * @start:	first byte
 * @size_bytes:	whole pages of the backing
 * @page_bytes:	of the backing
 * @from:	UFFD_COPY: their contents
 */
struct uffd_range {
	uint64_t start;
	uint64_t size_bytes;
	uint64_t page_bytes;
	const void *from;
};

/*
 * Place pages and wake whoever waits for them. *done_bytes says how far it
 * came. -EAGAIN: an event has to be read first; -ESRCH: that process has
 * ended; or another -errno.
 */
int uffd_place(int fd, enum uffd_placement placement,
	       const struct uffd_range *range, uint64_t *done_bytes);

/* Wake whoever waits for a page of the range. */
void uffd_wake(int fd, uint64_t start, uint64_t size_bytes);

/*
 * Is a mapping being changed? Then there is an event to read, or who changes
 * it has not gone on yet.
 */
bool uffd_is_changing(int fd);

/**
 * struct uffd_event - what happened to registered memory
 * @is_fault:	a thread waits for the page at @start; else the range was
 *		removed, and reads as zero from now on
 * @is_minor:	the file has the page, it only is not mapped
 * @start:	address of the fault, or first byte removed
 * @end:	behind the last byte removed
 * @thread:	that waits; 0 where the kernel does not tell
 */
struct uffd_event {
	bool is_fault;
	bool is_minor;
	uint64_t start;
	uint64_t end;
	uint32_t thread;
};

enum {
	/* what is read at once, in the kernel's form */
	UFFD_MESSAGES = 16,
	UFFD_MESSAGE_BYTES = 32,
};

/*
 * Read events that have come, without waiting: how many, or -errno. Those
 * of no interest are left out, so none may mean that some were read. room, of
 * UFFD_MESSAGES * UFFD_MESSAGE_BYTES, aligned to 8, receives what the kernel
 * said; capacity counts up to UFFD_MESSAGES.
 */
int uffd_read(int fd, void *room, struct uffd_event *events, int capacity);

/* What such a room holds; zeros are nothing. How many, up to UFFD_MESSAGES. */
int uffd_decode(const void *room, struct uffd_event *events);

#endif
