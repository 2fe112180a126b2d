/* SPDX-License-Identifier: Apache-2.0 */
#include "dirty/dirty_uffd.h"

#include <errno.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/error.h"

int uffd_not_here(struct pmig_error *err)
{
	if (err)
		err->code = -ENOTSUP;
	return -ENOTSUP;
}

/* A refused UFFDIO_API changes nothing and may be repeated with less. */
static bool agree(struct uffd *uffd, uint64_t features)
{
	if (!uffd_agree(uffd->fd, features))
		return false;
	uffd->features = features;
	return true;
}

static uint64_t region_features(const struct pmig_memory *memory)
{
	uint64_t features = UFFD_FEATURE_PAGEFAULT_FLAG_WP;

	for (uint32_t i = 0; i < memory->n_maps; i++) {
		const struct pmig_region *region = &memory->maps[i].region;

		if ((region->flags & PMIG_REGION_SHARED) ||
		    region->page_size_bytes > PMIG_PAGE_BYTES)
			features |= UFFD_FEATURE_WP_HUGETLBFS_SHMEM;
	}
	return features;
}

static const char *missing(uint64_t needed)
{
	if (needed & PMIG_UFFD_WP_ASYNC)
		return "asynchronous write-protection (Linux 6.7, "
		       "UFFD_FEATURE_WP_ASYNC)";
	if (needed & UFFD_FEATURE_WP_HUGETLBFS_SHMEM)
		return "write-protection of shared memory (Linux 5.19, "
		       "UFFD_FEATURE_WP_HUGETLBFS_SHMEM)";
	return "write-protection (Linux 5.7, UFFD_FEATURE_PAGEFAULT_FLAG_WP)";
}

int uffd_open(struct uffd *uffd, const struct pmig_dirty *dirty,
	      uint64_t needed, uint64_t optional, struct pmig_error *err)
{
	needed |= region_features(dirty->memory);
	*uffd = (struct uffd){
		.fd = dirty->config.uffd,
		.is_owned = dirty->config.uffd < 0,
		.memory = dirty->memory,
	};
	if (uffd->is_owned) {
		uffd->fd = uffd_new(err);
		if (uffd->fd < 0)
			return uffd->fd;
	}
	if (agree(uffd, needed | optional) || agree(uffd, needed))
		return 0;
	uffd_close(uffd);
	return pmig_fail(err, -ENOTSUP, "userfaultfd does not offer %s%s",
			 missing(needed),
			 uffd->is_owned ? ""
					: ", or UFFDIO_API was called on "
					  "the one in config.uffd");
}

void uffd_close(struct uffd *uffd)
{
	if (uffd->is_owned && uffd->fd >= 0)
		close(uffd->fd);
	uffd->fd = -1;
}

static int unregister_regions(const struct uffd *uffd, uint32_t n,
			      struct pmig_error *err)
{
	int rc = 0;

	for (uint32_t i = 0; i < n; i++) {
		const struct pmig_region *region =
			&uffd->memory->maps[i].region;
		int failure = uffd_unregister_range(
			uffd->fd, (uint64_t)(uintptr_t)region->hva,
			region->size_bytes);

		if (!failure || rc)
			continue;
		errno = -failure;
		rc = pmig_fail_errno(err,
				     "region %s: cannot unregister from "
				     "userfaultfd",
				     region->name);
	}
	return rc;
}

int uffd_register(const struct uffd *uffd, struct pmig_error *err)
{
	for (uint32_t i = 0; i < uffd->memory->n_maps; i++) {
		const struct pmig_region *region =
			&uffd->memory->maps[i].region;
		int rc = uffd_register_range(
			uffd->fd, (uint64_t)(uintptr_t)region->hva,
			region->size_bytes, UFFDIO_REGISTER_MODE_WP);

		if (!rc)
			continue;
		errno = -rc;
		rc = pmig_fail_errno(err,
				     "region %s: cannot register for "
				     "write-protection",
				     region->name);
		unregister_regions(uffd, i, NULL);
		return rc;
	}
	return 0;
}

int uffd_unregister(const struct uffd *uffd, struct pmig_error *err)
{
	return unregister_regions(uffd, uffd->memory->n_maps, err);
}

int uffd_protect(const struct uffd *uffd, uint64_t hva, uint64_t size_bytes,
		 bool protect)
{
	struct uffdio_writeprotect arg = {
		.range = {hva, size_bytes},
		.mode = protect ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};

	/* EAGAIN: the address space is being changed, which ends by itself */
	while (ioctl(uffd->fd, UFFDIO_WRITEPROTECT, &arg))
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
	return 0;
}

void uffd_widen(const struct pmig_region_map *map, uint64_t *first,
		uint64_t *count)
{
	uint64_t pages = map->region.page_size_bytes / PMIG_PAGE_BYTES;
	uint64_t end = (*first + *count + pages - 1) / pages * pages;

	*first = *first / pages * pages;
	*count = end - *first;
}
