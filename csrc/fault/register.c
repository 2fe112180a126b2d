/* SPDX-License-Identifier: Apache-2.0 */
/* register.c - handing faults of guest memory to userfaultfd, and back */
#include <errno.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "base/error.h"
#include "fault/faults.h"

static uint64_t needed_features(const struct pmig_memory *memory)
{
	uint64_t features = UFFD_FEATURE_EVENT_REMOVE;

	for (uint32_t i = 0; i < memory->n_maps; i++) {
		const struct pmig_region *region = &memory->maps[i].region;
		bool large = region->page_size_bytes > PMIG_PAGE_BYTES;

		if (large)
			features |= UFFD_FEATURE_MISSING_HUGETLBFS;
		else if (region->flags & PMIG_REGION_SHARED)
			features |= UFFD_FEATURE_MISSING_SHMEM;
	}
	return features;
}

/* Those by which files' pages are placed. */
static uint64_t mapping_features(const struct pmig_memory *memory)
{
	uint64_t features = 0;

	for (uint32_t i = 0; i < memory->n_maps; i++) {
		const struct pmig_region *region = &memory->maps[i].region;

		if (!(region->flags & PMIG_REGION_SHARED))
			continue;
		features |= region->page_size_bytes > PMIG_PAGE_BYTES
				    ? UFFD_FEATURE_MINOR_HUGETLBFS
				    : UFFD_FEATURE_MINOR_SHMEM;
	}
	return features;
}

bool faults_can_map(const struct pmig_memory *memory)
{
	uint64_t wanted = mapping_features(memory);

	return (uffd_offered() & wanted) == wanted;
}

static uint64_t used_features(const struct pmig_faults *faults)
{
	uint64_t features = needed_features(faults->memory);

	for (uint32_t i = 0; i < faults->n_landings; i++)
		if (faults->landings[i].mapped)
			return features | mapping_features(faults->memory);
	return features;
}

int faults_open_uffds(struct pmig_faults *faults, struct pmig_error *err)
{
	uint64_t features = used_features(faults);

	for (uint32_t i = 0; i < faults->n_handlers; i++) {
		int fd = uffd_new(err);

		if (fd < 0)
			return fd;
		faults->handlers[i].fd = fd;
		/* threads are told apart where the kernel can */
		if (!uffd_agree(fd, features | UFFD_FEATURE_THREAD_ID) &&
		    !uffd_agree(fd, features))
			return pmig_fail(err, -ENOTSUP,
					 "userfaultfd does not handle faults "
					 "of this kind of memory, or no "
					 "removals (Linux 4.11)");
	}
	return 0;
}

static uint64_t stripe_bytes(const struct pmig_region *region)
{
	return region->page_size_bytes > FAULT_STRIPE_BYTES
		       ? region->page_size_bytes
		       : FAULT_STRIPE_BYTES;
}

/* Stripes of all regions are as large, so that an offset is enough. */
int faults_fd(const struct pmig_faults *faults, uint64_t offset_bytes)
{
	uint64_t largest = FAULT_STRIPE_BYTES;

	for (uint32_t i = 0; i < faults->n_landings; i++) {
		uint64_t bytes = stripe_bytes(&faults->landings[i].map->region);

		if (bytes > largest)
			largest = bytes;
	}
	return faults->handlers[offset_bytes / largest % faults->n_handlers].fd;
}

static int register_region(const struct pmig_faults *faults,
			   const struct landing *landing,
			   struct pmig_error *err)
{
	const struct pmig_region *region = &landing->map->region;
	uint64_t step = stripe_bytes(region);
	uint64_t mode = UFFDIO_REGISTER_MODE_MISSING;

	if (landing->mapped)
		mode |= UFFDIO_REGISTER_MODE_MINOR;
	for (uint64_t at = 0; at < region->size_bytes; at += step) {
		uint64_t left = region->size_bytes - at;
		int rc = uffd_register_range(faults_fd(faults, at),
					     landing->base + at,
					     left < step ? left : step, mode);

		if (!rc)
			continue;
		errno = -rc;
		return pmig_fail_errno(err,
				       "region %s: cannot register for faults",
				       region->name);
	}
	return 0;
}

int faults_register(struct pmig_faults *faults, struct pmig_error *err)
{
	int rc = 0;

	faults->registered = true;
	for (uint32_t i = 0; i < faults->n_landings && !rc; i++)
		rc = register_region(faults, &faults->landings[i], err);
	return rc;
}

static void unregister_region(const struct pmig_faults *faults,
			      const struct landing *landing)
{
	const struct pmig_region *region = &landing->map->region;
	uint64_t step = stripe_bytes(region);

	for (uint64_t at = 0; at < region->size_bytes; at += step) {
		uint64_t left = region->size_bytes - at;

		uffd_unregister_range(faults_fd(faults, at), landing->base + at,
				      left < step ? left : step);
	}
}

void faults_unregister(struct pmig_faults *faults)
{
	if (!atomic_exchange(&faults->registered, false))
		return;
	for (uint32_t i = 0; i < faults->n_landings; i++)
		unregister_region(faults, &faults->landings[i]);
	faults_restore_huge_pages(faults);
}

/* ---- huge pages -------------------------------------------------------- */

/* The advice on huge pages that the mapping at hva has now; 0: none. */
static int advice_at(const void *hva)
{
	unsigned long long start, end;
	bool inside = false;
	char line[512];
	int advice = 0;
	FILE *file = fopen("/proc/self/smaps", "re");

	if (!file)
		return 0;
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%llx-%llx ", &start, &end) == 2)
			inside =
				(uintptr_t)hva >= start && (uintptr_t)hva < end;
		if (!inside || strncmp(line, "VmFlags:", 8))
			continue;
		if (strstr(line, " hg"))
			advice = MADV_HUGEPAGE;
		else if (strstr(line, " nh"))
			advice = MADV_NOHUGEPAGE;
		break;
	}
	fclose(file);
	return advice;
}

/*
 * The kernel makes huge pages of small ones by itself, and fills what is
 * missing with zeros. It leaves registered memory alone, but until it is
 * registered, it must be told.
 */
void faults_forbid_huge_pages(struct pmig_faults *faults)
{
	for (uint32_t i = 0; i < faults->n_landings; i++) {
		const struct pmig_region *region =
			&faults->landings[i].map->region;

		if (faults->advice[i] || !faults->landings[i].own ||
		    region->page_size_bytes > PMIG_PAGE_BYTES)
			continue;
		faults->advice[i] = advice_at(region->hva);
		if (!faults->advice[i])
			faults->advice[i] = MADV_HUGEPAGE;
		madvise(region->hva, region->size_bytes, MADV_NOHUGEPAGE);
	}
}

void faults_restore_huge_pages(struct pmig_faults *faults)
{
	for (uint32_t i = 0; i < faults->n_landings; i++) {
		const struct pmig_region *region =
			&faults->landings[i].map->region;

		if (faults->advice[i])
			madvise(region->hva, region->size_bytes,
				faults->advice[i]);
		faults->advice[i] = 0;
	}
}
