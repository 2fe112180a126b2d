/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmm.h - the reference VMM
 *
 * A small virtual machine monitor with guest programs that prove a migration
 * right: whatever page, register or device write gets lost, an oracle over
 * guest memory finds out.  It is a customer of pymigrate.h like any other and
 * uses nothing else of the library.
 *
 * The machine has 1 to PVMM_MAX_VCPUS vCPUs, RAM, an in-kernel irqchip and
 * PIT, a serial port at 0x3f8 and a sequencer device at 0x510.  Without KVM
 * the same programs run as writer threads on the same memory
 * (PVMM_BACKEND_THREADS).  docs/reference-vmm.md describes all of it.
 *
 * Errors, sizes and ownership follow the rules of pymigrate.h.  Calls on one
 * VM must come from one thread at a time, except those marked "any thread".
 *
 * Threads are named pvmm-vcpuN or pvmm-writerN.  No signal handler is ever
 * installed: vCPU threads block SIGRTMIN and only KVM_RUN unblocks it
 * (KVM_SET_SIGNAL_MASK), so that a kick ends KVM_RUN and runs no handler.
 */
#ifndef PVMM_H
#define PVMM_H

#include "pymigrate.h"

/* cffi: begin */

struct pvmm;

enum {
	PVMM_MAX_VCPUS = 64,
	PVMM_MIN_MEMORY_BYTES = 8388608,
};

enum pvmm_backend {
	PVMM_BACKEND_KVM = 1,
	PVMM_BACKEND_THREADS = 2,
};

enum pvmm_backing {
	PVMM_BACKING_MEMFD = 1,
	PVMM_BACKING_HUGETLBFS = 2, /* 2 MiB pages */
	PVMM_BACKING_ANONYMOUS = 3,
	PVMM_BACKING_THP = 4, /* anonymous, transparent huge pages */
};

/* What each vCPU does with its slice of the working set. */
enum pvmm_program {
	PVMM_PROGRAM_SWEEP = 1,	  /* bump a counter in every page, in order */
	PVMM_PROGRAM_RANDOM = 2,  /* bump counters of random pages */
	PVMM_PROGRAM_READ = 3,	  /* check every page, bump 1 of 64 */
	PVMM_PROGRAM_PARTIAL = 4, /* write write_bytes into every page */
	PVMM_PROGRAM_IDLE = 5,	  /* heartbeat only */
};

/* What RAM holds at the start. */
enum pvmm_content {
	PVMM_CONTENT_ZERO = 1,	     /* allocated, all zero */
	PVMM_CONTENT_RANDOM = 2,     /* incompressible */
	PVMM_CONTENT_TEXT = 3,	     /* words, as common as in prose */
	PVMM_CONTENT_REPEATED = 4,   /* one 64-bit pattern for each page */
	PVMM_CONTENT_MIXED = 5,	     /* all of these, in runs of 16 pages */
	PVMM_CONTENT_UNTOUCHED = 6,  /* never allocated */
	PVMM_CONTENT_EXECUTABLE = 7, /* programs and libraries of the host */
	PVMM_CONTENT_POINTERS = 8,   /* objects on a heap */
};

enum pvmm_flags {
	/* fill RAM and start the programs; unset: an empty machine to load */
	PVMM_POPULATE = 1,
	/* ignore rate_pages_per_s: as fast as it goes */
	PVMM_UNLIMITED = 2,
};

struct pvmm_config {
	uint32_t struct_size;
	uint32_t flags;		    /* enum pvmm_flags */
	uint64_t memory_bytes;	    /* multiple of 2 MiB, up to 64 GiB */
	uint64_t working_set_bytes; /* multiple of 4096, may be 0 for idle */
	uint64_t rate_pages_per_s;  /* of all vCPUs together; 0: no writes */
	uint64_t seed;		    /* of content and of random programs */
	uint32_t n_vcpus;
	uint32_t backend;     /* enum pvmm_backend */
	uint32_t backing;     /* enum pvmm_backing */
	uint32_t program;     /* enum pvmm_program */
	uint32_t content;     /* enum pvmm_content */
	uint32_t write_bytes; /* partial: multiple of 8, 8 to 4032; 0: 64 */
	/* enum pmig_tracker: KVM_RING makes the dirty rings, MARKED the log */
	uint32_t tracker;
	uint32_t ring_entries; /* for each vCPU, a power of two; 0: 65536 */
	uint32_t tick_hz;      /* heartbeats per second when paced; 0: 1000 */
	uint32_t reserved;
};

/*
 * Make a machine; it is paused. With PVMM_POPULATE it is ready to run its
 * program from the start. Errors: -EINVAL with the member that is wrong,
 * -ENOMEM (hugetlbfs: names nr_hugepages), -ENODEV no usable /dev/kvm,
 * -ENOENT content of which the host has nothing, -ENOTSUP a missing KVM
 * capability, named, or transparent huge pages that
 * are switched off.
 */
int pvmm_new(const struct pvmm_config *config, struct pvmm **vm,
	     struct pmig_error *err);

/*
 * Stops the threads and releases everything. Free what was made over it
 * (trackers, senders, receivers) before.
 */
void pvmm_free(struct pvmm *vm);

/* Its memory: regions "ram" and, above 3 GiB, "ram-high". Owned by vm. */
struct pmig_memory *pvmm_memory(const struct pvmm *vm);

/* RAM in this process, all regions in one piece, in order. Any thread. */
void *pvmm_ram(const struct pvmm *vm);

/* Its KVM handles; NULL for the threads backend. Owned by vm. */
const struct pmig_kvm *pvmm_kvm(const struct pvmm *vm);

/* ---- running ---------------------------------------------------------- */

/*
 * Stop all vCPUs. Returns when none runs and every pending port access is
 * complete. Idempotent.
 */
int pvmm_pause(struct pvmm *vm, struct pmig_error *err);

/* Let all vCPUs run. Idempotent. -EIO when one has stopped for good. */
int pvmm_resume(struct pvmm *vm, struct pmig_error *err);

struct pvmm_status {
	uint32_t struct_size;
	uint32_t running;	/* 1 between resume and pause */
	uint32_t stopped_vcpus; /* that hit something unexpected */
	uint32_t reserved;
	uint64_t ring_full_exits;
	uint64_t kicks;	   /* KVM_RUN calls ended by a pause */
	char message[256]; /* why the first one stopped, or empty */
};

/* Any thread. */
void pvmm_status(struct pvmm *vm, struct pvmm_status *status);

/*
 * Wait until the guest has read the sequencer n more times, summed over its
 * vCPUs. -ETIMEDOUT; -EIO when a vCPU has stopped for good. Any thread.
 */
int pvmm_wait_device_reads(struct pvmm *vm, uint64_t n, int timeout_ms,
			   struct pmig_error *err);

/*
 * Keep vCPUs that write from running for percent of the time, 0 to 99, a few
 * ms at a time; 0 ends it. A pause is as prompt as ever. It is not a part of
 * the state: a machine that is loaded runs freely. -EINVAL; -EAGAIN no timer
 * is to be had. Any thread.
 */
int pvmm_throttle(struct pvmm *vm, uint32_t percent, struct pmig_error *err);

struct pvmm_throttled {
	uint32_t struct_size;
	uint32_t percent;	  /* as asked for */
	uint32_t held_back_vcpus; /* that write, and so are held back now */
	uint32_t reserved;
	uint64_t waits;	    /* that vCPUs were made to */
	uint64_t waited_ns; /* by all vCPUs together */
};

/* Any thread. */
void pvmm_throttled(struct pvmm *vm, struct pvmm_throttled *state);

/* ---- dirty tracking --------------------------------------------------- */

/*
 * Fill in how this machine's writes can be found, for pmig_dirty_new(). The
 * arrays in it belong to vm. -EINVAL when the machine was made for another
 * tracker (a ring where config.tracker was not KVM_RING, say).
 */
int pvmm_dirty_config(struct pvmm *vm, enum pmig_tracker tracker,
		      struct pmig_dirty_config *config, struct pmig_error *err);

/*
 * Say which tracker is in use, so that ring-full exits and the VMM's own
 * writes reach it; NULL before that tracker is freed. Returns when no vCPU
 * uses the old one any more. Any thread.
 */
void pvmm_attach(struct pvmm *vm, struct pmig_dirty *dirty);

/* ---- state ------------------------------------------------------------ */

/* Capture vCPUs and devices of a paused machine. -EBUSY while it runs. */
int pvmm_save(struct pvmm *vm, struct pmig_state **state,
	      struct pmig_error *err);

/*
 * Load a machine that has never run, or is paused; may be repeated. skipped
 * is as in pmig_kvm_load(). -EBUSY while it runs; -ENOTSUP an unknown item,
 * named; -EINVAL state of a machine that differs.
 */
int pvmm_load(struct pvmm *vm, const struct pmig_state *state, char **skipped,
	      struct pmig_error *err);

/* After the last pvmm_load(), just before the first pvmm_resume(). */
int pvmm_before_run(struct pvmm *vm, struct pmig_error *err);

/* ---- proof ------------------------------------------------------------ */

struct pvmm_heartbeat {
	uint64_t count;
	uint64_t last_tsc;
	uint64_t max_gap_tsc; /* longest time between two beats */
	uint64_t max_gap_at_tsc;
	uint64_t backwards; /* times the TSC went backwards */
	uint64_t device_reads;
	uint64_t device_errors;	 /* sequencer repeated or skipped */
	uint64_t content_errors; /* program read: a page was not as written */
	uint64_t steps;		 /* pages visited, as of the last beat */
};

/* What vCPU number vcpu last wrote. -ENOENT. Any thread, also running. */
int pvmm_heartbeat(const struct pvmm *vm, uint32_t vcpu,
		   struct pvmm_heartbeat *heartbeat);

/* Frequency of the guest's TSC. Any thread. */
uint64_t pvmm_tsc_khz(const struct pvmm *vm);

/*
 * How long the guest stood still by its own clock: the time between the last
 * beat before pvmm_before_run() and the first one after it, of the vCPU that
 * missed most. 0 until all vCPUs have beaten. Any thread.
 */
uint64_t pvmm_guest_gap_ns(const struct pvmm *vm);

/*
 * The longest time between any two beats since the start or
 * pvmm_before_run(); on a busy host this is not the migration's. Any thread.
 */
uint64_t pvmm_longest_gap_ns(const struct pvmm *vm);

struct pvmm_oracle {
	uint32_t struct_size;
	uint32_t ok;
	uint64_t counters_checked; /* pages of the working set */
	uint64_t content_checked;  /* pages outside of it */
	uint64_t steps;		   /* writes that the counters add up to */
	uint64_t sweeps;	   /* complete sweeps of the slowest vCPU */
	uint64_t device_reads;
	char message[256]; /* the first thing that is wrong, or empty */
};

enum pvmm_oracle_flags {
	/* also compare every page outside the working set */
	PVMM_ORACLE_CONTENT = 1,
};

/*
 * Check a paused machine: is every page of the working set what the program
 * must have left there, is time monotonic, has no device access been lost?
 * Returns 0 and oracle->ok; -EBUSY while it runs.
 */
int pvmm_oracle(struct pvmm *vm, uint32_t flags, struct pvmm_oracle *oracle,
		struct pmig_error *err);

/*
 * Copy out the last of what the guest wrote to its serial port, up to
 * size_bytes. Returns how many bytes. Any thread.
 */
size_t pvmm_serial(struct pvmm *vm, char *buffer, size_t size_bytes);

/* Bytes ever written to the serial port. Any thread. */
uint64_t pvmm_serial_bytes(struct pvmm *vm);

/* cffi: end */

#endif /* PVMM_H */
