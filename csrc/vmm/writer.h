/* SPDX-License-Identifier: Apache-2.0 */
/*
 * writer.h - the threads backend: guest programs without a guest
 *
 * A writer does to RAM what the vCPU of the same number would do, with the
 * same mailbox and heartbeat pages, so that oracle and trackers see no
 * difference. Its variables are not in guest memory but in struct
 * pvmm_registers, which migrate as state, as a vCPU's registers do. Its TSC
 * is CLOCK_MONOTONIC in ns plus an offset that migrates.
 */
#ifndef PVMM_WRITER_H
#define PVMM_WRITER_H

#include "vmm/runner.h"

/* What a writer knows between two steps. Stored as it is, little-endian. */
struct pvmm_registers {
	uint64_t position;
	uint64_t random;
	uint64_t reads;
	uint64_t credit;
	uint64_t deadline;
	uint64_t countdown;
	uint64_t sequence;
	uint64_t left;	  /* steps left of the current batch */
	uint64_t waiting; /* 1: batch done, waits for deadline */
};

/**
 * struct pvmm_writers - all of them
 * @registers:	of each writer, owned by its thread while it runs
 * @kick_fds:	eventfd that ends the wait for a tick
 * @timer_fds:	timerfd of the ticks
 * @clock_offset_ns: the machine's TSC minus CLOCK_MONOTONIC
 */
struct pvmm_writers {
	struct pvmm_registers registers[PVMM_MAX_VCPUS];
	int kick_fds[PVMM_MAX_VCPUS];
	int timer_fds[PVMM_MAX_VCPUS];
	uint64_t clock_offset_ns;
};

void pvmm_writers_init(struct pvmm_writers *writers);
int pvmm_writers_new(struct pvmm *vm, struct pmig_error *err);
void pvmm_writers_free(struct pvmm_writers *writers);

/* Set the registers to start the program. */
void pvmm_writers_boot(struct pvmm *vm);

/* Append the items of all writers to state; load them from it. */
int pvmm_writers_save(const struct pvmm *vm, struct pmig_state *state,
		      struct pmig_error *err);
int pvmm_writers_load(struct pvmm *vm, const struct pmig_state *state,
		      struct pmig_error *err);

/* The machine's TSC now, in ns. */
uint64_t pvmm_writers_tsc(const struct pvmm_writers *writers);

/* Do n steps of the program of writer index; see program.c. */
void pvmm_program_run(struct pvmm *vm, uint32_t index, uint64_t n);

/* Writer threads. */
extern const struct pvmm_backend_ops pvmm_writer_ops;

#endif
