/* SPDX-License-Identifier: Apache-2.0 */
/*
 * migrate_memory.c - memory moves from one process to another while in use
 *
 *	cc $(pkg-config --cflags pymigrate) migrate_memory.c \
 *		$(pkg-config --libs pymigrate) -pthread -o migrate_memory
 *	./migrate_memory [marked|uffd-wp]
 *
 * What a hypervisor does, without a hypervisor.  A thread of the source
 * process stands in for the guest and keeps writing to memory.  The source
 * sends epoch after epoch over two sockets until little is left, stops the
 * writer, sends the rest and some state, and then a hash of every page.  The
 * destination process compares the hashes with its own memory.
 *
 * With "marked" the writer tells which pages it wrote, as a device model
 * would; with "uffd-wp" the kernel finds out (Linux 5.7, and root or
 * vm.unprivileged_userfaultfd).
 */
#define _GNU_SOURCE
#include <pymigrate.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	MEMORY_BYTES = 64 << 20,
	MEMORY_BLOCKS = MEMORY_BYTES / PMIG_BLOCK_BYTES,
	MEMORY_PAGES = MEMORY_BYTES / PMIG_PAGE_BYTES,
	WORKING_SET_PAGES = 512,
	CHANNELS = 2,
	MAX_ROUNDS = 10,
	FEW_PAGES = 64,	      /* stop the writer when this few are left */
	WRITER_PAUSE_US = 20, /* between pages: some 30,000 pages a second */
	WAIT_MS = 30000,
};

static const uint64_t guest_base = 1ull << 20;

/* The memory to migrate, and what a side needs to move it. */
struct side {
	uint8_t *bytes;
	struct pmig_memory *memory;
	struct pmig_channel *channels[CHANNELS];
	int control; /* carries the hashes, past the library */
	struct pmig_error err;
};

/* The stand-in for a guest. */
struct writer {
	uint8_t *bytes;
	struct pmig_dirty *dirty; /* to mark writes on, or NULL */
	atomic_bool stop;
	uint64_t pages_written;
};

static void die(const char *what, const struct pmig_error *err)
{
	fprintf(stderr, "%s: %s\n", what, err ? err->message : "failed");
	exit(EXIT_FAILURE);
}

static void check(int rc, const char *what, const struct pmig_error *err)
{
	if (rc != 0)
		die(what, err);
}

/* Map memory and describe it; wrap the sockets. */
static void open_side(struct side *side, const int sockets[CHANNELS])
{
	struct pmig_region region = {
		.struct_size = sizeof(region),
		.kind = PMIG_REGION_RAM,
		.gpa = guest_base,
		.size_bytes = MEMORY_BYTES,
		.page_size_bytes = PMIG_PAGE_BYTES,
		.fd = memfd_create("ram", MFD_CLOEXEC),
		.flags = PMIG_REGION_SHARED,
		.name = "ram",
	};

	if (region.fd < 0 || ftruncate(region.fd, MEMORY_BYTES) != 0)
		die("memfd", NULL);
	side->bytes = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE,
			   MAP_SHARED, region.fd, 0);
	if (side->bytes == MAP_FAILED)
		die("mmap", NULL);
	region.hva = side->bytes;
	check(pmig_memory_new(&region, 1, &side->memory, &side->err), "memory",
	      &side->err);
	for (int i = 0; i < CHANNELS; i++)
		check(pmig_channel_from_socket(sockets[i], &side->channels[i],
					       &side->err),
		      "channel", &side->err);
}

static void close_side(struct side *side)
{
	for (int i = 0; i < CHANNELS; i++)
		pmig_channel_free(side->channels[i]);
	pmig_memory_free(side->memory);
	munmap(side->bytes, MEMORY_BYTES);
}

static uint64_t *hash_memory(struct side *side)
{
	uint64_t *hashes = calloc(MEMORY_PAGES, sizeof(*hashes));

	if (!hashes)
		die("hashes", NULL);
	check(pmig_memory_hash(side->memory, 0, MEMORY_BLOCKS, hashes,
			       &side->err),
	      "hash", &side->err);
	return hashes;
}

/* ---- source ----------------------------------------------------------- */

static void *write_pages(void *argument)
{
	struct writer *writer = argument;
	uint64_t page = 0;

	while (!atomic_load(&writer->stop)) {
		uint64_t offset = page * PMIG_PAGE_BYTES;
		uint64_t value = ++writer->pages_written;

		memcpy(writer->bytes + offset, &value, sizeof(value));
		/* Marked after the write: before it, a page could be sent old
		 * and counted as sent. */
		if (writer->dirty)
			pmig_dirty_mark(writer->dirty, guest_base + offset,
					sizeof(value));
		page = (page + 1) % WORKING_SET_PAGES;
		usleep(WRITER_PAUSE_US);
	}
	return NULL;
}

/* A third of memory has contents, so holes are met too. */
static void fill(uint8_t *bytes)
{
	uint64_t state = 1;

	for (size_t i = 0; i < MEMORY_BYTES / 3; i += sizeof(state)) {
		state = state * 6364136223846793005ull + 1442695040888963407ull;
		memcpy(bytes + i, &state, sizeof(state));
	}
}

static void show(const struct pmig_round *round)
{
	printf("epoch %llu %-6s %6llu dirty %6llu sent %9llu bytes %6.1f ms\n",
	       (unsigned long long)round->epoch,
	       round->kind == PMIG_EPOCH_SEALED ? "sealed" : "fuzzy",
	       (unsigned long long)round->dirty_pages,
	       (unsigned long long)round->sent_pages,
	       (unsigned long long)round->wire_bytes, round->duration_ns / 1e6);
}

/* Rounds while the writer runs, until the next would be short. */
static void send_fuzzy(struct side *side, struct pmig_sender *sender,
		       struct pmig_view *view)
{
	struct pmig_round round = {.struct_size = sizeof(round)};

	for (int i = 0; i < MAX_ROUNDS; i++) {
		check(pmig_sender_round(sender, PMIG_EPOCH_FUZZY, &round,
					&side->err),
		      "round", &side->err);
		show(&round);
		check(pmig_view_harvest(view, &side->err), "harvest",
		      &side->err);
		if (pmig_view_pending_pages(view) <= FEW_PAGES)
			break;
	}
}

/* The writer's counter is the state of this machine. */
static void send_state(struct side *side, struct pmig_sender *sender,
		       uint64_t pages_written)
{
	struct pmig_state *state;
	const uint8_t *data;
	uint64_t size_bytes;

	check(pmig_state_new(&state, &side->err), "state", &side->err);
	check(pmig_state_add(state, "example/counter", 1, 0, &pages_written,
			     sizeof(pages_written), &side->err),
	      "state", &side->err);
	check(pmig_state_encode(state, &data, &size_bytes, &side->err), "state",
	      &side->err);
	check(pmig_sender_put(sender, PMIG_FRAME_STATE, data, size_bytes,
			      &side->err),
	      "state", &side->err);
	pmig_state_free(state);
}

static void send_sealed(struct side *side, struct pmig_sender *sender)
{
	struct pmig_round round = {.struct_size = sizeof(round)};

	check(pmig_sender_round(sender, PMIG_EPOCH_SEALED, &round, &side->err),
	      "round", &side->err);
	show(&round);
	check(pmig_sender_end(sender, &side->err), "end", &side->err);
}

static struct pmig_dirty *start_tracker(struct side *side, bool marked)
{
	struct pmig_dirty_config config = {
		.struct_size = sizeof(config),
		.tracker = marked ? PMIG_TRACKER_MARKED : PMIG_TRACKER_UFFD_WP,
		.vm_fd = -1,
		.uffd = -1,
	};
	struct pmig_dirty *dirty;

	check(pmig_dirty_new(side->memory, &config, &dirty, &side->err),
	      "tracker", &side->err);
	check(pmig_dirty_start(dirty, &side->err), "tracker", &side->err);
	return dirty;
}

/* Migrate while the writer writes; it is stopped before the sealed epoch. */
static void migrate(struct side *side, struct pmig_dirty *dirty,
		    struct pmig_view *view, struct writer *writer)
{
	struct pmig_sender_config config = {
		.struct_size = sizeof(config),
		.n_channels = CHANNELS,
		.channels = side->channels,
	};
	struct pmig_sender *sender;
	pthread_t thread;

	check(pmig_sender_new(side->memory, view, &config, &sender, &side->err),
	      "sender", &side->err);
	if (pthread_create(&thread, NULL, write_pages, writer) != 0)
		die("writer", NULL);
	send_fuzzy(side, sender, view);
	atomic_store(&writer->stop, true);
	pthread_join(thread, NULL);
	send_state(side, sender, writer->pages_written);
	send_sealed(side, sender);
	pmig_view_commit(view);
	pmig_sender_free(sender);
	check(pmig_dirty_stop(dirty, &side->err), "tracker", &side->err);
}

static void write_all(int fd, const void *data, size_t size_bytes)
{
	const char *from = data;

	while (size_bytes > 0) {
		ssize_t n = write(fd, from, size_bytes);

		if (n <= 0)
			die("control", NULL);
		from += n;
		size_bytes -= (size_t)n;
	}
}

static void run_source(struct side *side, bool marked)
{
	struct pmig_dirty *dirty;
	struct pmig_view *view;
	struct writer writer = {.bytes = side->bytes};
	uint64_t *hashes;

	fill(side->bytes);
	dirty = start_tracker(side, marked);
	check(pmig_view_new(dirty, &view, &side->err), "view", &side->err);
	writer.dirty = marked ? dirty : NULL;
	migrate(side, dirty, view, &writer);
	hashes = hash_memory(side);
	write_all(side->control, hashes, MEMORY_PAGES * sizeof(*hashes));
	free(hashes);
	pmig_view_free(view);
	pmig_dirty_free(dirty);
}

/* ---- destination ------------------------------------------------------ */

/* Receive until the orderly end; gives the counter of the last state. */
static uint64_t receive(struct side *side, struct pmig_receiver *receiver)
{
	struct pmig_event event = {.struct_size = sizeof(event)};
	struct pmig_state *state;
	struct pmig_item item;
	uint64_t counter = 0;

	do {
		check(pmig_receiver_wait(receiver, WAIT_MS, &event, &side->err),
		      "receive", &side->err);
		if (event.kind == PMIG_EVENT_NONE)
			die("receive: nothing came", NULL);
		if (event.kind != PMIG_EVENT_BLOB)
			continue;
		check(pmig_state_decode(event.data, event.size_bytes, &state,
					&side->err),
		      "state", &side->err);
		if (pmig_state_find(state, "example/counter", &item) != 0 ||
		    item.size_bytes != sizeof(counter))
			die("state: no counter", NULL);
		memcpy(&counter, item.data, sizeof(counter));
		pmig_state_free(state);
	} while (event.kind != PMIG_EVENT_END);
	return counter;
}

static void read_all(int fd, void *data, size_t size_bytes)
{
	char *to = data;

	while (size_bytes > 0) {
		ssize_t n = read(fd, to, size_bytes);

		if (n <= 0)
			die("control", NULL);
		to += n;
		size_bytes -= (size_t)n;
	}
}

/* Compare every page with the source's account of it. */
static uint64_t count_mismatches(struct side *side)
{
	uint64_t *theirs = calloc(MEMORY_PAGES, sizeof(*theirs));
	uint64_t *ours = hash_memory(side);
	uint64_t mismatches = 0;

	if (!theirs)
		die("hashes", NULL);
	read_all(side->control, theirs, MEMORY_PAGES * sizeof(*theirs));
	for (size_t i = 0; i < MEMORY_PAGES; i++)
		mismatches += ours[i] != theirs[i];
	free(ours);
	free(theirs);
	return mismatches;
}

static int run_destination(struct side *side)
{
	struct pmig_receiver_config config = {
		.struct_size = sizeof(config),
		.n_channels = CHANNELS,
		.channels = side->channels,
	};
	struct pmig_receiver *receiver;
	uint64_t mismatches, counter;

	check(pmig_receiver_new(side->memory, &config, &receiver, &side->err),
	      "receiver", &side->err);
	counter = receive(side, receiver);
	pmig_receiver_free(receiver);
	mismatches = count_mismatches(side);
	printf("destination: %d pages, %llu mismatches, counter %llu\n",
	       MEMORY_PAGES, (unsigned long long)mismatches,
	       (unsigned long long)counter);
	return mismatches == 0 && counter > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* ---- both ------------------------------------------------------------- */

int main(int argc, char **argv)
{
	bool marked = argc < 2 || strcmp(argv[1], "marked") == 0;
	int pairs[CHANNELS + 1][2], ends[CHANNELS], status;
	struct side side = {0};
	int mine;
	pid_t child;

	if (argc > 2 || (!marked && strcmp(argv[1], "uffd-wp") != 0)) {
		fprintf(stderr, "usage: %s [marked|uffd-wp]\n", argv[0]);
		return 2;
	}
	for (int i = 0; i <= CHANNELS; i++)
		if (socketpair(AF_UNIX, SOCK_STREAM, 0, pairs[i]) != 0)
			die("socketpair", NULL);
	child = fork();
	if (child < 0)
		die("fork", NULL);
	mine = child == 0;
	for (int i = 0; i <= CHANNELS; i++) {
		close(pairs[i][!mine]);
		if (i < CHANNELS)
			ends[i] = pairs[i][mine];
	}
	side.control = pairs[CHANNELS][mine];
	open_side(&side, ends);
	if (child == 0) {
		status = run_destination(&side);
		close_side(&side);
		return status;
	}
	run_source(&side, marked);
	close_side(&side);
	if (waitpid(child, &status, 0) != child || !WIFEXITED(status))
		return EXIT_FAILURE;
	return WEXITSTATUS(status);
}
