/* SPDX-License-Identifier: Apache-2.0 */
#include "guest_memory.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "unit.h"

static void map_it(struct guest_memory *guest, bool shared)
{
	int flags = shared ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;

	guest->fd = -1;
	if (shared) {
		guest->fd = memfd_create("guest", MFD_CLOEXEC);
		CHECK(guest->fd >= 0);
		CHECK_EQ(ftruncate(guest->fd, (off_t)guest->size_bytes), 0);
	}
	guest->hva = mmap(NULL, guest->size_bytes, PROT_READ | PROT_WRITE,
			  flags | MAP_NORESERVE, guest->fd, 0);
	CHECK(guest->hva != MAP_FAILED);
}

void guest_memory_open(struct guest_memory *guest, size_t size_bytes,
		       bool shared)
{
	struct pmig_error err;

	guest->size_bytes = size_bytes;
	map_it(guest, shared);
	guest->region = (struct pmig_region){
		.struct_size = sizeof(guest->region),
		.kind = PMIG_REGION_RAM,
		.size_bytes = size_bytes,
		.page_size_bytes = PMIG_PAGE_BYTES,
		.hva = guest->hva,
		.fd = guest->fd,
		.flags = shared ? PMIG_REGION_SHARED : 0,
		.name = "ram",
	};
	CHECK_OK(pmig_memory_new(&guest->region, 1, &guest->memory, &err), err);
}

void guest_memory_close(struct guest_memory *guest)
{
	pmig_memory_free(guest->memory);
	munmap(guest->hva, guest->size_bytes);
	if (guest->fd >= 0)
		close(guest->fd);
}

void guest_memory_fill(struct guest_memory *guest, size_t first_page,
		       size_t n_pages, uint64_t seed)
{
	uint64_t *at = (void *)(guest->hva + first_page * PMIG_PAGE_BYTES);
	uint64_t value = seed * 2 + 1;

	for (size_t i = 0; i < n_pages * PMIG_PAGE_BYTES / sizeof(*at); i++) {
		value = value * 6364136223846793005ull + 1442695040888963407ull;
		at[i] = value;
	}
}

size_t guest_memory_allocated_pages(const struct guest_memory *guest)
{
	struct stat st;

	CHECK_EQ(fstat(guest->fd, &st), 0);
	return (size_t)st.st_blocks * 512 / PMIG_PAGE_BYTES;
}
