/* SPDX-License-Identifier: Apache-2.0 */
/*
 * devices.h - the two devices whose state must migrate
 *
 * The serial port keeps the last PVMM_SERIAL_BYTES bytes that were written.
 *
 * The sequencer gives each vCPU a stream of numbers, x -> x * 1664525 +
 * 1013904223.  A vCPU reads the next number of its stream and writes it back.
 * The guest knows what must come next, so a read that is repeated or lost
 * shows there; the device knows which number must come back, so a write that
 * is repeated or lost shows here.
 */
#ifndef PVMM_DEVICES_H
#define PVMM_DEVICES_H

#include <pthread.h>

#include "vmm/vmm.h"

#define PVMM_SERIAL_BYTES 4096

/**
 * struct pvmm_serial - a 16550 without interrupts
 * @n_bytes:	ever written
 * @registers:	IER, LCR, MCR and so on as last written
 * @ring:	byte n is at n modulo the size
 */
struct pvmm_serial {
	uint64_t n_bytes;
	uint8_t registers[8];
	uint8_t ring[PVMM_SERIAL_BYTES];
};

/**
 * struct pvmm_stream - the sequencer's side of one vCPU
 * @last:	number last read
 * @owed:	1: last has been read and not yet come back
 * @n_reads:	reads ever
 * @n_errors:	writes that were missing, repeated or wrong
 */
struct pvmm_stream {
	uint32_t last;
	uint32_t owed;
	uint64_t n_reads;
	uint64_t n_errors;
};

/**
 * struct pvmm_devices - shared by all vCPU threads
 * @lock:	protects everything here
 * @changed:	n_reads grew, or waiters must look at the machine
 * @n_reads:	of all streams, since this process made the device
 */
struct pvmm_devices {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct pvmm_serial serial;
	uint32_t n_streams;
	struct pvmm_stream streams[PVMM_MAX_VCPUS];
	uint64_t n_reads;
};

void pvmm_devices_init(struct pvmm_devices *devices, uint32_t n_vcpus);
void pvmm_devices_destroy(struct pvmm_devices *devices);

/* A port access of a vCPU. False when there is no such port. */
bool pvmm_port_read(struct pvmm_devices *devices, uint32_t vcpu, uint16_t port,
		    void *data, size_t size_bytes);
bool pvmm_port_write(struct pvmm_devices *devices, uint32_t vcpu, uint16_t port,
		     const void *data, size_t size_bytes);

/* Append the items of both devices to state; load them from it. */
int pvmm_devices_save(struct pvmm_devices *devices, struct pmig_state *state,
		      struct pmig_error *err);
int pvmm_devices_load(struct pvmm_devices *devices,
		      const struct pmig_state *state, struct pmig_error *err);

/* Sum over all streams; any of the two may be NULL. */
void pvmm_devices_totals(struct pvmm_devices *devices, uint64_t *n_reads,
			 uint64_t *n_errors);

#endif
