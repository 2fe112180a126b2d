/* SPDX-License-Identifier: Apache-2.0 */
/* Placing pages: what the kernel asks of whoever does. */
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backing.h"
#include "uffd/uffd.h"
#include "unit.h"

static int open_uffd(void)
{
	struct pmig_error err;
	int fd = uffd_new(&err);

	if (fd < 0 || !uffd_agree(fd, UFFD_FEATURE_MISSING_HUGETLBFS))
		UNIT_SKIP("no userfaultfd for huge pages");
	return fd;
}

/*
 * The last huge page that there is (where the pool was empty before), from a
 * source of which hardly anything is mapped: the kernel must not want another
 * on the way.
 */
static void test_copy_to_the_last_huge_page(void)
{
	struct backed guest;
	struct uffd_range range;
	uint8_t *source;
	uint64_t done;
	int fd, rc;

	backing_map(&guest, BACKING_HUGETLB, HUGE_BYTES);
	fd = open_uffd();
	source = mmap(NULL, HUGE_BYTES, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(source != MAP_FAILED);
	CHECK(!madvise(source, HUGE_BYTES, MADV_NOHUGEPAGE));
	source[HUGE_BYTES / 2] = 1;
	range = (struct uffd_range){
		.start = (uint64_t)(uintptr_t)guest.bytes,
		.size_bytes = HUGE_BYTES,
		.page_bytes = HUGE_BYTES,
		.from = source,
	};
	CHECK_EQ(uffd_register_range(fd, range.start, HUGE_BYTES,
				     UFFDIO_REGISTER_MODE_MISSING),
		 0);
	rc = uffd_place(fd, UFFD_COPY, &range, &done);
	CHECK_EQ(rc, 0);
	CHECK_EQ(done, HUGE_BYTES);
	CHECK(!memcmp(guest.bytes, source, HUGE_BYTES));
	close(fd);
	munmap(source, HUGE_BYTES);
	backing_unmap(&guest);
}

int main(void)
{
	static const struct unit_test tests[] = {
		UNIT(test_copy_to_the_last_huge_page),
		UNIT_END,
	};

	return unit_run(tests);
}
