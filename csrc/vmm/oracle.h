/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PVMM_ORACLE_H
#define PVMM_ORACLE_H

#include "vmm/vmm.h"

/**
 * struct pvmm_verdict - of one slice
 * @n_steps:	what its counters add up to
 * @n_sweeps:	smallest counter
 * @n_pending:	pages whose shadow counter is one ahead
 */
struct pvmm_verdict {
	uint64_t n_steps;
	uint64_t n_sweeps;
	uint64_t n_pending;
};

/*
 * Check the slice of a vCPU, page by page. Returns false with the first thing
 * that is wrong in message.
 */
bool pvmm_oracle_slice(const struct pvmm *vm, uint32_t vcpu,
		       struct pvmm_verdict *verdict, char *message,
		       size_t message_bytes);

#endif
