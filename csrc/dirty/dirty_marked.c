/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tracker that finds nothing by itself: pages come from
 * pmig_dirty_mark() alone, which the front end handles.
 */
#include <errno.h>

#include "base/error.h"
#include "dirty/dirty.h"

static int marked_probe(struct pmig_dirty *dirty, struct pmig_error *err)
{
	bool asked_for = dirty->config.tracker == PMIG_TRACKER_MARKED;

	if (!asked_for && !dirty->config.collect)
		return pmig_fail(err, -ENOTSUP,
				 "marked ranges alone are not chosen unless "
				 "config.collect brings them");
	dirty_explain(dirty, "marked",
		      asked_for ? "marked ranges: asked for"
				: "marked ranges: config.collect brings them");
	return 0;
}

const struct dirty_ops dirty_marked_ops = {
	.tracker = PMIG_TRACKER_MARKED,
	.probe = marked_probe,
};
