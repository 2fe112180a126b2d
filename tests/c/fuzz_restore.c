/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz_restore.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz_receiver.h"
#include "stream_truth.h"
#include "unit.h"

enum {
	HANG_MS = 20000,
};

/* A machine, and what brings its memory. */
struct runner {
	struct pmig_region regions[2];
	struct pmig_memory *memory;
	struct pmig_faults *faults;
	struct pmig_restore *restore;
};

static void make_machine(struct runner *runner)
{
	const struct pmig_faults_config config = {
		.struct_size = sizeof(config),
		.n_handlers = 1,
		.uffd = -1,
	};
	struct pmig_error err;
	int rc;

	memcpy(runner->regions, fuzz_regions, sizeof(runner->regions));
	for (int i = 0; i < 2; i++) {
		struct pmig_region *region = &runner->regions[i];

		region->hva =
			mmap(NULL, region->size_bytes, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		CHECK(region->hva != MAP_FAILED);
	}
	CHECK_OK(pmig_memory_new(runner->regions, 2, &runner->memory, &err),
		 err);
	rc = pmig_faults_new(runner->memory, &config, &runner->faults, &err);
	if (rc == -ENOTSUP)
		UNIT_SKIP("%s", err.message);
	CHECK_OK(rc, err);
}

/* 0 when all of it is there. */
static int run(struct runner *runner, int fd)
{
	const struct pmig_restore_config config = {
		.struct_size = sizeof(config),
		.fd = fd,
		.format = PMIG_RESTORE_STREAM,
		.flags = PMIG_RESTORE_FRESH,
	};
	struct pmig_error err = {0};
	int rc = pmig_restore_new(runner->memory, runner->faults, &config,
				  &runner->restore, &err);

	if (!rc) {
		CHECK_OK(pmig_faults_start(runner->faults, &err), err);
		CHECK_OK(pmig_restore_start(runner->restore, &err), err);
		rc = pmig_restore_wait(runner->restore, HANG_MS, &err);
	}
	CHECK(rc != -ETIMEDOUT);
	/* whatever it is, it is said */
	CHECK(!rc || err.message[0]);
	return rc;
}

static void end(struct runner *runner)
{
	pmig_restore_free(runner->restore);
	pmig_faults_free(runner->faults);
	pmig_memory_free(runner->memory);
	for (int i = 0; i < 2; i++)
		munmap(runner->regions[i].hva, runner->regions[i].size_bytes);
}

bool fuzz_restore(const uint8_t *data, size_t size_bytes)
{
	int fd = memfd_create("stream", MFD_CLOEXEC);
	struct runner runner = {0};
	bool restored;

	CHECK(fd >= 0);
	CHECK_EQ(pwrite(fd, data, size_bytes, 0), size_bytes);
	make_machine(&runner);
	restored = run(&runner, fd) == 0;
	if (restored) {
		CHECK(stream_ends_whole(data, size_bytes));
		CHECK_EQ(stream_truth(runner.memory, data, size_bytes), -1);
	}
	end(&runner);
	close(fd);
	return restored;
}
