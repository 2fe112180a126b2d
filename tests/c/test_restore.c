/* SPDX-License-Identifier: Apache-2.0 */
/* A guest that runs out of a file, with real faults, on every backing. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "random_bytes.h"
#include "recorded.h"
#include "unit.h"

enum {
	MIB = 1 << 20,
	SIZE_BYTES = 24 * MIB,
	N_PAGES = SIZE_BYTES / PMIG_PAGE_BYTES,
	READERS = 3,
	/* not in the headers of Linux before 5.14 */
	POPULATE_READ = 22,
};

#define TUNING(...)                                                            \
	{                                                                      \
		.struct_size = sizeof(struct pmig_tuning), __VA_ARGS__         \
	}

static const struct pmig_tuning tunings[] = {
	TUNING(.compression = PMIG_COMPRESSION_NONE, .delta = PMIG_CHOICE_OFF),
	TUNING(.compression = PMIG_COMPRESSION_NONE, .delta = PMIG_CHOICE_ON),
	TUNING(.compression = PMIG_COMPRESSION_LZ4, .delta = PMIG_CHOICE_OFF),
	TUNING(.compression = PMIG_COMPRESSION_LZ4, .delta = PMIG_CHOICE_ON),
	TUNING(.compression = PMIG_COMPRESSION_ZSTD, .delta = PMIG_CHOICE_OFF),
	TUNING(.compression = PMIG_COMPRESSION_ZSTD, .delta = PMIG_CHOICE_ON),
	TUNING(.compression = PMIG_COMPRESSION_AUTO),
};

/* A thread of the guest, which looks at every page in an order of its own. */
struct guest_thread {
	const struct restored *restored;
	const struct recorded *recorded;
	pthread_t thread;
	uint64_t first;
	uint64_t step; /* no divisor of the number of pages */
	uint64_t wrong;
};

static void *look_at_pages(void *arg)
{
	struct guest_thread *guest = arg;
	uint64_t n = guest->recorded->n_pages;

	for (uint64_t i = 0; i < n; i++)
		guest->wrong +=
			!restored_same(guest->restored, guest->recorded,
				       (guest->first + i * guest->step) % n);
	return NULL;
}

static void run_guest(const struct restored *restored,
		      const struct recorded *recorded)
{
	static const uint64_t steps[READERS] = {1, 1021, 4099};
	struct guest_thread threads[READERS];

	for (int i = 0; i < READERS; i++) {
		threads[i] = (struct guest_thread){
			.restored = restored,
			.recorded = recorded,
			.first = (uint64_t)i * recorded->n_pages / 5,
			.step = steps[i],
		};
		CHECK_EQ(pthread_create(&threads[i].thread, NULL, look_at_pages,
					&threads[i]),
			 0);
	}
	for (int i = 0; i < READERS; i++)
		pthread_join(threads[i].thread, NULL);
	for (int i = 0; i < READERS; i++)
		CHECK_EQ(threads[i].wrong, 0);
}

/* Each page was placed once, for one of three reasons. */
static void check_counts(const struct restored *restored)
{
	struct pmig_restore_report report;

	pmig_restore_report(restored->restore, &report);
	CHECK(report.stored_pages > N_PAGES / 2);
	CHECK(report.frames >= SIZE_BYTES / PMIG_BLOCK_BYTES);
	CHECK(report.index_ns > 0);
	CHECK_EQ(report.answered_pages + report.prefetched_pages +
			 report.filled_pages,
		 report.stored_pages);
}

static void check_backing(enum backing backing, uint32_t flags,
			  const struct pmig_tuning *tuning)
{
	struct pmig_faults_report report;
	struct recorded recorded;
	struct restored restored;

	recorded_make(&recorded, SIZE_BYTES, tuning, 0);
	restored_open(&restored, backing, SIZE_BYTES, flags, recorded.fd);
	restored_start(&restored);
	run_guest(&restored, &recorded);
	restored_wait(&restored);
	pmig_faults_report(restored.faults, &report);
	CHECK(report.remote.count > 0);
	CHECK(report.touched_pages > 0);
	check_counts(&restored);
	restored_check(&restored, &recorded);
	restored_close(&restored);
	recorded_close(&recorded);
}

static void test_memfd(void)
{
	check_backing(BACKING_MEMFD, 0, NULL);
}

static void test_memfd_without_minor(void)
{
	check_backing(BACKING_MEMFD, PMIG_FAULTS_NO_MINOR, NULL);
}

static void test_anonymous(void)
{
	check_backing(BACKING_ANONYMOUS, 0, NULL);
}

static void test_thp(void)
{
	check_backing(BACKING_THP, 0, NULL);
}

static void test_hugetlb(void)
{
	check_backing(BACKING_HUGETLB, 0, NULL);
}

static void test_hugetlb_without_minor(void)
{
	check_backing(BACKING_HUGETLB, PMIG_FAULTS_NO_MINOR, NULL);
}

static void test_hugetlb_private(void)
{
	check_backing(BACKING_HUGETLB_PRIVATE, 0, NULL);
}

static void test_encodings(void)
{
	for (size_t i = 0; i < sizeof(tunings) / sizeof(*tunings); i++)
		check_backing(i % 2 ? BACKING_MEMFD : BACKING_ANONYMOUS, 0,
			      &tunings[i]);
}

/* ---- the index --------------------------------------------------------- */

/* As the file says, and as its heads do: the same. */
static void check_index(struct recorded *recorded, bool has_index)
{
	struct pmig_restore_report report;
	struct restored restored;
	uint64_t size_bytes;
	const uint8_t *data;
	struct pmig_error err;

	restored_open(&restored, BACKING_ANONYMOUS, SIZE_BYTES, 0,
		      recorded->fd);
	restored_start(&restored);
	pmig_restore_report(restored.restore, &report);
	CHECK_EQ(report.has_index, has_index);
	CHECK_OK(pmig_restore_state(restored.restore, &data, &size_bytes, &err),
		 err);
	CHECK(size_bytes == 5 && memcmp(data, "state", 5) == 0);
	run_guest(&restored, recorded);
	restored_wait(&restored);
	check_counts(&restored);
	restored_close(&restored);
}

static off_t size_of(int fd)
{
	return lseek(fd, 0, SEEK_END);
}

static void flip(int fd, off_t at)
{
	uint8_t byte;

	CHECK_EQ(pread(fd, &byte, 1, at), 1);
	byte ^= 4;
	CHECK_EQ(pwrite(fd, &byte, 1, at), 1);
}

static void test_index(void)
{
	for (size_t i = 0; i < sizeof(tunings) / sizeof(*tunings); i++) {
		struct recorded recorded;

		recorded_make(&recorded, SIZE_BYTES, &tunings[i],
			      PMIG_SENDER_ONE_WAY);
		check_index(&recorded, true);
		recorded_close(&recorded);
	}
}

/* Whatever is wrong with it, the heads are there. */
static void test_damaged_index(void)
{
	uint64_t frame_bytes;
	struct recorded recorded;
	off_t end;

	recorded_make(&recorded, SIZE_BYTES, NULL, PMIG_SENDER_ONE_WAY);
	end = size_of(recorded.fd) - 48;
	CHECK_EQ(pread(recorded.fd, &frame_bytes, 8, end - 8), 8);
	/* its size, its last entry, its first, and its hash of them */
	for (int i = 0; i < 4; i++) {
		const off_t places[] = {end - 8, end - 20,
					end - (off_t)frame_bytes + 72 + 8,
					end - 5};

		flip(recorded.fd, places[i]);
		check_index(&recorded, false);
		flip(recorded.fd, places[i]);
	}
	check_index(&recorded, true);
	recorded_close(&recorded);
}

/* Where a frame of pages is, about in the middle of the file. */
static off_t middle_frame(int fd)
{
	off_t middle = size_of(fd) / 2, at = 0;
	uint8_t header[40];

	do {
		uint32_t sizes[2];

		CHECK_EQ(pread(fd, header, sizeof(header), at), sizeof(header));
		memcpy(sizes, header + 20, sizeof(sizes));
		if (at > middle && header[16] == PMIG_FRAME_PAGES)
			return at;
		at += (off_t)sizeof(header) + sizes[0] + sizes[1];
	} while (at < size_of(fd));
	UNIT_FAIL("no frame of pages behind the middle");
}

/* Heads are checked when they are needed. */
static void test_damaged_head_behind_an_index(void)
{
	struct recorded recorded;
	struct restored restored;
	struct pmig_error err;

	recorded_make(&recorded, SIZE_BYTES, NULL, PMIG_SENDER_ONE_WAY);
	flip(recorded.fd, middle_frame(recorded.fd) + 60);
	restored_open(&restored, BACKING_ANONYMOUS, SIZE_BYTES, 0, recorded.fd);
	restored_start(&restored);
	CHECK_EQ(pmig_restore_wait(restored.restore, 20000, &err), -EBADMSG);
	CHECK(strstr(err.message, "damaged"));
	restored_close(&restored);
	recorded_close(&recorded);
}

/* ---- first pages ------------------------------------------------------- */

enum {
	FIRST = 60,
};

/* Pages all over memory, none of which is zeros. */
static void choose_first(uint64_t *pages)
{
	for (uint64_t i = 0; i < FIRST; i++)
		pages[i] = (i * 1021 % N_PAGES) / 3 * 3 + 1;
}

static void wait_for_prefetch(const struct restored *restored)
{
	struct pmig_restore_report report;

	for (int i = 0; i < 20000; i++) {
		pmig_restore_report(restored->restore, &report);
		if (report.prefetch_ns)
			return;
		usleep(1000);
	}
	UNIT_FAIL("the first pages did not come");
}

/* What was prefetched does not fault; nor does what comes along with it. */
static void check_first(enum backing backing)
{
	struct pmig_faults_report faults;
	struct pmig_restore_report report;
	struct recorded recorded;
	struct restored restored;
	uint64_t pages[FIRST];

	choose_first(pages);
	recorded_make(&recorded, SIZE_BYTES, &tunings[0], 0);
	restored_open(&restored, backing, SIZE_BYTES, 0, recorded.fd);
	restored.config.flags = PMIG_RESTORE_NO_FILL;
	restored.config.first_pages = pages;
	restored.config.n_first_pages = FIRST;
	restored_start(&restored);
	wait_for_prefetch(&restored);
	for (int i = 0; i < FIRST; i++)
		CHECK(restored_same(&restored, &recorded, pages[i]));
	pmig_faults_report(restored.faults, &faults);
	CHECK_EQ(faults.remote.count, 0);
	CHECK_EQ(faults.touched_pages, 0);
	pmig_restore_report(restored.restore, &report);
	CHECK(report.prefetched_pages >= FIRST);
	CHECK_EQ(report.answered_pages, 0);
	CHECK_EQ(report.filled_pages, 0);
	/* nobody fills: what is touched comes all the same */
	run_guest(&restored, &recorded);
	restored_wait(&restored);
	restored_close(&restored);
	recorded_close(&recorded);
}

static void test_first_pages_anonymous(void)
{
	check_first(BACKING_ANONYMOUS);
}

static void test_first_pages_memfd(void)
{
	check_first(BACKING_MEMFD);
}

static void test_first_pages_hugetlb(void)
{
	check_first(BACKING_HUGETLB);
}

/* The list that one run gives makes the next one wait much less. */
static void test_touched_pages_are_first_pages(void)
{
	static uint64_t touched[PMIG_MAX_TOUCHED_PAGES];
	struct pmig_faults_report before, after;
	struct recorded recorded;
	struct restored restored;
	uint64_t pages[FIRST], n;

	choose_first(pages);
	recorded_make(&recorded, SIZE_BYTES, NULL, 0);
	restored_open(&restored, BACKING_ANONYMOUS, SIZE_BYTES, 0, recorded.fd);
	restored.config.flags = PMIG_RESTORE_NO_FILL;
	restored_start(&restored);
	for (int i = 0; i < FIRST; i++)
		CHECK(restored_same(&restored, &recorded, pages[i]));
	pmig_faults_report(restored.faults, &before);
	n = pmig_faults_touched(restored.faults, touched,
				PMIG_MAX_TOUCHED_PAGES);
	CHECK(n > FIRST / 2 && n <= FIRST);
	/* the last one is counted a moment after its page is there */
	CHECK(before.remote.count <= n && before.remote.count + 1 >= n);
	for (uint64_t i = 0, k = 0; i < n; i++, k++) {
		/* in the order of their first use */
		while (k < FIRST && pages[k] != touched[i])
			k++;
		CHECK(k < FIRST);
	}
	restored_close(&restored);

	restored_open(&restored, BACKING_ANONYMOUS, SIZE_BYTES, 0, recorded.fd);
	restored.config.flags = PMIG_RESTORE_NO_FILL;
	restored.config.first_pages = touched;
	restored.config.n_first_pages = n;
	restored_start(&restored);
	wait_for_prefetch(&restored);
	for (int i = 0; i < FIRST; i++)
		CHECK(restored_same(&restored, &recorded, pages[i]));
	pmig_faults_report(restored.faults, &after);
	CHECK(3 * after.remote.count < before.remote.count);
	restored_close(&restored);
	recorded_close(&recorded);
}

static void test_first_page_past_the_end(void)
{
	const uint64_t pages[] = {0, N_PAGES};
	struct recorded recorded;
	struct restored restored;
	struct pmig_error err;

	recorded_make(&recorded, SIZE_BYTES, NULL, 0);
	restored_open(&restored, BACKING_ANONYMOUS, SIZE_BYTES, 0, recorded.fd);
	restored.config.first_pages = pages;
	restored.config.n_first_pages = 2;
	CHECK_EQ(pmig_restore_new(restored.memory, restored.faults,
				  &restored.config, &restored.restore, &err),
		 -EINVAL);
	CHECK(strstr(err.message, "6144"));
	restored_close(&restored);
	recorded_close(&recorded);
}

/* ---- memory as it is --------------------------------------------------- */

enum {
	RAW_BEGIN = 3 * PMIG_PAGE_BYTES,
};

/* A file with a third of zeros, and a hole in the middle. */
static int write_raw(const struct recorded *recorded)
{
	int fd = memfd_create("raw", MFD_CLOEXEC);

	CHECK(fd >= 0);
	CHECK_EQ(ftruncate(fd, RAW_BEGIN + SIZE_BYTES), 0);
	for (uint64_t page = 0; page < N_PAGES; page++) {
		const uint8_t *bytes =
			recorded->source.bytes + page * PMIG_PAGE_BYTES;
		off_t at = (off_t)(RAW_BEGIN + page * PMIG_PAGE_BYTES);

		if (page < N_PAGES / 4 || page >= N_PAGES / 2)
			CHECK_EQ(pwrite(fd, bytes, PMIG_PAGE_BYTES, at),
				 PMIG_PAGE_BYTES);
	}
	return fd;
}

static void check_raw(enum backing backing)
{
	const uint64_t offset = RAW_BEGIN;
	struct pmig_restore_report report;
	struct recorded recorded;
	struct restored restored;
	int fd;

	recorded_open(&recorded, SIZE_BYTES);
	recorded_fill(&recorded, 0, N_PAGES / 4, 3);
	recorded_fill(&recorded, N_PAGES / 2, N_PAGES / 2, 3);
	fd = write_raw(&recorded);
	restored_open(&restored, backing, SIZE_BYTES, 0, fd);
	restored.config.format = PMIG_RESTORE_RAW;
	restored.config.offsets = &offset;
	restored_start(&restored);
	pmig_restore_report(restored.restore, &report);
	CHECK_EQ(report.stored_pages, N_PAGES - N_PAGES / 4);
	CHECK_EQ(report.frames, 0);
	run_guest(&restored, &recorded);
	restored_wait(&restored);
	restored_check(&restored, &recorded);
	restored_close(&restored);
	recorded_close(&recorded);
	close(fd);
}

static void test_raw_anonymous(void)
{
	check_raw(BACKING_ANONYMOUS);
}

static void test_raw_memfd(void)
{
	check_raw(BACKING_MEMFD);
}

static void test_raw_hugetlb(void)
{
	check_raw(BACKING_HUGETLB);
}

static void test_raw_cut_off(void)
{
	const uint64_t offset = 0;
	struct restored restored;
	struct pmig_error err;
	int fd = memfd_create("raw", MFD_CLOEXEC);

	CHECK_EQ(ftruncate(fd, SIZE_BYTES - PMIG_PAGE_BYTES), 0);
	restored_open(&restored, BACKING_ANONYMOUS, SIZE_BYTES, 0, fd);
	restored.config.format = PMIG_RESTORE_RAW;
	restored.config.offsets = &offset;
	CHECK_EQ(pmig_restore_new(restored.memory, restored.faults,
				  &restored.config, &restored.restore, &err),
		 -EBADMSG);
	CHECK(strstr(err.message, "cut off"));
	restored_close(&restored);
	close(fd);
}

/* ---- files that are not whole ------------------------------------------ */

/* Why a restore from the file is refused when it is opened. */
static int refusal(int fd, struct pmig_error *err)
{
	struct restored restored;
	int rc;

	restored_open(&restored, BACKING_ANONYMOUS, SIZE_BYTES, 0, fd);
	rc = pmig_restore_new(restored.memory, restored.faults,
			      &restored.config, &restored.restore, err);
	if (!rc)
		CHECK(restored.restore);
	restored_close(&restored);
	return rc;
}

static void test_truncated(void)
{
	struct recorded recorded;
	struct pmig_error err;
	off_t size;

	recorded_make(&recorded, SIZE_BYTES, &tunings[2], 0);
	size = size_of(recorded.fd);
	CHECK_EQ(refusal(recorded.fd, &err), 0);
	for (off_t at = size - 1; at > 0; at = at * 7 / 10) {
		CHECK_EQ(ftruncate(recorded.fd, at), 0);
		CHECK_EQ(refusal(recorded.fd, &err), -EBADMSG);
		CHECK(strstr(err.message, "cut off"));
	}
	CHECK_EQ(ftruncate(recorded.fd, 0), 0);
	CHECK_EQ(refusal(recorded.fd, &err), -EBADMSG);
	recorded_close(&recorded);
}

static void test_something_follows(void)
{
	struct recorded recorded;
	struct pmig_error err;

	recorded_make(&recorded, SIZE_BYTES, NULL, 0);
	CHECK_EQ(pwrite(recorded.fd, "x", 1, size_of(recorded.fd)), 1);
	CHECK_EQ(refusal(recorded.fd, &err), -EBADMSG);
	CHECK(strstr(err.message, "follows"));
	recorded_close(&recorded);
}

static void test_not_sealed(void)
{
	struct recorded recorded;
	struct pmig_error err;

	recorded_open(&recorded, SIZE_BYTES);
	recorded_fill(&recorded, 0, N_PAGES, 1);
	recorded_connect(&recorded);
	recorded_round(&recorded, PMIG_EPOCH_FUZZY);
	CHECK_OK(pmig_sender_end(recorded.sender, &err), err);
	CHECK_EQ(refusal(recorded.fd, &err), -EBADMSG);
	CHECK(strstr(err.message, "sealed"));
	recorded_close(&recorded);
}

static void test_other_machine(void)
{
	struct recorded recorded;
	struct restored restored;
	struct pmig_error err;

	recorded_make(&recorded, SIZE_BYTES, NULL, 0);
	restored_open(&restored, BACKING_ANONYMOUS, 2 * SIZE_BYTES, 0,
		      recorded.fd);
	CHECK_EQ(pmig_restore_new(restored.memory, restored.faults,
				  &restored.config, &restored.restore, &err),
		 -EBADMSG);
	restored_close(&restored);
	recorded_close(&recorded);
}

/* A bit of a head is flipped: that shows when the file is opened. */
static void test_damaged_heads(void)
{
	struct recorded recorded;
	struct pmig_error err;
	off_t at = 0;

	recorded_make(&recorded, SIZE_BYTES, &tunings[4], 0);
	for (int i = 0; at < size_of(recorded.fd); i++) {
		uint32_t sizes[2];
		uint8_t byte;
		off_t where;

		CHECK_EQ(pread(recorded.fd, sizes, 8, at + 20), 8);
		where = at + i % (40 + (int)sizes[0]);
		CHECK_EQ(pread(recorded.fd, &byte, 1, where), 1);
		byte ^= (uint8_t)(1 << i % 8);
		CHECK_EQ(pwrite(recorded.fd, &byte, 1, where), 1);
		CHECK_EQ(refusal(recorded.fd, &err), -EBADMSG);
		byte ^= (uint8_t)(1 << i % 8);
		CHECK_EQ(pwrite(recorded.fd, &byte, 1, where), 1);
		at += 40 + (off_t)sizes[0] + sizes[1];
	}
	CHECK_EQ(refusal(recorded.fd, &err), 0);
	recorded_close(&recorded);
}

/*
 * A page is damaged: waiting for completion says so, that page never comes,
 * and the others do.
 */
static void check_damaged_page(const struct pmig_tuning *tuning)
{
	const uint64_t page = N_PAGES - 1; /* of noise, sent once */
	uint64_t missing[N_PAGES / 64], left = 0;
	struct recorded recorded;
	struct restored restored;
	struct pmig_error err;
	uint64_t seed = 5;
	uint8_t junk[64];

	recorded_open(&recorded, SIZE_BYTES);
	recorded.tuning = *tuning;
	recorded_fill(&recorded, 0, N_PAGES, 7);
	recorded_connect(&recorded);
	recorded_seal(&recorded);
	random_fill(&seed, junk, sizeof(junk));
	/* before EPOCH_END, END, and a bit */
	CHECK_EQ(pwrite(recorded.fd, junk, sizeof(junk),
			size_of(recorded.fd) - 80 - 48 - 200),
		 sizeof(junk));
	restored_open(&restored, BACKING_ANONYMOUS, SIZE_BYTES, 0, recorded.fd);
	restored_start(&restored);
	CHECK_EQ(pmig_restore_wait(restored.restore, 20000, &err), -EBADMSG);
	CHECK(strstr(err.message, "page"));
	/* faults are answered still */
	for (uint64_t i = 0; i < N_PAGES - 64; i += 5)
		CHECK(restored_same(&restored, &recorded, i));
	CHECK_OK(pmig_faults_missing(restored.faults, 0, N_PAGES / 64, missing,
				     &err),
		 err);
	CHECK(missing[page / 64] >> page % 64 & 1);
	for (uint64_t i = 0; i < N_PAGES / 64; i++)
		left += (uint64_t)__builtin_popcountll(missing[i]);
	CHECK(left >= 1 && left <= 64);
	pmig_restore_free(restored.restore);
	restored.restore = NULL;
	pmig_faults_free(restored.faults);
	restored.faults = NULL;
	/* nor does anybody ever find zeros there */
	CHECK_EQ(madvise(restored.backed.bytes + page * PMIG_PAGE_BYTES,
			 PMIG_PAGE_BYTES, POPULATE_READ),
		 -1);
	restored_close(&restored);
	recorded_close(&recorded);
}

static void test_damaged_raw_page(void)
{
	check_damaged_page(&tunings[0]);
}

static void test_damaged_lz4_page(void)
{
	check_damaged_page(&tunings[2]);
}

static void test_damaged_zstd_page(void)
{
	check_damaged_page(&tunings[4]);
}

/* ---- order ------------------------------------------------------------- */

static void test_faults_are_started_first(void)
{
	struct recorded recorded;
	struct restored restored;
	struct pmig_error err;

	recorded_make(&recorded, SIZE_BYTES, NULL, 0);
	restored_open(&restored, BACKING_ANONYMOUS, SIZE_BYTES, 0, recorded.fd);
	CHECK_OK(pmig_restore_new(restored.memory, restored.faults,
				  &restored.config, &restored.restore, &err),
		 err);
	CHECK_EQ(pmig_restore_start(restored.restore, &err), -EINVAL);
	CHECK(strstr(err.message, "pmig_faults_start"));
	CHECK_OK(pmig_faults_start(restored.faults, &err), err);
	CHECK_OK(pmig_restore_start(restored.restore, &err), err);
	CHECK_EQ(pmig_restore_start(restored.restore, &err), -EINVAL);
	restored_wait(&restored);
	restored_check(&restored, &recorded);
	restored_close(&restored);
	recorded_close(&recorded);
}

static void test_nothing_is_stored(void)
{
	struct recorded recorded;
	struct restored restored;

	recorded_open(&recorded, SIZE_BYTES);
	recorded_connect(&recorded);
	recorded_seal(&recorded);
	restored_open(&restored, BACKING_MEMFD, SIZE_BYTES, 0, recorded.fd);
	restored_start(&restored);
	restored_wait(&restored);
	restored_check(&restored, &recorded);
	restored_close(&restored);
	recorded_close(&recorded);
}

/* What memory held before is of no account. */
static void test_memory_is_discarded(void)
{
	struct recorded recorded;
	struct restored restored;

	recorded_make(&recorded, SIZE_BYTES, NULL, 0);
	restored_open(&restored, BACKING_MEMFD, SIZE_BYTES, 0, recorded.fd);
	memset(restored.backed.bytes, 0x55, SIZE_BYTES);
	restored_start(&restored);
	restored_wait(&restored);
	restored_check(&restored, &recorded);
	restored_close(&restored);
	recorded_close(&recorded);
}

static void test_cancelled(void)
{
	struct recorded recorded;
	struct restored restored;
	struct pmig_error err;

	recorded_make(&recorded, SIZE_BYTES, NULL, 0);
	restored_open(&restored, BACKING_ANONYMOUS, SIZE_BYTES, 0, recorded.fd);
	restored.config.flags = PMIG_RESTORE_NO_FILL;
	restored_start(&restored);
	CHECK(restored_same(&restored, &recorded, 100));
	CHECK_EQ(pmig_restore_wait(restored.restore, 1, &err), -ETIMEDOUT);
	pmig_restore_cancel(restored.restore);
	CHECK_EQ(pmig_restore_wait(restored.restore, -1, &err), -ECANCELED);
	pmig_restore_free(restored.restore);
	restored.restore = NULL;
	CHECK(pmig_faults_missing_pages(restored.faults) > N_PAGES / 2);
	restored_close(&restored);
	recorded_close(&recorded);
}

static void *wait_for_all(void *arg)
{
	struct restored *restored = arg;
	struct pmig_error err;

	return (void *)(intptr_t)pmig_restore_wait(restored->restore, -1, &err);
}

/* Midway, with a guest that faults, and somebody who waits. */
static void test_cancelled_while_it_runs(void)
{
	struct recorded recorded;
	struct restored restored;
	pthread_t thread;
	void *rc;

	recorded_make(&recorded, SIZE_BYTES, NULL, 0);
	restored_open(&restored, BACKING_MEMFD, SIZE_BYTES, 0, recorded.fd);
	restored.config.fill_bytes_per_s = 4 * MIB;
	restored_start(&restored);
	CHECK_EQ(pthread_create(&thread, NULL, wait_for_all, &restored), 0);
	for (uint64_t i = 0; i < N_PAGES / 8; i++)
		CHECK(restored_same(&restored, &recorded, i));
	pmig_restore_cancel(restored.restore);
	pthread_join(thread, &rc);
	CHECK_EQ((intptr_t)rc, -ECANCELED);
	restored_close(&restored);
	recorded_close(&recorded);
}

/* What the guest gave back is zeros, also when the fill comes to it. */
static void test_removed(void)
{
	const uint64_t first = 4000, n = 600;
	static const uint8_t zeros[PMIG_PAGE_BYTES];
	struct recorded recorded;
	struct restored restored;

	recorded_make(&recorded, SIZE_BYTES, NULL, 0);
	restored_open(&restored, BACKING_ANONYMOUS, SIZE_BYTES, 0, recorded.fd);
	restored.config.fill_bytes_per_s = 64 * MIB;
	restored_start(&restored);
	CHECK_EQ(madvise(restored.backed.bytes + first * PMIG_PAGE_BYTES,
			 n * PMIG_PAGE_BYTES, MADV_DONTNEED),
		 0);
	restored_wait(&restored);
	for (uint64_t page = 0; page < N_PAGES; page++) {
		const uint8_t *bytes =
			restored.backed.bytes + page * PMIG_PAGE_BYTES;

		if (page < first || page >= first + n)
			CHECK(restored_same(&restored, &recorded, page));
		else
			CHECK(memcmp(bytes, zeros, sizeof(zeros)) == 0);
	}
	restored_close(&restored);
	recorded_close(&recorded);
}

int main(void)
{
	return unit_run((struct unit_test[]){
		UNIT(test_memfd),
		UNIT(test_memfd_without_minor),
		UNIT(test_anonymous),
		UNIT(test_thp),
		UNIT(test_hugetlb),
		UNIT(test_hugetlb_without_minor),
		UNIT(test_hugetlb_private),
		UNIT(test_encodings),
		UNIT(test_index),
		UNIT(test_damaged_index),
		UNIT(test_damaged_head_behind_an_index),
		UNIT(test_first_pages_anonymous),
		UNIT(test_first_pages_memfd),
		UNIT(test_first_pages_hugetlb),
		UNIT(test_touched_pages_are_first_pages),
		UNIT(test_first_page_past_the_end),
		UNIT(test_raw_anonymous),
		UNIT(test_raw_memfd),
		UNIT(test_raw_hugetlb),
		UNIT(test_raw_cut_off),
		UNIT(test_truncated),
		UNIT(test_something_follows),
		UNIT(test_not_sealed),
		UNIT(test_other_machine),
		UNIT(test_damaged_heads),
		UNIT(test_damaged_raw_page),
		UNIT(test_damaged_lz4_page),
		UNIT(test_damaged_zstd_page),
		UNIT(test_faults_are_started_first),
		UNIT(test_nothing_is_stored),
		UNIT(test_memory_is_discarded),
		UNIT(test_cancelled),
		UNIT(test_cancelled_while_it_runs),
		UNIT(test_removed),
		UNIT_END,
	});
}
