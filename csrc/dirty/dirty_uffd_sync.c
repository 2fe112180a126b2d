/* SPDX-License-Identifier: Apache-2.0 */
/*
 * userfaultfd write-protection with a fault handler (Linux 5.7, for shared
 * memory 5.19).
 *
 * A write to a protected page stops the writer until the handler thread has
 * noted the page and lifted its protection. It does both under the lock of
 * the unit: a rearm in between would protect the page, and the handler then
 * lift that protection, so that the next write went unseen.
 *
 * So pages are pending before they can be written, and a harvest has nothing
 * to do. While the handler waits for a lock, its holder never waits for the
 * handler, as guest memory is not touched under any lock.
 *
 * An anonymous page that was never touched has no entry in the page tables
 * to protect. Linux 6.4 can keep a mark in its place; before, and so that
 * what is a hole can still be told, such memory is read-populated at start:
 * that maps the zero page everywhere. A page whose backing was taken away
 * (a balloon) has lost its protection: it must be marked by the caller, and
 * marked pages are re-armed.
 */
#include <errno.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/error.h"
#include "base/thread.h"
#include "dirty/dirty_uffd.h"

enum {
	PMIG_MADV_POPULATE_READ = 22, /* Linux 5.14 */
	MESSAGES = 16,		      /* read at once */
};

/**
 * struct uffd_sync - state of this tracker
 * @uffd:	what protects
 * @dirty:	the tracker
 * @thread:	the handler, while started
 * @stop_fd:	eventfd that ends it
 * @failure:	-errno after which the handler gave up; atomic
 */
struct uffd_sync {
	struct uffd uffd;
	struct pmig_dirty *dirty;
	pthread_t thread;
	int stop_fd;
	int failure;
};

static void uffd_sync_free(struct pmig_dirty *dirty)
{
	struct uffd_sync *u = dirty->impl;

	uffd_close(&u->uffd);
	close(u->stop_fd);
	free(u);
	dirty->impl = NULL;
}

static int uffd_sync_probe(struct pmig_dirty *dirty, struct pmig_error *err)
{
	struct uffd_sync *u = calloc(1, sizeof(*u));
	int rc;

	if (!u)
		return pmig_fail(err, -ENOMEM, "no memory for a tracker");
	u->dirty = dirty;
	rc = uffd_open(&u->uffd, dirty, 0, PMIG_UFFD_WP_UNPOPULATED, err);
	if (rc) {
		free(u);
		return rc;
	}
	u->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (u->stop_fd < 0) {
		rc = pmig_fail_errno(err, "cannot make an eventfd");
		uffd_close(&u->uffd);
		free(u);
		return rc;
	}
	dirty->impl = u;
	dirty_explain(dirty, "sync",
		      "userfaultfd write-protection with a handler thread: "
		      "the kernel offers it (UFFD_FEATURE_PAGEFAULT_FLAG_WP)");
	return 0;
}

/* Note pages [first, first + count) of a region; its unit is locked. */
static void note_pages(struct pmig_dirty *dirty,
		       const struct pmig_region_map *map, uint64_t first,
		       uint64_t count)
{
	while (count) {
		unsigned int bit = first % PMIG_BLOCK_PAGES;
		unsigned int room = PMIG_BLOCK_PAGES - bit;
		unsigned int n = count < room ? (unsigned int)count : room;

		dirty_unarm_locked(dirty,
				   map->first_block + first / PMIG_BLOCK_PAGES,
				   pmig_word_mask(bit, n));
		first += n;
		count -= n;
	}
}

/* Note the backing page around hva and let the writer go on. */
static int serve_fault(struct uffd_sync *u, uint64_t hva)
{
	const struct pmig_region_map *map =
		pmig_memory_by_hva(u->dirty->memory, hva, 1);
	uint64_t base, first, count = 1;
	pthread_mutex_t *lock;
	int rc;

	if (!map)
		return -EFAULT;
	base = (uint64_t)(uintptr_t)map->region.hva;
	first = (hva - base) / PMIG_PAGE_BYTES;
	uffd_widen(map, &first, &count);
	lock = dirty_lock_of(u->dirty, map,
			     map->first_block + first / PMIG_BLOCK_PAGES);
	pthread_rwlock_rdlock(&u->dirty->views_lock);
	pthread_mutex_lock(lock);
	note_pages(u->dirty, map, first, count);
	rc = uffd_protect(&u->uffd, base + first * PMIG_PAGE_BYTES,
			  count * PMIG_PAGE_BYTES, false);
	pthread_mutex_unlock(lock);
	pthread_rwlock_unlock(&u->dirty->views_lock);
	return rc;
}

/* 0 when all that waited was served. */
static int serve(struct uffd_sync *u)
{
	struct uffd_msg messages[MESSAGES];
	ssize_t got = read(u->uffd.fd, messages, sizeof(messages));

	if (got < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	for (size_t i = 0; i < got / sizeof(*messages); i++) {
		int rc = 0;

		if (messages[i].event == UFFD_EVENT_PAGEFAULT)
			rc = serve_fault(u, messages[i].arg.pagefault.address);
		if (rc)
			return rc;
	}
	return 0;
}

/*
 * A handler that gives up must not leave writers waiting for ever: without
 * protection they go on, and the next harvest says that writes were missed.
 */
static void give_up(struct uffd_sync *u, int failure)
{
	__atomic_store_n(&u->failure, failure, __ATOMIC_SEQ_CST);
	uffd_unregister(&u->uffd, NULL);
}

static void *handler_main(void *arg)
{
	struct uffd_sync *u = arg;
	struct pollfd fds[2] = {
		{.fd = u->uffd.fd, .events = POLLIN},
		{.fd = u->stop_fd, .events = POLLIN},
	};
	int rc = 0;

	while (!rc) {
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			rc = -errno;
		else if (fds[1].revents)
			return NULL;
		else if (fds[0].revents & POLLIN)
			rc = serve(u);
		else if (fds[0].revents)
			rc = -EIO;
	}
	give_up(u, rc);
	return NULL;
}

/* Give every small anonymous page an entry that can be protected. */
static int map_holes(const struct pmig_memory *memory, struct pmig_error *err)
{
	for (uint32_t i = 0; i < memory->n_maps; i++) {
		const struct pmig_region *region = &memory->maps[i].region;

		if ((region->flags & PMIG_REGION_SHARED) ||
		    region->page_size_bytes > PMIG_PAGE_BYTES)
			continue;
		if (madvise(region->hva, region->size_bytes,
			    PMIG_MADV_POPULATE_READ))
			return pmig_fail_errno(
				err,
				"region %s: cannot map its holes "
				"(MADV_POPULATE_READ, Linux "
				"5.14)",
				region->name);
	}
	return 0;
}

static int uffd_sync_start(struct pmig_dirty *dirty, struct pmig_error *err)
{
	struct uffd_sync *u = dirty->impl;
	int rc = map_holes(dirty->memory, err);

	if (!rc)
		rc = uffd_register(&u->uffd, err);
	if (rc)
		return rc;
	u->failure = 0;
	rc = pmig_thread_start(&u->thread, "uffd-wp", 0, handler_main, u, err);
	if (rc)
		uffd_unregister(&u->uffd, NULL);
	return rc;
}

static int uffd_sync_stop(struct pmig_dirty *dirty, struct pmig_error *err)
{
	struct uffd_sync *u = dirty->impl;
	int rc = uffd_unregister(&u->uffd, err);
	eventfd_t value;

	eventfd_write(u->stop_fd, 1);
	pthread_join(u->thread, NULL);
	eventfd_read(u->stop_fd, &value);
	return rc;
}

static int uffd_sync_harvest(struct pmig_dirty *dirty, struct pmig_error *err)
{
	struct uffd_sync *u = dirty->impl;
	int failure = __atomic_load_n(&u->failure, __ATOMIC_SEQ_CST);

	if (!failure)
		return 0;
	errno = -failure;
	return pmig_fail_errno(err, "the handler of write faults gave up, so "
				    "writes were missed");
}

static int protect_runs(const struct uffd_sync *u, const struct pmig_span *span,
			const uint64_t *words)
{
	uint64_t base = (uint64_t)(uintptr_t)span->map->region.hva;
	uint64_t offset = span->offset_bytes / PMIG_PAGE_BYTES;
	uint64_t n_pages = pmig_span_pages(span);
	uint64_t page = 0;
	uint64_t count;

	while ((count = pmig_bitmap_next_run(words, n_pages, page, &page))) {
		uint64_t first = offset + page;
		uint64_t wide = count;
		int rc;

		uffd_widen(span->map, &first, &wide);
		rc = uffd_protect(&u->uffd, base + first * PMIG_PAGE_BYTES,
				  wide * PMIG_PAGE_BYTES, true);
		if (rc)
			return rc;
		page += count;
	}
	return 0;
}

static int uffd_sync_rearm(struct pmig_dirty *dirty,
			   const struct pmig_span *span, struct pmig_error *err)
{
	int rc = protect_runs(dirty->impl, span,
			      &dirty->unarmed[span->first_block]);

	if (rc) {
		errno = -rc;
		return pmig_fail_errno(err,
				       "region %s: UFFDIO_WRITEPROTECT fails",
				       span->map->region.name);
	}
	dirty_armed_locked(dirty, span);
	return 0;
}

const struct dirty_ops dirty_uffd_sync_ops = {
	.tracker = PMIG_TRACKER_UFFD_WP,
	.marks_unarm = true,
	.probe = uffd_sync_probe,
	.start = uffd_sync_start,
	.harvest = uffd_sync_harvest,
	.rearm = uffd_sync_rearm,
	.stop = uffd_sync_stop,
	.free = uffd_sync_free,
};
