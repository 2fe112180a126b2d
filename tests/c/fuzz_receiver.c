/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Under libFuzzer (make -C csrc fuzz) the target that it calls; called with
 * mutations of its own choice by test_stream_fuzz.c.
 */
#include "fuzz_receiver.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "stream/wire.h"
#include "stream_mend.h"
#include "stream_truth.h"

enum {
	HANG_MS = 20000
};

const struct pmig_region fuzz_regions[2] = {
	{
		.struct_size = sizeof(struct pmig_region),
		.kind = PMIG_REGION_RAM,
		.size_bytes = FUZZ_LOW_BYTES,
		.page_size_bytes = PMIG_PAGE_BYTES,
		.fd = -1,
		.name = "ram",
	},
	{
		.struct_size = sizeof(struct pmig_region),
		.kind = PMIG_REGION_RAM,
		.gpa = 1ull << 32,
		.size_bytes = FUZZ_HIGH_BYTES,
		.page_size_bytes = PMIG_PAGE_BYTES,
		.fd = -1,
		.name = "high",
	},
};
void (*fuzz_last_words)(void);

static void die(const char *why)
{
	fprintf(stderr, "fuzz_receiver: %s\n", why);
	if (fuzz_last_words)
		fuzz_last_words();
	abort();
}

/* Where late pages go in another way each. */
enum backing {
	ANONYMOUS,
	FILES,
	BACKINGS,
};

static void map_region(struct pmig_region *region, enum backing backing)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS;

	if (backing == FILES) {
		region->fd = memfd_create(region->name, MFD_CLOEXEC);
		region->flags = PMIG_REGION_SHARED;
		flags = MAP_SHARED;
		if (region->fd < 0 ||
		    ftruncate(region->fd, (off_t)region->size_bytes))
			die("no memory");
	}
	region->hva = mmap(NULL, region->size_bytes, PROT_READ | PROT_WRITE,
			   flags, region->fd, 0);
	if (region->hva == MAP_FAILED)
		die("no memory");
}

/* Kept for the life of the process: a receiver discards what it holds. */
static struct pmig_memory *machine(enum backing backing)
{
	static struct pmig_memory *machines[BACKINGS];
	struct pmig_memory **memory = &machines[backing];
	struct pmig_region regions[2];

	if (*memory)
		return *memory;
	memcpy(regions, fuzz_regions, sizeof(regions));
	for (int i = 0; i < 2; i++)
		map_region(&regions[i], backing);
	if (pmig_memory_new(regions, 2, memory, NULL))
		die("no machine");
	return *memory;
}

/*
 * How many sealed epochs come before the late one; 0 where none is late. No
 * further than frames follow each other.
 */
static int count_sealed(const uint8_t *data, size_t size_bytes)
{
	struct wire_header header;
	struct wire_epoch epoch;
	size_t at = 0;
	int sealed = 0;

	while (at < size_bytes &&
	       size_bytes - at >= sizeof(header) + sizeof(epoch)) {
		memcpy(&header, data + at, sizeof(header));
		memcpy(&epoch, data + at + sizeof(header), sizeof(epoch));
		if (header.type == PMIG_FRAME_EPOCH &&
		    epoch.kind == PMIG_EPOCH_LATE)
			return sealed;
		sealed += header.type == PMIG_FRAME_EPOCH &&
			  epoch.kind == PMIG_EPOCH_SEALED;
		at += sizeof(header) + (size_t)header.head_bytes +
		      header.body_bytes;
	}
	return 0;
}

/* NULL where the kernel has nothing to handle faults with. */
static struct pmig_faults *new_faults(const struct pmig_memory *memory)
{
	const struct pmig_faults_config config = {
		.struct_size = sizeof(config),
		.n_handlers = 1,
		.uffd = -1,
	};
	struct pmig_faults *faults = NULL;

	pmig_faults_new(memory, &config, &faults, NULL);
	return faults;
}

/* At the end of the stream: as many are listed as the last epoch left. */
static void check_stale(const struct pmig_receiver *receiver, uint64_t stale)
{
	struct pmig_block_pages list[8];
	uint32_t n = pmig_receiver_stale(receiver, list, 8);
	uint64_t pages = 0;

	for (uint32_t i = 0; i < n; i++)
		pages += (uint64_t)__builtin_popcountll(list[i].pages);
	if (pages != stale)
		die("not as many stale pages as said");
}

/* The machine departs with the last sealed epoch before the late one. */
static void on_epoch(struct pmig_faults *faults, const struct pmig_event *event,
		     int *sealed)
{
	if (event->epoch_kind != PMIG_EPOCH_SEALED || !faults)
		return;
	if (--*sealed == 0 && pmig_faults_start(faults, NULL))
		die("cannot handle faults");
}

/* 0 when the stream is taken whole and leaves no page stale. */
static int take(struct pmig_receiver *receiver, struct pmig_faults *faults,
		int sealed)
{
	struct pmig_event event = {.struct_size = sizeof(event)};
	uint64_t stale = 0;
	int rc = 0;

	while (!rc && event.kind != PMIG_EVENT_END) {
		rc = pmig_receiver_wait(receiver, HANG_MS, &event, NULL);
		if (!rc && event.kind == PMIG_EVENT_NONE)
			die("the receiver hangs");
		if (rc || event.kind != PMIG_EVENT_EPOCH)
			continue;
		stale = event.stale_pages;
		on_epoch(faults, &event, &sealed);
	}
	if (rc)
		return rc;
	check_stale(receiver, stale);
	return stale || (faults && pmig_faults_missing_pages(faults));
}

static int receive(struct pmig_memory *memory, const uint8_t *data,
		   size_t size_bytes)
{
	struct pmig_receiver_config config = {
		.struct_size = sizeof(config),
		.n_channels = 1,
		.faults = new_faults(memory),
	};
	struct pmig_receiver *receiver;
	struct pmig_channel *channel;
	int rc;

	if (pmig_channel_memory(data, size_bytes, &channel, NULL))
		die("no channel");
	config.channels = &channel;
	if (pmig_receiver_new(memory, &config, &receiver, NULL))
		die("no receiver");
	rc = take(receiver, config.faults, count_sealed(data, size_bytes));
	pmig_receiver_free(receiver);
	pmig_channel_free(channel);
	if (config.faults)
		pmig_faults_abandon(config.faults);
	pmig_faults_free(config.faults);
	return rc;
}

static bool receive_on(enum backing backing, const uint8_t *data,
		       size_t size_bytes)
{
	struct pmig_memory *memory = machine(backing);
	char why[80];
	int64_t wrong;

	if (receive(memory, data, size_bytes) ||
	    !stream_ends_whole(data, size_bytes))
		return false;
	wrong = stream_truth(memory, data, size_bytes);
	if (wrong >= 0) {
		snprintf(why, sizeof(why),
			 "page %lld was taken, but is not what the stream says",
			 (long long)wrong);
		die(why);
	}
	return true;
}

bool fuzz_receive(const uint8_t *data, size_t size_bytes)
{
	bool taken = receive_on(ANONYMOUS, data, size_bytes);

	if (count_sealed(data, size_bytes) &&
	    receive_on(FILES, data, size_bytes) != taken)
		die("memory of files is taken for another");
	return taken;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
	uint8_t *copy = malloc(size_bytes ? size_bytes : 1);

	if (!copy)
		die("no memory");
	memcpy(copy, data, size_bytes);
	size_bytes = stream_mend(copy, size_bytes);
	fuzz_receive(copy, size_bytes);
	free(copy);
	return 0;
}
