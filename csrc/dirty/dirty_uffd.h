/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dirty_uffd.h - what both variants of userfaultfd write-protect share
 */
#ifndef PMIG_DIRTY_DIRTY_UFFD_H
#define PMIG_DIRTY_DIRTY_UFFD_H

#include "dirty/dirty.h"
#include "uffd/uffd.h"

/**
 * struct uffd - a userfaultfd that write-protects all of memory
 * @fd:		the userfaultfd
 * @is_owned:	opened here, so closed here
 * @features:	enabled
 * @memory:	not owned
 */
struct uffd {
	int fd;
	bool is_owned;
	uint64_t features;
	const struct pmig_memory *memory;
};

/**
 * uffd_open() - take or open a userfaultfd and agree on features
 * @uffd:	filled in
 * @dirty:	its configuration says which
 * @needed:	features that must be there, besides those that the regions of
 *		memory call for
 * @optional:	features enabled where they are offered
 * @err:	filled in on failure
 *
 * Return: 0; -ENOTSUP when a feature or userfaultfd itself is not to be had,
 * which leaves a userfaultfd of the caller's as it was.
 */
int uffd_open(struct uffd *uffd, const struct pmig_dirty *dirty,
	      uint64_t needed, uint64_t optional, struct pmig_error *err);
void uffd_close(struct uffd *uffd);

/* Keep the sentence of a failure, and let the next candidate have a try. */
int uffd_not_here(struct pmig_error *err);

/* Register every region for write-protection, all or none. */
int uffd_register(const struct uffd *uffd, struct pmig_error *err);

/* Undo that: all protection goes, whoever waits in a fault goes on. */
int uffd_unregister(const struct uffd *uffd, struct pmig_error *err);

/*
 * Protect [hva, hva + size_bytes), or remove protection and wake whoever
 * waits for it. Whole pages of the backing. 0 or -errno.
 */
int uffd_protect(const struct uffd *uffd, uint64_t hva, uint64_t size_bytes,
		 bool protect);

/*
 * Widen [first, first + count) pages of a region to whole pages of its
 * backing: memory is protected and unprotected in those.
 */
void uffd_widen(const struct pmig_region_map *map, uint64_t *first,
		uint64_t *count);

#endif
