/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scan.h - one frame of a file after the other, without the bodies
 *
 * A head of pages is read with its header in one small read, and a window of
 * the file is kept, so that frames without a body cost no read of their own.
 */
#ifndef PMIG_RESTORE_SCAN_H
#define PMIG_RESTORE_SCAN_H

#include "stream/frame.h"

/**
 * struct frame_scan - see above
 * @fd:		the file; borrowed
 * @size_bytes:	of the file
 * @at_bytes:	where the next frame is
 * @sequence:	of the next frame
 * @frame:	header and head of the frame read last, checked; owned
 * @frame_at_bytes: where that is
 * @window:	a piece of the file; owned
 * @window_at_bytes: where that is
 * @window_bytes: how much of it there is
 */
struct frame_scan {
	int fd;
	uint64_t size_bytes;
	uint64_t at_bytes;
	uint64_t sequence;
	struct frame *frame;
	uint64_t frame_at_bytes;
	uint8_t *window;
	uint64_t window_at_bytes;
	size_t window_bytes;
};

/* scan_fini() is right also after a failure, and of zeros. */
int scan_init(struct frame_scan *scan, int fd, uint64_t size_bytes,
	      struct pmig_error *err);
void scan_fini(struct frame_scan *scan);

/* The next frame, which has to be there as a whole. */
int scan_next(struct frame_scan *scan, struct pmig_error *err);

/* Where the body of that frame is. */
static inline uint64_t scan_body_at_bytes(const struct frame_scan *scan)
{
	return scan->frame_at_bytes + frame_bytes(scan->frame);
}

/* The body of that frame, to where there is room for it. */
int scan_body(struct frame_scan *scan, void *body, struct pmig_error *err);

/* The body of a frame that is a blob, checked; malloc'd, the caller's. */
int scan_blob(struct frame_scan *scan, uint8_t **data, struct pmig_error *err);

#endif
