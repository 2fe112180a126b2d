/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpus_quota.c - cpu.max of control groups, version 2
 *
 * A group may use no more than any group above it, so the files are read
 * from the group of this process up to the root. In a container the root is
 * the container's own group and has a file as well.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/cpus.h"

enum {
	PATH_BYTES = 4096
};

/* Line "0::PATH" is the unified hierarchy's; false when there is none. */
static bool own_group(const char *membership, char *group, size_t size)
{
	const char *line = membership;

	while (line && strncmp(line, "0::", 3) != 0) {
		line = strchr(line, '\n');
		if (line)
			line++;
	}
	if (!line)
		return false;
	snprintf(group, size, "%.*s", (int)strcspn(line + 3, "\n"), line + 3);
	return true;
}

/* "QUOTA PERIOD" in microseconds, or "max PERIOD"; 0: no limit. */
static unsigned int quota_of(const char *mount, const char *group)
{
	char path[2 * PATH_BYTES];
	uint64_t quota_us, period_us;
	unsigned int cpus = 0;
	FILE *file;

	snprintf(path, sizeof(path), "%s%s/cpu.max", mount, group);
	file = fopen(path, "re");
	if (!file)
		return 0;
	if (fscanf(file, "%" SCNu64 " %" SCNu64, &quota_us, &period_us) == 2 &&
	    quota_us && period_us)
		cpus = (unsigned int)((quota_us - 1) / period_us + 1);
	fclose(file);
	return cpus;
}

unsigned int pmig_cpus_quota(const char *membership, const char *mount)
{
	unsigned int tightest = 0;
	char group[PATH_BYTES];
	char *slash;

	if (!own_group(membership, group, sizeof(group)))
		return 0;
	do {
		unsigned int quota;

		slash = strrchr(group, '/');
		if (slash && slash[1] == '\0')
			*slash = '\0';
		quota = quota_of(mount, group);
		if (quota && (!tightest || quota < tightest))
			tightest = quota;
		slash = strrchr(group, '/');
		if (slash)
			*slash = '\0';
	} while (slash);
	return tightest;
}
