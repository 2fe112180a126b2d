/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PMIG_MEMORY_VALIDATE_H
#define PMIG_MEMORY_VALIDATE_H

#include "pymigrate.h"

/* Check everything that pmig_memory_new() documents; -EINVAL names it. */
int pmig_regions_validate(const struct pmig_region *regions, uint32_t n_regions,
			  struct pmig_error *err);

#endif
