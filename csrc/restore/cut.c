/* SPDX-License-Identifier: Apache-2.0 */
#include "restore/cut.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/error.h"

static void add_entries(struct cut *cut, const struct stream_piece *piece)
{
	uint32_t n = (uint32_t)__builtin_popcountll(piece->pages);

	memcpy(&cut->entries[cut->n_entries], piece->entry,
	       n * sizeof(*cut->entries));
	cut->n_entries += n;
	cut->pages.mask |= piece->pages;
}

/* Behind the last one in the file, and in memory, is behind the last one. */
static void add_read(struct cut *cut, uint64_t at_bytes, uint8_t *to,
		     size_t bytes)
{
	struct cut_read *read = &cut->reads[cut->n_reads];
	struct iovec *iov = &cut->iov[cut->n_iov];
	uint64_t end_bytes = 0;

	if (cut->n_reads) {
		read--;
		iov--;
		end_bytes = read->at_bytes;
		for (int i = 0; i < read->n; i++)
			end_bytes += cut->iov[read->first + i].iov_len;
	}
	if (end_bytes != at_bytes) {
		cut->reads[cut->n_reads++] =
			(struct cut_read){at_bytes, cut->n_iov, 1};
	} else if ((uint8_t *)iov->iov_base + iov->iov_len == to) {
		iov->iov_len += bytes;
		return;
	} else {
		read->n++;
	}
	cut->iov[cut->n_iov++] = (struct iovec){to, bytes};
}

static void plan(struct cut *cut, const struct stream_store *stream,
		 const struct store_bench *bench, const struct arrival *arrival,
		 uint64_t pages, uint8_t *at)
{
	struct stream_pieces pieces = stream_pieces(stream, bench, arrival);
	uint8_t *body = bench->decoder.body;
	struct stream_piece piece;

	cut->pages.mask = 0;
	cut->pages.zero_mask = 0;
	while (stream_next_piece(&pieces, &piece)) {
		uint32_t bytes = piece.entry->stored_bytes;
		uint8_t *to = body;

		if (!(piece.pages & pages))
			continue;
		if (piece.entry->encoding == PMIG_ENCODING_RAW)
			to = at + (size_t)__builtin_ctzll(piece.pages) *
					  PMIG_PAGE_BYTES;
		else
			body += bytes;
		add_entries(cut, &piece);
		add_read(cut, piece.at_bytes, to, bytes);
	}
	cut->pages.entry_count = cut->n_entries;
}

/*
 * Pages that only come along were described by newer frames, which have been
 * decoded: they must not be put over those.
 */
static uint8_t *place_aside(struct store_bench *bench)
{
	bench->group_at_bytes = 0;
	return bench->group;
}

static void move_in(uint8_t *to, const uint8_t *from, uint64_t pages)
{
	for (; pages; pages &= pages - 1) {
		size_t at = (size_t)__builtin_ctzll(pages) * PMIG_PAGE_BYTES;

		memcpy(to + at, from + at, PMIG_PAGE_BYTES);
	}
}

static int read_cut(const struct stream_store *stream,
		    struct store_bench *bench, struct cut *cut,
		    struct pmig_error *err)
{
	int rc = 0;

	for (int i = 0; i < cut->n_reads && !rc; i++)
		rc = store_read(&stream->base, bench,
				&cut->iov[cut->reads[i].first], cut->reads[i].n,
				cut->reads[i].at_bytes, err);
	return rc;
}

int cut_fetch(const struct stream_store *stream, struct store_bench *bench,
	      const struct arrival *arrival, uint64_t pages, uint8_t *at,
	      struct pmig_error *err)
{
	uint64_t whole = stream_whole_pieces(stream, bench, arrival, pages);
	uint64_t described = 0, wrong;
	struct arrival small = *arrival;
	struct cut cut = {.pages = *arrival->pages};
	int rc;

	small.pages = &cut.pages;
	small.entries = cut.entries;
	small.at = whole == pages ? at : place_aside(bench);
	small.described = &described;
	plan(&cut, stream, bench, arrival, pages, small.at);
	rc = read_cut(stream, bench, &cut, err);
	if (!rc)
		rc = arrival_decode(&bench->decoder, &small, err);
	if (rc)
		return rc;
	wrong = arrival_mismatches(&small) & pages;
	if (wrong)
		return pmig_fail(err, -EBADMSG,
				 "the page at 0x%" PRIx64
				 " does not match its hash: the file is "
				 "damaged",
				 arrival_gpa(&small, wrong));
	if (small.at != at)
		move_in(at, small.at, pages);
	return 0;
}
