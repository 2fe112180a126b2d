/* SPDX-License-Identifier: Apache-2.0 */
#include "backing.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "unit.h"

const char *const backing_names[BACKINGS] = {
	[BACKING_MEMFD] = "memfd",
	[BACKING_ANONYMOUS] = "anonymous",
	[BACKING_HUGETLB] = "hugetlbfs",
	[BACKING_HUGETLB_PRIVATE] = "hugetlb-anonymous",
	[BACKING_THP] = "thp",
};

static bool is_huge(enum backing backing)
{
	return backing == BACKING_HUGETLB || backing == BACKING_HUGETLB_PRIVATE;
}

static bool is_shared(enum backing backing)
{
	return backing == BACKING_MEMFD || backing == BACKING_HUGETLB;
}

static long read_huge_pages(void)
{
	FILE *file = fopen("/proc/sys/vm/nr_hugepages", "r");
	long pages = -1;

	if (file && fscanf(file, "%ld", &pages) != 1)
		pages = -1;
	if (file)
		fclose(file);
	return pages;
}

static void write_huge_pages(long pages)
{
	FILE *file = fopen("/proc/sys/vm/nr_hugepages", "w");

	if (!file)
		return;
	fprintf(file, "%ld", pages);
	fclose(file);
}

/*
 * The pool is system-wide, and others may be changing it at the same time, so
 * that is done under a lock. The pages that it has afterwards, or -1.
 */
static long change_huge_pages(long by)
{
	int lock = open("/proc/sys/vm/nr_hugepages", O_RDONLY | O_CLOEXEC);
	long before, after = -1;

	if (lock < 0 || flock(lock, LOCK_EX))
		return -1;
	before = read_huge_pages();
	if (before >= 0) {
		write_huge_pages(before + by);
		after = read_huge_pages();
	}
	if (before >= 0 && after < before + by) {
		write_huge_pages(before);
		after = -1;
	}
	close(lock);
	return after;
}

static void need_huge_pages(uint64_t bytes)
{
	long need = (long)(bytes / HUGE_BYTES);

	if (change_huge_pages(need) < 0) {
		UNIT_SKIP("no %ld huge pages of 2 MiB to be had (vm."
			  "nr_hugepages)",
			  need);
	}
}

static void need_transparent_huge_pages(void)
{
	FILE *file = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "r");
	char words[64] = "";

	if (!file || !fgets(words, sizeof(words), file) ||
	    strstr(words, "[never]"))
		strcpy(words, "never");
	if (file)
		fclose(file);
	if (!strcmp(words, "never"))
		UNIT_SKIP("THP: not to be had here");
}

/* One more, so that an aligned address can be chosen. */
static uint8_t *map_transparent(uint64_t size_bytes)
{
	uint8_t *base =
		mmap(NULL, size_bytes + HUGE_BYTES, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint64_t skip = -(uintptr_t)base % HUGE_BYTES;

	CHECK(base != MAP_FAILED);
	if (skip)
		munmap(base, skip);
	munmap(base + skip + size_bytes, HUGE_BYTES - skip);
	CHECK(!madvise(base + skip, size_bytes, MADV_HUGEPAGE));
	return base + skip;
}

static int make_file(enum backing backing, uint64_t size_bytes)
{
	int fd = memfd_create(
		"guest", MFD_CLOEXEC | (is_huge(backing) ? MFD_HUGETLB : 0));

	CHECK(fd >= 0);
	CHECK(!ftruncate(fd, (off_t)size_bytes));
	return fd;
}

void backing_map(struct backed *guest, enum backing backing,
		 uint64_t size_bytes)
{
	int flags =
		is_shared(backing) ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;
	int fd = -1;

	if (backing == BACKING_THP)
		need_transparent_huge_pages();
	if (is_huge(backing)) {
		need_huge_pages(size_bytes);
		flags |= MAP_HUGETLB;
	}
	if (is_shared(backing))
		fd = make_file(backing, size_bytes);
	if (backing == BACKING_THP)
		guest->bytes = map_transparent(size_bytes);
	else
		guest->bytes = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE,
				    flags | MAP_NORESERVE, fd, 0);
	if (guest->bytes == MAP_FAILED)
		UNIT_FAIL("cannot map %s memory: %s", backing_names[backing],
			  strerror(errno));
	/* pages are counted: none may come as a part of a transparent 2 MiB */
	if (backing == BACKING_ANONYMOUS)
		CHECK(!madvise(guest->bytes, size_bytes, MADV_NOHUGEPAGE));
	guest->region = (struct pmig_region){
		.struct_size = sizeof(guest->region),
		.kind = PMIG_REGION_RAM,
		.size_bytes = size_bytes,
		.page_size_bytes = is_huge(backing) ? HUGE_BYTES : 4096,
		.hva = guest->bytes,
		.fd = fd,
		.flags = is_shared(backing) ? PMIG_REGION_SHARED : 0,
		.name = "ram",
	};
}

void backing_unmap(struct backed *guest)
{
	uint64_t size_bytes = guest->region.size_bytes;

	munmap(guest->bytes, size_bytes);
	if (guest->region.fd >= 0)
		close(guest->region.fd);
	if (guest->region.page_size_bytes == HUGE_BYTES)
		change_huge_pages(-(long)(size_bytes / HUGE_BYTES));
}

struct pmig_memory *backing_describe(const struct backed *guest)
{
	struct pmig_memory *memory;
	struct pmig_error err = {0};

	CHECK_OK(pmig_memory_new(&guest->region, 1, &memory, &err), err);
	return memory;
}

/* Rss, and huge pages, of the mapping that starts at address. */
static uint64_t mapping_resident_bytes(const void *address)
{
	FILE *file = fopen("/proc/self/smaps", "r");
	unsigned long long start, rss_kib = 0, kib;
	bool inside = false;
	char line[512];

	CHECK(file);
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%llx-%*x", &start) == 1 &&
		    strchr(line, '-') && strchr(line, '-') < line + 20)
			inside = start == (uintptr_t)address;
		else if (inside &&
			 (sscanf(line, "Rss: %llu", &kib) == 1 ||
			  sscanf(line, "Private_Hugetlb: %llu", &kib) == 1))
			rss_kib += kib;
	}
	fclose(file);
	return rss_kib * 1024;
}

uint64_t backing_allocated(const struct backed *guest)
{
	struct stat st;

	if (guest->region.fd < 0)
		return mapping_resident_bytes(guest->bytes);
	CHECK(!fstat(guest->region.fd, &st));
	return (uint64_t)st.st_blocks * 512;
}

void backing_poke(struct backed *guest, uint64_t page, uint8_t value)
{
	__atomic_store_n(guest->bytes + page * PMIG_PAGE_BYTES, value,
			 __ATOMIC_SEQ_CST);
}
