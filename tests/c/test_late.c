/* SPDX-License-Identifier: Apache-2.0 */
/* Post-copy, with real faults of real threads, on every backing. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "late_pair.h"
#include "unit.h"

enum {
	MIB = 1 << 20,
#if defined(__SANITIZE_THREAD__)
	SIZE_BYTES = 12 * MIB,
#else
	SIZE_BYTES = 24 * MIB,
#endif
	N_PAGES = SIZE_BYTES / PMIG_PAGE_BYTES,
	READERS = 3,
	HOLES = 16,
	HOLE_USERS = 12,
	HOLE_STEPS = 3000,
};

/* A thread of the guest, which looks at every page in an order of its own. */
struct reader {
	const struct late_pair *pair;
	pthread_t thread;
	uint64_t first;
	uint64_t step; /* no divisor of the number of pages */
	uint64_t wrong;
};

static void *read_pages(void *arg)
{
	struct reader *reader = arg;

	for (uint64_t i = 0; i < reader->pair->n_pages; i++) {
		uint64_t page = (reader->first + i * reader->step) %
				reader->pair->n_pages;

		reader->wrong += !late_same(reader->pair, page);
	}
	return NULL;
}

static void start_readers(struct late_pair *pair, struct reader *readers)
{
	static const uint64_t steps[READERS] = {1, 1021, 4099};

	for (int i = 0; i < READERS; i++) {
		readers[i] = (struct reader){
			.pair = pair,
			.first = (uint64_t)i * pair->n_pages / 5,
			.step = steps[i],
		};
		CHECK_EQ(pthread_create(&readers[i].thread, NULL, read_pages,
					&readers[i]),
			 0);
	}
}

static void join_readers(struct reader *readers)
{
	for (int i = 0; i < READERS; i++)
		pthread_join(readers[i].thread, NULL);
	for (int i = 0; i < READERS; i++)
		CHECK_EQ(readers[i].wrong, 0);
}

static void check_all(const struct late_pair *pair)
{
	for (uint64_t page = 0; page < pair->n_pages; page++)
		if (!late_same(pair, page))
			UNIT_FAIL("page %llu differs",
				  (unsigned long long)page);
}

/* At once: nothing was sent before the guest runs. */
static void check_now(enum backing backing, uint32_t flags)
{
	struct pmig_faults_report report;
	struct reader readers[READERS];
	struct late_pair pair;

	late_open(&pair, backing, SIZE_BYTES, flags);
	late_fill(&pair, 0, N_PAGES, 7);
	late_connect(&pair);
	late_round(&pair, PMIG_EPOCH_FUZZY, true);
	late_fill(&pair, 100, 50, 8);
	late_round(&pair, PMIG_EPOCH_SEALED, true);
	CHECK(pmig_faults_missing_pages(pair.faults) > N_PAGES / 2);
	late_start(&pair);
	start_readers(&pair, readers);
	join_readers(readers);
	late_wait(&pair);
	pmig_faults_report(pair.faults, &report);
	CHECK(report.remote.count > 0);
	CHECK(report.last_page_ns > 0);
	CHECK_EQ(pair.round.sent_pages, N_PAGES);
	check_all(&pair);
	late_close(&pair);
}

/* Compressed, whatever the link. */
static void test_compressed(void)
{
	struct reader readers[READERS];
	struct late_pair pair;

	late_open(&pair, BACKING_ANONYMOUS, SIZE_BYTES, 0);
	pair.tuning.compression = PMIG_COMPRESSION_ZSTD;
	late_fill(&pair, 0, N_PAGES, 7);
	late_leave_all(&pair);
	late_start(&pair);
	start_readers(&pair, readers);
	join_readers(readers);
	late_wait(&pair);
	CHECK(pair.round.pages_by_encoding[PMIG_ENCODING_ZSTD] > N_PAGES / 4);
	check_all(&pair);
	late_close(&pair);
}

static void test_now_memfd(void)
{
	check_now(BACKING_MEMFD, 0);
}

static void test_now_memfd_without_minor(void)
{
	check_now(BACKING_MEMFD, PMIG_FAULTS_NO_MINOR);
}

static void test_now_anonymous(void)
{
	check_now(BACKING_ANONYMOUS, 0);
}

static void test_now_thp(void)
{
	check_now(BACKING_THP, 0);
}

static void test_now_hugetlb(void)
{
	check_now(BACKING_HUGETLB, 0);
}

static void test_now_hugetlb_without_minor(void)
{
	check_now(BACKING_HUGETLB, PMIG_FAULTS_NO_MINOR);
}

static void test_now_hugetlb_private(void)
{
	check_now(BACKING_HUGETLB_PRIVATE, 0);
}

/* One word of every seventh page changes, so that deltas can be used. */
static void change_a_little(struct late_pair *pair, uint64_t seed)
{
	for (uint64_t page = 0; page < pair->n_pages; page += 7) {
		uint8_t *bytes = pair->source.bytes + page * PMIG_PAGE_BYTES;

		memcpy(bytes + page % 4000, &seed, sizeof(seed));
		CHECK_EQ(pmig_dirty_mark(pair->dirty, page * PMIG_PAGE_BYTES,
					 PMIG_PAGE_BYTES),
			 0);
	}
}

/* Pages become zeros that were none, and the other way round. */
static void swap_zeros(struct late_pair *pair)
{
	for (uint64_t page = 30; page < 90; page++)
		memset(pair->source.bytes + page * PMIG_PAGE_BYTES,
		       page % 2 ? 0 : (int)page, PMIG_PAGE_BYTES);
	CHECK_EQ(pmig_dirty_mark(pair->dirty, 30 * PMIG_PAGE_BYTES,
				 60 * PMIG_PAGE_BYTES),
		 0);
}

/* First a round, then the rest late. */
static void check_hybrid(enum backing backing, uint32_t flags)
{
	struct reader readers[READERS];
	struct late_pair pair;
	uint64_t missing;

	late_open(&pair, backing, SIZE_BYTES, flags);
	pair.tuning.delta = PMIG_CHOICE_ON;
	pair.tuning.compression = PMIG_COMPRESSION_NONE;
	late_fill(&pair, 0, N_PAGES, 7);
	late_connect(&pair);
	late_round(&pair, PMIG_EPOCH_FUZZY, false);
	change_a_little(&pair, 1);
	late_round(&pair, PMIG_EPOCH_FUZZY, true);
	change_a_little(&pair, 2);
	swap_zeros(&pair);
	late_round(&pair, PMIG_EPOCH_SEALED, true);
	missing = pmig_faults_missing_pages(pair.faults);
	CHECK(missing >= N_PAGES / 7 && missing < N_PAGES / 7 + 100);
	late_start(&pair);
	start_readers(&pair, readers);
	join_readers(readers);
	late_wait(&pair);
	CHECK_EQ(pair.round.sent_pages, missing);
	if (!(flags & PMIG_FAULTS_NO_MINOR) || backing == BACKING_ANONYMOUS)
		CHECK(pair.round.pages_by_encoding[PMIG_ENCODING_DELTA] >
		      missing / 2);
	check_all(&pair);
	late_close(&pair);
}

static void test_hybrid_memfd(void)
{
	check_hybrid(BACKING_MEMFD, 0);
}

static void test_hybrid_memfd_without_minor(void)
{
	check_hybrid(BACKING_MEMFD, PMIG_FAULTS_NO_MINOR);
}

static void test_hybrid_anonymous(void)
{
	check_hybrid(BACKING_ANONYMOUS, 0);
}

static void test_hybrid_thp(void)
{
	check_hybrid(BACKING_THP, 0);
}

static void test_hybrid_hugetlb(void)
{
	check_hybrid(BACKING_HUGETLB, 0);
}

static void test_hybrid_hugetlb_private(void)
{
	check_hybrid(BACKING_HUGETLB_PRIVATE, 0);
}

/* What was never allocated is zeros here as well, and nobody is asked. */
static void check_holes(enum backing backing)
{
	struct pmig_faults_report report;
	struct late_pair pair;

	late_open(&pair, backing, SIZE_BYTES, 0);
	late_fill(&pair, 0, N_PAGES / 8, 3);
	late_leave_all(&pair);
	CHECK(pmig_faults_missing_pages(pair.faults) < N_PAGES / 4);
	CHECK_OK(pmig_faults_start(pair.faults, &pair.late_err), pair.late_err);
	/* nothing is sent yet */
	for (uint64_t page = N_PAGES / 2; page < N_PAGES; page += 3)
		CHECK(late_same(&pair, page));
	pmig_faults_report(pair.faults, &report);
	CHECK(report.local.count > 0);
	CHECK_EQ(report.remote.count, 0);
	late_send(&pair);
	late_wait(&pair);
	check_all(&pair);
	late_close(&pair);
}

static void test_holes_memfd(void)
{
	check_holes(BACKING_MEMFD);
}

static void test_holes_anonymous(void)
{
	check_holes(BACKING_ANONYMOUS);
}

static void test_holes_hugetlb(void)
{
	check_holes(BACKING_HUGETLB);
}

/* What the guest gave back is zeros, also when its old contents come. */
static void check_removed(enum backing backing, int advice)
{
	const uint64_t first = 1000, n = 600;
	struct late_pair pair;

	late_open(&pair, backing, SIZE_BYTES, 0);
	late_fill(&pair, 0, N_PAGES, 5);
	late_connect(&pair);
	late_round(&pair, PMIG_EPOCH_FUZZY, false);
	late_fill(&pair, 0, N_PAGES, 6);
	late_round(&pair, PMIG_EPOCH_FUZZY, true);
	late_round(&pair, PMIG_EPOCH_SEALED, true);
	CHECK_OK(pmig_faults_start(pair.faults, &pair.late_err), pair.late_err);
	CHECK_EQ(madvise(pair.destination.bytes + first * PMIG_PAGE_BYTES,
			 n * PMIG_PAGE_BYTES, advice),
		 0);
	/* a fault is served after the removals that came before it */
	CHECK_EQ(pair.destination.bytes[(first + n - 1) * PMIG_PAGE_BYTES], 0);
	CHECK_EQ(pmig_faults_missing_pages(pair.faults), N_PAGES - n);
	late_send(&pair);
	late_wait(&pair);
	for (uint64_t page = 0; page < N_PAGES; page++) {
		const uint8_t *bytes =
			pair.destination.bytes + page * PMIG_PAGE_BYTES;
		static const uint8_t zeros[PMIG_PAGE_BYTES];

		if (page < first || page >= first + n)
			CHECK(late_same(&pair, page));
		else
			CHECK(memcmp(bytes, zeros, sizeof(zeros)) == 0);
	}
	late_close(&pair);
}

static void test_removed_anonymous(void)
{
	check_removed(BACKING_ANONYMOUS, MADV_DONTNEED);
}

static void test_removed_memfd(void)
{
	check_removed(BACKING_MEMFD, MADV_REMOVE);
}

/* While pages flow, and are given back, and faulted on. */
static void *remove_often(void *arg)
{
	struct late_pair *pair = arg;

	for (uint64_t i = 0; i < 200; i++) {
		uint64_t page = i * 7919 % (N_PAGES - 16) / 2 + N_PAGES / 2;

		if (page + 16 > N_PAGES)
			page = N_PAGES - 16;
		madvise(pair->destination.bytes + page * PMIG_PAGE_BYTES,
			16 * PMIG_PAGE_BYTES, MADV_DONTNEED);
	}
	return NULL;
}

static void test_removals_while_pages_flow(void)
{
	struct late_pair pair;
	pthread_t thread;

	late_open(&pair, BACKING_ANONYMOUS, SIZE_BYTES, 0);
	late_fill(&pair, 0, N_PAGES, 5);
	late_leave_all(&pair);
	late_start(&pair);
	CHECK_EQ(pthread_create(&thread, NULL, remove_often, &pair), 0);
	for (uint64_t page = 0; page < N_PAGES / 2; page++)
		CHECK(late_same(&pair, page));
	pthread_join(thread, NULL);
	late_wait(&pair);
	late_close(&pair);
}

/* Gives holes back, or faults on them, over and over. */
struct hole_user {
	const struct late_pair *pair;
	pthread_t thread;
	bool removes;
	uint64_t seed;
	uint64_t wrong;
};

static void *use_holes(void *arg)
{
	struct hole_user *user = arg;
	uint8_t *holes = user->pair->destination.bytes + SIZE_BYTES / 2;

	for (uint64_t i = 0; i < HOLE_STEPS; i++) {
		uint8_t *page =
			holes + (i * 7 + user->seed) % HOLES * PMIG_PAGE_BYTES;

		if (user->removes)
			madvise(page, PMIG_PAGE_BYTES, MADV_DONTNEED);
		else
			user->wrong += *(volatile uint8_t *)page != 0;
	}
	return NULL;
}

/* While a removal is under way nothing can be placed, and faults pile up. */
static void test_removals_beside_faults_on_holes(void)
{
	struct hole_user users[HOLE_USERS];
	struct late_pair pair;

	late_open(&pair, BACKING_ANONYMOUS, SIZE_BYTES, 0);
	late_fill(&pair, 0, N_PAGES / 8, 3);
	late_leave_all(&pair);
	CHECK_OK(pmig_faults_start(pair.faults, &pair.late_err), pair.late_err);
	for (uint64_t i = 0; i < HOLE_USERS; i++) {
		users[i] = (struct hole_user){
			.pair = &pair,
			.removes = i % 4 != 0,
			.seed = i,
		};
		CHECK_EQ(pthread_create(&users[i].thread, NULL, use_holes,
					&users[i]),
			 0);
	}
	for (int i = 0; i < HOLE_USERS; i++) {
		pthread_join(users[i].thread, NULL);
		CHECK_EQ(users[i].wrong, 0);
	}
	late_send(&pair);
	late_wait(&pair);
	check_all(&pair);
	late_close(&pair);
}

/* Channels break again and again, and nothing is lost or sent twice. */
static void check_cuts(enum backing backing)
{
	struct reader readers[READERS];
	struct pmig_error err;
	struct late_pair pair;

	late_open(&pair, backing, SIZE_BYTES, 0);
	pair.tuning.bandwidth_limit_bytes_per_s = 40 * MIB;
	late_fill(&pair, 0, N_PAGES, 7);
	late_leave_all(&pair);
	late_start(&pair);
	start_readers(&pair, readers);
	for (int i = 0; i < 6; i++) {
		pmig_faults_wait(pair.faults, 30, &err);
		late_disconnect(&pair, true);
		late_reconnect(&pair);
		late_send(&pair);
	}
	join_readers(readers);
	late_wait(&pair);
	check_all(&pair);
	late_close(&pair);
}

static void test_cuts_memfd(void)
{
	check_cuts(BACKING_MEMFD);
}

static void test_cuts_anonymous(void)
{
	check_cuts(BACKING_ANONYMOUS);
}

/* Who cannot be served any more must not find zeros. */
static void test_missing_pages_are_never_zeros(void)
{
	struct late_pair pair;
	uint8_t *page;

	late_open(&pair, BACKING_ANONYMOUS, SIZE_BYTES, 0);
	late_fill(&pair, 0, N_PAGES, 7);
	late_leave_all(&pair);
	CHECK_OK(pmig_faults_start(pair.faults, &pair.late_err), pair.late_err);
	late_disconnect(&pair, true);
	pmig_faults_free(pair.faults);
	pair.faults = NULL;
	page = pair.destination.bytes + 500 * PMIG_PAGE_BYTES;
	/* inaccessible memory cannot be read into by the kernel either */
	CHECK_EQ(madvise(page, PMIG_PAGE_BYTES, 22 /* POPULATE_READ */), -1);
	late_close(&pair);
}

static void test_wait_says_how_many(void)
{
	struct pmig_error err;
	char words[32];
	struct late_pair pair;

	late_open(&pair, BACKING_ANONYMOUS, SIZE_BYTES, 0);
	late_fill(&pair, 0, N_PAGES, 7);
	late_leave_all(&pair);
	CHECK_OK(pmig_faults_start(pair.faults, &err), err);
	CHECK_EQ(pmig_faults_wait(pair.faults, 1, &err), -ETIMEDOUT);
	snprintf(words, sizeof(words), "%d pages", N_PAGES);
	CHECK(strstr(err.message, words));
	late_close(&pair);
}

int main(void)
{
	return unit_run((struct unit_test[]){
		UNIT(test_now_memfd),
		UNIT(test_now_memfd_without_minor),
		UNIT(test_now_anonymous),
		UNIT(test_now_thp),
		UNIT(test_now_hugetlb),
		UNIT(test_now_hugetlb_without_minor),
		UNIT(test_now_hugetlb_private),
		UNIT(test_compressed),
		UNIT(test_hybrid_memfd),
		UNIT(test_hybrid_memfd_without_minor),
		UNIT(test_hybrid_anonymous),
		UNIT(test_hybrid_thp),
		UNIT(test_hybrid_hugetlb),
		UNIT(test_hybrid_hugetlb_private),
		UNIT(test_holes_memfd),
		UNIT(test_holes_anonymous),
		UNIT(test_holes_hugetlb),
		UNIT(test_removed_anonymous),
		UNIT(test_removed_memfd),
		UNIT(test_removals_while_pages_flow),
		UNIT(test_removals_beside_faults_on_holes),
		UNIT(test_cuts_memfd),
		UNIT(test_cuts_anonymous),
		UNIT(test_missing_pages_are_never_zeros),
		UNIT(test_wait_says_how_many),
		UNIT_END,
	});
}
