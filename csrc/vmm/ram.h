/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PVMM_RAM_H
#define PVMM_RAM_H

#include "vmm/plan.h"

/**
 * struct pvmm_ram - guest RAM, mapped in one piece
 * @base:	its first byte; NULL when there is none
 * @size_bytes:	of the mapping
 * @fd:		memfd behind it, or -1
 * @n_parts:	1, or 2 when it continues above the hole at 3 GiB
 * @part_bytes:	size of each part, in order
 * @memory:	the same for the library
 */
struct pvmm_ram {
	uint8_t *base;
	uint64_t size_bytes;
	int fd;
	uint32_t n_parts;
	uint64_t part_bytes[2];
	struct pmig_memory *memory;
};

/* Allocate RAM as config says. Nothing is touched yet. */
int pvmm_ram_new(struct pvmm_ram *ram, const struct pvmm_config *config,
		 struct pmig_error *err);
void pvmm_ram_free(struct pvmm_ram *ram);

#endif
