/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "dirty/dirty.h"

/*
 * Best first. KVM sees only what a vCPU writes, but at no cost to the rest
 * of the program; the ring's cost follows what is dirty rather than the size
 * of memory. userfaultfd sees every write of this process.
 */
static const struct dirty_ops *const candidates[] = {
	&dirty_kvm_ring_ops,   &dirty_kvm_manual_ops, &dirty_kvm_get_ops,
	&dirty_uffd_async_ops, &dirty_uffd_sync_ops,  &dirty_marked_ops,
};

enum {
	N_CANDIDATES = sizeof(candidates) / sizeof(candidates[0]),
};

/**
 * struct verdicts - why candidates were passed over
 * @text:	sentences joined by "; "
 * @last:	the last of them
 */
struct verdicts {
	char text[1024];
	struct pmig_error last;
};

/* Two variants may lack the same thing, which is said once. */
static void append(char *text, size_t size, const char *separator,
		   const char *more)
{
	size_t used = strlen(text);

	if (strstr(text, more))
		return;
	snprintf(text + used, size - used, "%s%s", used ? separator : "", more);
}

void dirty_explain(struct pmig_dirty *dirty, const char *variant,
		   const char *format, ...)
{
	va_list args;

	dirty->variant = variant;
	va_start(args, format);
	vsnprintf(dirty->reason, sizeof(dirty->reason), format, args);
	va_end(args);
}

static bool is_wanted(const struct pmig_dirty *dirty,
		      const struct dirty_ops *ops)
{
	return dirty->config.tracker == PMIG_TRACKER_AUTO ||
	       dirty->config.tracker == ops->tracker;
}

/* The first that works, or NULL; *rc is set when one fails otherwise. */
static const struct dirty_ops *first_working(struct pmig_dirty *dirty,
					     struct verdicts *verdicts, int *rc)
{
	for (int i = 0; i < N_CANDIDATES; i++) {
		struct pmig_error *why = &verdicts->last;

		if (!is_wanted(dirty, candidates[i]))
			continue;
		*rc = candidates[i]->probe(dirty, why);
		if (!*rc)
			return candidates[i];
		if (*rc != -ENOTSUP)
			return NULL;
		append(verdicts->text, sizeof(verdicts->text), "; ",
		       why->message);
	}
	return NULL;
}

int dirty_choose(struct pmig_dirty *dirty, struct pmig_error *err)
{
	struct verdicts verdicts = {.text = ""};
	int rc = -ENOTSUP; /* when there is no such tracker at all */

	dirty->ops = first_working(dirty, &verdicts, &rc);
	if (!dirty->ops)
		return pmig_fail(err, rc, "%.500s",
				 rc == -ENOTSUP ? verdicts.text
						: verdicts.last.message);
	if (verdicts.text[0])
		append(dirty->reason, sizeof(dirty->reason),
		       "; not chosen: ", verdicts.text);
	return 0;
}
