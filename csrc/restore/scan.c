/* SPDX-License-Identifier: Apache-2.0 */
#include "restore/scan.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "page/hash.h"

enum {
	/* some fifty frames of zeros */
	WINDOW_BYTES = 4096,
	/* a head of pages: where a body follows, the next frame is far away */
	HEAD_BYTES = WIRE_HEADER_BYTES + WIRE_PAGES_HEAD_BYTES,
};

int scan_init(struct frame_scan *scan, int fd, uint64_t size_bytes,
	      struct pmig_error *err)
{
	*scan = (struct frame_scan){.fd = fd, .size_bytes = size_bytes};
	scan->frame = calloc(1, WIRE_HEADER_BYTES + WIRE_MAX_HEAD_BYTES);
	scan->window = malloc(WINDOW_BYTES);
	if (!scan->frame || !scan->window)
		return pmig_fail(err, -ENOMEM, "no memory to read frames");
	return 0;
}

void scan_fini(struct frame_scan *scan)
{
	free(scan->window);
	free(scan->frame);
}

static int cut_off(const struct frame_scan *scan, struct pmig_error *err)
{
	return pmig_fail(err, -EBADMSG,
			 "the file ends at %" PRIu64
			 ", before the end of the stream: it was cut off, or "
			 "never completed",
			 scan->size_bytes);
}

/* Up to so many bytes; how many there were, or -errno. */
static ssize_t read_some(const struct frame_scan *scan, uint64_t at_bytes,
			 void *to, size_t bytes, struct pmig_error *err)
{
	size_t done = 0;

	while (done < bytes) {
		ssize_t got = pread(scan->fd, (uint8_t *)to + done,
				    bytes - done, (off_t)(at_bytes + done));

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return pmig_fail_errno(
				err, "cannot read the file at %" PRIu64,
				at_bytes);
		if (got == 0)
			break;
		done += (size_t)got;
	}
	return (ssize_t)done;
}

static int read_all(const struct frame_scan *scan, uint64_t at_bytes, void *to,
		    size_t bytes, struct pmig_error *err)
{
	ssize_t got = read_some(scan, at_bytes, to, bytes, err);

	if (got < 0)
		return (int)got;
	return (size_t)got == bytes ? 0 : cut_off(scan, err);
}

static bool in_window(const struct frame_scan *scan, uint64_t at_bytes,
		      size_t bytes)
{
	return at_bytes >= scan->window_at_bytes &&
	       at_bytes - scan->window_at_bytes + bytes <= scan->window_bytes;
}

/* How much to read at the beginning of a frame: by what the last one was. */
static size_t stride(const struct frame_scan *scan)
{
	return scan->frame->header.body_bytes < WINDOW_BYTES ? WINDOW_BYTES
							     : HEAD_BYTES;
}

/* Bytes that are known to lie in the file. */
static int get(struct frame_scan *scan, uint64_t at_bytes, void *to,
	       size_t bytes, struct pmig_error *err)
{
	ssize_t got;

	if (bytes > WINDOW_BYTES)
		return read_all(scan, at_bytes, to, bytes, err);
	if (!in_window(scan, at_bytes, bytes)) {
		size_t size = stride(scan);

		got = read_some(scan, at_bytes, scan->window,
				size > bytes ? size : bytes, err);
		if (got < 0)
			return (int)got;
		scan->window_at_bytes = at_bytes;
		scan->window_bytes = (size_t)got;
		if (!in_window(scan, at_bytes, bytes))
			return cut_off(scan, err);
	}
	memcpy(to, scan->window + (at_bytes - scan->window_at_bytes), bytes);
	return 0;
}

static int get_header(struct frame_scan *scan, struct pmig_error *err)
{
	uint64_t left_bytes = scan->size_bytes - scan->at_bytes;
	int rc;

	if (left_bytes < WIRE_HEADER_BYTES)
		return cut_off(scan, err);
	rc = get(scan, scan->at_bytes, &scan->frame->header, WIRE_HEADER_BYTES,
		 err);
	if (!rc)
		rc = frame_check_header(&scan->frame->header, err);
	if (!rc && left_bytes < frame_bytes(scan->frame) +
					scan->frame->header.body_bytes)
		rc = cut_off(scan, err);
	return rc;
}

int scan_next(struct frame_scan *scan, struct pmig_error *err)
{
	struct frame *frame = scan->frame;
	int rc = get_header(scan, err);

	if (!rc)
		rc = get(scan, scan->at_bytes + WIRE_HEADER_BYTES, frame->head,
			 frame->header.head_bytes, err);
	if (!rc)
		rc = frame_check_head(frame, scan->sequence, err);
	if (rc)
		return rc;
	scan->frame_at_bytes = scan->at_bytes;
	scan->at_bytes += frame_bytes(frame) + frame->header.body_bytes;
	scan->sequence++;
	return 0;
}

int scan_body(struct frame_scan *scan, void *body, struct pmig_error *err)
{
	return read_all(scan, scan_body_at_bytes(scan), body,
			scan->frame->header.body_bytes, err);
}

int scan_blob(struct frame_scan *scan, uint8_t **data, struct pmig_error *err)
{
	uint32_t bytes = scan->frame->header.body_bytes;
	const struct wire_blob *blob;
	int rc = frame_parse_blob(scan->frame, &blob, err);

	if (rc)
		return rc;
	*data = malloc(bytes ? bytes : 1);
	if (!*data)
		return pmig_fail(err, -ENOMEM,
				 "no memory for a blob of %" PRIu32 " bytes",
				 bytes);
	rc = scan_body(scan, *data, err);
	if (!rc && pmig_hash(*data, bytes) != blob->body_hash)
		rc = pmig_fail(err, -EBADMSG,
			       "the blob at %" PRIu64
			       " does not match its hash: the file is damaged",
			       scan_body_at_bytes(scan));
	if (rc)
		free(*data);
	return rc;
}
