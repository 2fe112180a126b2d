/* SPDX-License-Identifier: Apache-2.0 */
/* The index of a file: as the file says, and as its heads do. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "restored.h"
#include "unit.h"

/* ---- the index --------------------------------------------------------- */

/* As the file says, and as its heads do: the same. */
static void check_index(struct recorded *recorded, bool has_index)
{
	struct pmig_restore_report report;
	struct restored restored;
	uint64_t size_bytes;
	const uint8_t *data;
	struct pmig_error err;

	restored_open(&restored, BACKING_ANONYMOUS, RECORDED_BYTES, 0,
		      recorded->fd);
	restored_start(&restored);
	pmig_restore_report(restored.restore, &report);
	CHECK_EQ(report.has_index, has_index);
	CHECK_OK(pmig_restore_state(restored.restore, &data, &size_bytes, &err),
		 err);
	CHECK(size_bytes == 5 && memcmp(data, "state", 5) == 0);
	restored_run(&restored, recorded);
	restored_wait(&restored);
	restored_check_counts(&restored);
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
	for (size_t i = 0; i < RECORDED_TUNINGS; i++) {
		struct recorded recorded;

		recorded_make(&recorded, RECORDED_BYTES, &recorded_tunings[i],
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

	recorded_make(&recorded, RECORDED_BYTES, NULL, PMIG_SENDER_ONE_WAY);
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

	recorded_make(&recorded, RECORDED_BYTES, NULL, PMIG_SENDER_ONE_WAY);
	flip(recorded.fd, middle_frame(recorded.fd) + 60);
	restored_open(&restored, BACKING_ANONYMOUS, RECORDED_BYTES, 0,
		      recorded.fd);
	restored_start(&restored);
	CHECK_EQ(pmig_restore_wait(restored.restore, 20000, &err), -EBADMSG);
	CHECK(strstr(err.message, "damaged"));
	restored_close(&restored);
	recorded_close(&recorded);
}

int main(void)
{
	return unit_run((struct unit_test[]){
		UNIT(test_index),
		UNIT(test_damaged_index),
		UNIT(test_damaged_head_behind_an_index),
		UNIT_END,
	});
}
