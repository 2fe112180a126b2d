/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/ram.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/error.h"
#include "vmm/layout.h"

/* Linux 4.14: memfd_create(MFD_HUGE_2MB); absent from older libc headers. */
#ifndef MFD_HUGE_2MB
#define MFD_HUGE_2MB (21U << 26)
#endif

#define THP_SWITCH "/sys/kernel/mm/transparent_hugepage/enabled"

static int open_memfd(struct pvmm_ram *ram, const struct pvmm_config *config,
		      struct pmig_error *err)
{
	unsigned int flags = MFD_CLOEXEC;

	if (config->backing == PVMM_BACKING_HUGETLBFS)
		flags |= MFD_HUGETLB | MFD_HUGE_2MB;
	ram->fd = memfd_create("pvmm-ram", flags);
	if (ram->fd < 0)
		return pvmm_fail_errno(err, "cannot make a memfd for RAM");
	if (ftruncate(ram->fd, (off_t)ram->size_bytes))
		return pvmm_fail_errno(err, "cannot size RAM to %llu bytes",
				       (unsigned long long)ram->size_bytes);
	return 0;
}

static int map_failed(const struct pvmm_ram *ram,
		      const struct pvmm_config *config, struct pmig_error *err)
{
	if (config->backing == PVMM_BACKING_HUGETLBFS && errno == ENOMEM)
		return pvmm_fail(
			err, -ENOMEM,
			"RAM needs %llu free huge pages of 2 MiB; raise "
			"/proc/sys/vm/nr_hugepages",
			(unsigned long long)(ram->size_bytes /
					     PVMM_LARGE_BYTES));
	return pvmm_fail_errno(err, "cannot map %llu bytes of RAM",
			       (unsigned long long)ram->size_bytes);
}

/* Anonymous memory needs an aligned address, or no huge page fits in it. */
static void *map_aligned(uint64_t size_bytes, int flags)
{
	uint64_t spare = PVMM_LARGE_BYTES;
	uint8_t *base = mmap(NULL, size_bytes + spare, PROT_READ | PROT_WRITE,
			     flags, -1, 0);
	uint64_t skip;

	if (base == MAP_FAILED)
		return base;
	skip = -(uintptr_t)base % PVMM_LARGE_BYTES;
	if (skip)
		munmap(base, skip);
	munmap(base + skip + size_bytes, spare - skip);
	return base + skip;
}

/*
 * hugetlbfs is not MAP_NORESERVE: the reservation makes a lack of huge pages
 * an error here instead of SIGBUS later.
 */
static int map_ram(struct pvmm_ram *ram, const struct pvmm_config *config,
		   struct pmig_error *err)
{
	int flags = ram->fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
	void *base;

	if (config->backing != PVMM_BACKING_HUGETLBFS)
		flags |= MAP_NORESERVE;
	if (config->backing == PVMM_BACKING_THP)
		base = map_aligned(ram->size_bytes, flags);
	else
		base = mmap(NULL, ram->size_bytes, PROT_READ | PROT_WRITE,
			    flags, ram->fd, 0);
	if (base == MAP_FAILED)
		return map_failed(ram, config, err);
	ram->base = base;
	return 0;
}

/* madvise() succeeds whether or not they are in use: ask first. */
static int use_huge_pages(const struct pvmm_ram *ram, struct pmig_error *err)
{
	FILE *file = fopen(THP_SWITCH, "re");
	char words[64] = "";
	bool off;

	if (!file)
		return pvmm_fail(err, -ENOTSUP,
				 "this kernel has no transparent huge pages");
	off = !fgets(words, sizeof(words), file) || strstr(words, "[never]");
	fclose(file);
	if (off)
		return pvmm_fail(err, -ENOTSUP,
				 "transparent huge pages are switched off: "
				 "write madvise to " THP_SWITCH);
	if (madvise(ram->base, ram->size_bytes, MADV_HUGEPAGE))
		return pvmm_fail_errno(err, "no transparent huge pages");
	return 0;
}

static bool is_anonymous(const struct pvmm_config *config)
{
	return config->backing == PVMM_BACKING_ANONYMOUS ||
	       config->backing == PVMM_BACKING_THP;
}

static int describe(struct pvmm_ram *ram, const struct pvmm_config *config,
		    struct pmig_error *err)
{
	static const char *const names[] = {"ram", "ram-high"};
	struct pmig_region regions[2];
	uint64_t offset = 0;

	memset(regions, 0, sizeof(regions));
	for (uint32_t i = 0; i < ram->n_parts; i++) {
		struct pmig_region *region = &regions[i];

		region->struct_size = sizeof(*region);
		region->kind = PMIG_REGION_RAM;
		region->gpa = pvmm_gpa(offset);
		region->size_bytes = ram->part_bytes[i];
		region->page_size_bytes =
			config->backing == PVMM_BACKING_HUGETLBFS
				? PVMM_LARGE_BYTES
				: PVMM_PAGE_BYTES;
		region->hva = ram->base + offset;
		region->fd = ram->fd;
		region->flags = ram->fd < 0 ? 0 : PMIG_REGION_SHARED;
		region->fd_offset_bytes = ram->fd < 0 ? 0 : offset;
		strcpy(region->name, names[i]);
		offset += ram->part_bytes[i];
	}
	return pmig_memory_new(regions, ram->n_parts, &ram->memory, err);
}

int pvmm_ram_new(struct pvmm_ram *ram, const struct pvmm_config *config,
		 struct pmig_error *err)
{
	int rc = 0;

	memset(ram, 0, sizeof(*ram));
	ram->fd = -1;
	ram->size_bytes = config->memory_bytes;
	ram->n_parts = ram->size_bytes > PVMM_HOLE_START ? 2 : 1;
	ram->part_bytes[0] = ram->size_bytes;
	if (ram->n_parts == 2) {
		ram->part_bytes[0] = PVMM_HOLE_START;
		ram->part_bytes[1] = ram->size_bytes - PVMM_HOLE_START;
	}
	if (!is_anonymous(config))
		rc = open_memfd(ram, config, err);
	if (!rc)
		rc = map_ram(ram, config, err);
	if (!rc && config->backing == PVMM_BACKING_THP)
		rc = use_huge_pages(ram, err);
	if (!rc)
		rc = describe(ram, config, err);
	if (rc)
		pvmm_ram_free(ram);
	return rc;
}

void pvmm_ram_free(struct pvmm_ram *ram)
{
	pmig_memory_free(ram->memory);
	ram->memory = NULL;
	if (ram->base)
		munmap(ram->base, ram->size_bytes);
	ram->base = NULL;
	if (ram->fd >= 0)
		close(ram->fd);
	ram->fd = -1;
}
