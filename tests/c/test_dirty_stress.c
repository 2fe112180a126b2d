/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two consumers of one tracker against writers that never wait.
 *
 * Each consumer keeps a copy of memory and brings it up to date in rounds of
 * its own, while the other does the same. Every few rounds the writers are
 * paused and each consumer does one last round, still beside the other: then
 * both copies must equal memory. A write that either tracker or front end
 * lost is a page that differs.
 */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "backing.h"
#include "dirty_round.h"
#include "kvm_guest.h"
#include "unit.h"

enum {
	SIZE_BYTES = 8 << 20,
	N_PAGES = SIZE_BYTES / PMIG_PAGE_BYTES,
	N_BLOCKS = SIZE_BYTES / PMIG_BLOCK_BYTES,
	CONSUMERS = 2,
	WRITERS = 2,
	RUN_MS = 500,
	MIN_EPISODES = 5,
	MAX_ROUNDS = 5,
};

/**
 * struct stress - one run
 * @guest:	writes if kvm is set, threads do otherwise
 * @marks:	writers mark what they wrote
 * @meeting:	of the consumers and the main thread
 * @is_done:	the consumers are to end; atomic
 * @failed:	a page differed: 1 + its number; atomic
 */
struct stress {
	struct backed backed;
	struct pmig_memory *memory;
	struct pmig_dirty *dirty;
	struct kvm_guest guest;
	bool kvm;
	bool marks;
	pthread_t writers[WRITERS];
	pthread_mutex_t lock;
	pthread_cond_t changed;
	int n_parked;
	bool is_paused;
	bool is_over;
	pthread_barrier_t meeting;
	bool is_done;
	unsigned int failed;
	unsigned int episodes;
};

/* ---- writers ---------------------------------------------------------- */

static uint32_t next_random(uint32_t *state)
{
	*state = *state * 1664525u + 1013904223u;
	return *state >> 8;
}

static bool writer_may_run(struct stress *stress)
{
	bool go_on;

	pthread_mutex_lock(&stress->lock);
	stress->n_parked++;
	pthread_cond_broadcast(&stress->changed);
	while (stress->is_paused && !stress->is_over)
		pthread_cond_wait(&stress->changed, &stress->lock);
	stress->n_parked--;
	go_on = !stress->is_over;
	pthread_mutex_unlock(&stress->lock);
	return go_on;
}

/* Some pages are hit often, so that consumers meet on them. */
static void *writer_main(void *arg)
{
	struct stress *stress = arg;
	uint32_t seed = (uint32_t)(uintptr_t)&seed;

	while (writer_may_run(stress)) {
		for (int i = 0; i < 32; i++) {
			uint32_t page = next_random(&seed) % N_PAGES;

			if (page % 4)
				page %= 48;
			__atomic_fetch_add((uint32_t *)(stress->backed.bytes +
							page * 4096),
					   1, __ATOMIC_SEQ_CST);
			if (stress->marks)
				pmig_dirty_mark(stress->dirty, page * 4096, 1);
		}
	}
	return NULL;
}

static void writers_start(struct stress *stress)
{
	if (stress->kvm) {
		kvm_guest_sweep(&stress->guest, 0, 0, 40);
		kvm_guest_sweep(&stress->guest, 1, 16 * 4096, 700);
		return;
	}
	for (int i = 0; i < WRITERS; i++)
		CHECK(!pthread_create(&stress->writers[i], NULL, writer_main,
				      stress));
}

static void writers_pause(struct stress *stress)
{
	if (stress->kvm) {
		kvm_guest_pause(&stress->guest);
		return;
	}
	pthread_mutex_lock(&stress->lock);
	stress->is_paused = true;
	while (stress->n_parked < WRITERS)
		pthread_cond_wait(&stress->changed, &stress->lock);
	pthread_mutex_unlock(&stress->lock);
}

static void writers_resume(struct stress *stress, bool over)
{
	if (stress->kvm) {
		kvm_guest_resume(&stress->guest);
		return;
	}
	pthread_mutex_lock(&stress->lock);
	stress->is_paused = false;
	stress->is_over = over;
	pthread_cond_broadcast(&stress->changed);
	pthread_mutex_unlock(&stress->lock);
}

static void writers_end(struct stress *stress)
{
	if (stress->kvm) {
		kvm_guest_close(&stress->guest);
		return;
	}
	writers_resume(stress, true);
	for (int i = 0; i < WRITERS; i++)
		pthread_join(stress->writers[i], NULL);
}

/* ---- consumers -------------------------------------------------------- */

static uint32_t counter(const struct stress *stress, uint64_t page)
{
	return __atomic_load_n((uint32_t *)(stress->backed.bytes + page * 4096),
			       __ATOMIC_SEQ_CST);
}

static void must(int rc, const struct pmig_error *why)
{
	if (!rc)
		return;
	fprintf(stderr, "%s\n", why->message);
	abort();
}

static void copy_block(struct stress *stress, struct pmig_view *view,
		       uint64_t block, uint32_t *copy)
{
	uint64_t bits = pmig_view_take(view, block);

	for (; bits; bits &= bits - 1) {
		uint64_t page =
			block * 64 + (unsigned int)__builtin_ctzll(bits);

		copy[page] = counter(stress, page);
	}
}

/* Chunks of any size, as different consumers may choose them. */
static void consume(struct stress *stress, struct pmig_view *view,
		    uint32_t *copy, uint32_t *seed)
{
	struct pmig_error why;

	must(pmig_view_harvest(view, &why), &why);
	for (uint64_t block = 0; block < N_BLOCKS;) {
		uint64_t n = 1 + next_random(seed) % 8;

		if (n > N_BLOCKS - block)
			n = N_BLOCKS - block;
		must(pmig_view_rearm(view, block, n, &why), &why);
		for (; n; n--, block++)
			copy_block(stress, view, block, copy);
	}
	pmig_view_commit(view);
}

static void compare(struct stress *stress, const uint32_t *copy)
{
	for (uint32_t page = 0; page < N_PAGES; page++)
		if (copy[page] != counter(stress, page))
			__atomic_store_n(&stress->failed, page + 1,
					 __ATOMIC_SEQ_CST);
}

static void *consumer_main(void *arg)
{
	struct stress *stress = arg;
	uint32_t *copy = calloc(N_PAGES, sizeof(*copy));
	uint32_t seed = (uint32_t)(uintptr_t)copy;
	struct pmig_error why;
	struct pmig_view *view;

	must(pmig_view_new(stress->dirty, &view, &why), &why);
	for (;;) {
		uint32_t rounds = 1 + next_random(&seed) % MAX_ROUNDS;

		pthread_barrier_wait(&stress->meeting);
		if (__atomic_load_n(&stress->is_done, __ATOMIC_SEQ_CST))
			break;
		while (rounds--)
			consume(stress, view, copy, &seed);
		pthread_barrier_wait(&stress->meeting);
		/* the main thread pauses the writers */
		pthread_barrier_wait(&stress->meeting);
		consume(stress, view, copy, &seed);
		compare(stress, copy);
		pthread_barrier_wait(&stress->meeting);
	}
	pmig_view_free(view);
	free(copy);
	return NULL;
}

static double now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static void run_episodes(struct stress *stress)
{
	double end_ms = now_ms() + RUN_MS;

	while (!stress->failed &&
	       (now_ms() < end_ms || stress->episodes < MIN_EPISODES)) {
		pthread_barrier_wait(&stress->meeting);
		pthread_barrier_wait(&stress->meeting);
		writers_pause(stress);
		pthread_barrier_wait(&stress->meeting);
		pthread_barrier_wait(&stress->meeting);
		writers_resume(stress, false);
		stress->episodes++;
	}
}

static void run(struct stress *stress)
{
	pthread_t consumers[CONSUMERS];

	pthread_barrier_init(&stress->meeting, NULL, CONSUMERS + 1);
	writers_start(stress);
	for (int i = 0; i < CONSUMERS; i++)
		CHECK(!pthread_create(&consumers[i], NULL, consumer_main,
				      stress));
	run_episodes(stress);
	__atomic_store_n(&stress->is_done, true, __ATOMIC_SEQ_CST);
	pthread_barrier_wait(&stress->meeting);
	for (int i = 0; i < CONSUMERS; i++)
		pthread_join(consumers[i], NULL);
	writers_end(stress);
	pthread_barrier_destroy(&stress->meeting);
}

static void stress_open(struct stress *stress, enum pmig_tracker tracker,
			enum backing backing, uint32_t flags,
			uint32_t ring_bytes)
{
	struct pmig_dirty_config config = {
		.struct_size = sizeof(config),
		.vm_fd = -1,
		.uffd = -1,
	};

	*stress = (struct stress){
		.kvm = tracker == PMIG_TRACKER_KVM_LOG ||
		       tracker == PMIG_TRACKER_KVM_RING,
		.marks = tracker == PMIG_TRACKER_MARKED,
	};
	pthread_mutex_init(&stress->lock, NULL);
	pthread_cond_init(&stress->changed, NULL);
	backing_map(&stress->backed, backing, SIZE_BYTES);
	stress->memory = backing_describe(&stress->backed);
	if (stress->kvm) {
		kvm_guest_open(&stress->guest, ring_bytes);
		kvm_guest_add_slot(&stress->guest, 0, stress->backed.bytes,
				   SIZE_BYTES);
		config = kvm_guest_config(&stress->guest, tracker);
	}
	config.tracker = tracker;
	config.flags = flags;
	stress->dirty = dirty_start(stress->memory, &config);
	stress->guest.dirty = stress->dirty;
}

static void check_stress(enum pmig_tracker tracker, enum backing backing,
			 uint32_t flags, uint32_t ring_bytes)
{
	static struct stress stress;

	stress_open(&stress, tracker, backing, flags, ring_bytes);
	if (tracker == PMIG_TRACKER_UFFD_WP && !flags &&
	    strcmp(pmig_dirty_variant(stress.dirty), "async"))
		UNIT_SKIP("no asynchronous write-protection (Linux 6.7)");
	run(&stress);
	printf("# %s: %u episodes, %u full rings\n",
	       pmig_dirty_variant(stress.dirty), stress.episodes,
	       stress.guest.ring_fulls);
	if (stress.failed)
		UNIT_FAIL("page %u differs after %u episodes",
			  stress.failed - 1, stress.episodes);
	pmig_dirty_free(stress.dirty);
	pmig_memory_free(stress.memory);
	backing_unmap(&stress.backed);
}

static void test_kvm_manual(void)
{
	check_stress(PMIG_TRACKER_KVM_LOG, BACKING_MEMFD, 0, 0);
}

static void test_kvm_get(void)
{
	check_stress(PMIG_TRACKER_KVM_LOG, BACKING_MEMFD,
		     PMIG_DIRTY_NO_MANUAL_PROTECT, 0);
}

static void test_kvm_ring(void)
{
	check_stress(PMIG_TRACKER_KVM_RING, BACKING_MEMFD, 0, 65536);
}

/* 700 pages are swept, more than there is room for. */
static void test_kvm_small_ring(void)
{
	check_stress(PMIG_TRACKER_KVM_RING, BACKING_MEMFD, 0, 8192);
}

static void test_uffd_async_memfd(void)
{
	check_stress(PMIG_TRACKER_UFFD_WP, BACKING_MEMFD, 0, 0);
}

static void test_uffd_async_anonymous(void)
{
	check_stress(PMIG_TRACKER_UFFD_WP, BACKING_ANONYMOUS, 0, 0);
}

static void test_uffd_async_hugetlb(void)
{
	check_stress(PMIG_TRACKER_UFFD_WP, BACKING_HUGETLB, 0, 0);
}

static void test_uffd_sync_memfd(void)
{
	check_stress(PMIG_TRACKER_UFFD_WP, BACKING_MEMFD,
		     PMIG_DIRTY_NO_ASYNC_WP, 0);
}

static void test_uffd_sync_anonymous(void)
{
	check_stress(PMIG_TRACKER_UFFD_WP, BACKING_ANONYMOUS,
		     PMIG_DIRTY_NO_ASYNC_WP, 0);
}

static void test_uffd_sync_hugetlb(void)
{
	check_stress(PMIG_TRACKER_UFFD_WP, BACKING_HUGETLB,
		     PMIG_DIRTY_NO_ASYNC_WP, 0);
}

/* Transparent huge pages: logging splits what the guest is mapped by. */
static void test_kvm_manual_thp(void)
{
	check_stress(PMIG_TRACKER_KVM_LOG, BACKING_THP, 0, 0);
}

static void test_kvm_get_thp(void)
{
	check_stress(PMIG_TRACKER_KVM_LOG, BACKING_THP,
		     PMIG_DIRTY_NO_MANUAL_PROTECT, 0);
}

static void test_kvm_ring_thp(void)
{
	check_stress(PMIG_TRACKER_KVM_RING, BACKING_THP, 0, 65536);
}

static void test_uffd_async_thp(void)
{
	check_stress(PMIG_TRACKER_UFFD_WP, BACKING_THP, 0, 0);
}

static void test_uffd_sync_thp(void)
{
	check_stress(PMIG_TRACKER_UFFD_WP, BACKING_THP, PMIG_DIRTY_NO_ASYNC_WP,
		     0);
}

static void test_marked(void)
{
	check_stress(PMIG_TRACKER_MARKED, BACKING_MEMFD, 0, 0);
}

int main(void)
{
	return unit_run((struct unit_test[]){
		UNIT(test_kvm_manual), UNIT(test_kvm_get), UNIT(test_kvm_ring),
		UNIT(test_kvm_small_ring), UNIT(test_uffd_async_memfd),
		UNIT(test_uffd_async_anonymous), UNIT(test_uffd_async_hugetlb),
		UNIT(test_uffd_sync_memfd), UNIT(test_uffd_sync_anonymous),
		UNIT(test_uffd_sync_hugetlb), UNIT(test_kvm_manual_thp),
		UNIT(test_kvm_get_thp), UNIT(test_kvm_ring_thp),
		UNIT(test_uffd_async_thp), UNIT(test_uffd_sync_thp),
		UNIT(test_marked), UNIT_END});
}
