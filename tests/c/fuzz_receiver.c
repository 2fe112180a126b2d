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

/* Kept for the life of the process: a receiver discards what it holds. */
static struct pmig_memory *machine(void)
{
	static struct pmig_memory *memory;
	struct pmig_region regions[2];

	if (memory)
		return memory;
	memcpy(regions, fuzz_regions, sizeof(regions));
	for (int i = 0; i < 2; i++) {
		regions[i].hva = mmap(NULL, regions[i].size_bytes,
				      PROT_READ | PROT_WRITE,
				      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (regions[i].hva == MAP_FAILED)
			die("no memory");
	}
	if (pmig_memory_new(regions, 2, &memory, NULL))
		die("no machine");
	return memory;
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

/* 0 when the stream is taken whole and leaves no page stale. */
static int receive(struct pmig_memory *memory, const uint8_t *data,
		   size_t size_bytes)
{
	struct pmig_receiver_config config = {
		.struct_size = sizeof(config),
		.n_channels = 1,
	};
	struct pmig_event event = {.struct_size = sizeof(event)};
	struct pmig_receiver *receiver;
	struct pmig_channel *channel;
	uint64_t stale = 0;
	int rc = 0;

	if (pmig_channel_memory(data, size_bytes, &channel, NULL))
		die("no channel");
	config.channels = &channel;
	if (pmig_receiver_new(memory, &config, &receiver, NULL))
		die("no receiver");
	while (!rc && event.kind != PMIG_EVENT_END) {
		rc = pmig_receiver_wait(receiver, HANG_MS, &event, NULL);
		if (!rc && event.kind == PMIG_EVENT_NONE)
			die("the receiver hangs");
		if (!rc && event.kind == PMIG_EVENT_EPOCH)
			stale = event.stale_pages;
	}
	if (!rc)
		check_stale(receiver, stale);
	pmig_receiver_free(receiver);
	pmig_channel_free(channel);
	return rc ? rc : (int)stale;
}

bool fuzz_receive(const uint8_t *data, size_t size_bytes)
{
	struct pmig_memory *memory = machine();
	char why[80];
	int64_t wrong;

	if (receive(memory, data, size_bytes) ||
	    !stream_ends_sealed(data, size_bytes))
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
