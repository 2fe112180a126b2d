/* SPDX-License-Identifier: Apache-2.0 */
/* Every zero kernel agrees with the obvious loop; the hash is XXH3-64. */
#include <string.h>

#include "page/hash.h"
#include "page/zero.h"
#include "unit.h"

static uint8_t room[PMIG_PAGE_BYTES + 64];

static void check_kernel(const struct pmig_zero_kernel *kernel, uint8_t *page)
{
	memset(room, 0xff, sizeof(room));
	memset(page, 0, PMIG_PAGE_BYTES);
	CHECK(kernel->is_zero(page));
	for (int at = 0; at < PMIG_PAGE_BYTES; at++) {
		page[at] = 1;
		if (kernel->is_zero(page))
			UNIT_FAIL("%s misses byte %d", kernel->name, at);
		page[at] = 0;
	}
}

static void test_zero_kernels(void)
{
	for (unsigned int i = 0; i < pmig_zero_kernels_count; i++) {
		const struct pmig_zero_kernel *kernel = &pmig_zero_kernels[i];

		if (!kernel->supported()) {
			printf("# %s: not on this processor\n", kernel->name);
			continue;
		}
		check_kernel(kernel, room);
		check_kernel(kernel, room + 3);
	}
}

static void test_scalar_is_always_there(void)
{
	const struct pmig_zero_kernel *last =
		&pmig_zero_kernels[pmig_zero_kernels_count - 1];

	CHECK(strcmp(last->name, "scalar") == 0);
	CHECK(last->supported());
	CHECK(pmig_zero_best()->supported());
	CHECK(strcmp(pmig_cpu_kernel(), pmig_zero_best()->name) == 0);
}

/* From the XXH3 specification's test values: seed 0, empty input. */
static void test_hash_is_xxh3(void)
{
	CHECK(pmig_hash("", 0) == 0x2d06800538d394c2ull);
}

static void test_scan(void)
{
	uint8_t page[PMIG_PAGE_BYTES] = {0};
	uint64_t hash = 17;

	CHECK(pmig_page_scan(page, &hash));
	CHECK_EQ(hash, 17);
	page[4095] = 9;
	CHECK(!pmig_page_scan(page, &hash));
	CHECK(hash == pmig_hash(page, sizeof(page)));
}

int main(void)
{
	return unit_run((struct unit_test[]){
		UNIT(test_zero_kernels), UNIT(test_scalar_is_always_there),
		UNIT(test_hash_is_xxh3), UNIT(test_scan), UNIT_END});
}
