/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/track.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "vmm/error.h"
#include "vmm/vm.h"

/* struct kvm_dirty_gfn */
#define RING_ENTRY_BYTES 16

/* Full rings without a tracker that are not yet taken for a mistake. */
#define MAX_UNSERVED 1000

int pvmm_track_init(struct pvmm_track *track, const struct pvmm_plan *plan,
		    struct pmig_error *err)
{
	uint64_t n_pages = plan->config.memory_bytes / PVMM_PAGE_BYTES;
	void *log;

	memset(track, 0, sizeof(*track));
	if (plan->config.tracker == PMIG_TRACKER_MARKED) {
		track->log_bytes = (n_pages / 8 + PVMM_PAGE_BYTES - 1) &
				   ~(PVMM_PAGE_BYTES - 1ull);
		log = mmap(NULL, track->log_bytes, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (log == MAP_FAILED)
			return pvmm_fail_errno(err, "cannot map the dirty log");
		track->log = log;
	}
	pthread_mutex_init(&track->lock, NULL);
	return 0;
}

void pvmm_track_destroy(struct pvmm_track *track)
{
	pthread_mutex_destroy(&track->lock);
	if (track->log)
		munmap(track->log, track->log_bytes);
	track->log = NULL;
}

/* Mark [offset, offset + size_bytes) of RAM, which may span its two parts. */
static void mark(struct pmig_dirty *dirty, uint64_t offset, uint64_t size_bytes)
{
	uint64_t below;

	if (offset < PVMM_HOLE_START && size_bytes > PVMM_HOLE_START - offset) {
		below = PVMM_HOLE_START - offset;
		pmig_dirty_mark(dirty, pvmm_gpa(offset), below);
		offset += below;
		size_bytes -= below;
	}
	pmig_dirty_mark(dirty, pvmm_gpa(offset), size_bytes);
}

/* Mark the pages of one word of the log, runs in one call. */
static void mark_bits(struct pmig_dirty *dirty, uint64_t first_page,
		      uint64_t bits)
{
	while (bits) {
		unsigned int first = (unsigned int)__builtin_ctzll(bits);
		uint64_t run = ~(bits >> first);
		unsigned int n = run ? (unsigned int)__builtin_ctzll(run) : 64;

		mark(dirty, (first_page + first) * PVMM_PAGE_BYTES,
		     (uint64_t)n * PVMM_PAGE_BYTES);
		if (first + n >= 64)
			return;
		bits &= ~0ull << (first + n);
	}
}

/* A page that a vCPU has announced. The guest chose it: check it. */
static void mark_announced(struct pvmm *vm, struct pmig_dirty *dirty,
			   void *mailbox, uint64_t word)
{
	uint64_t offset = *pvmm_word(mailbox, word);

	if (offset && offset < vm->ram.size_bytes)
		mark(dirty, offset & ~(PVMM_PAGE_BYTES - 1ull),
		     PVMM_PAGE_BYTES);
}

static void mark_unlogged(struct pvmm *vm, struct pmig_dirty *dirty)
{
	for (uint32_t i = 0; i < vm->plan.config.n_vcpus; i++) {
		void *mailbox = pvmm_mailbox(vm, i);

		mark(dirty, PVMM_VCPU_AREA + i * PVMM_VCPU_STRIDE,
		     PVMM_VCPU_WRITTEN);
		mark_announced(vm, dirty, mailbox, M_INFLIGHT);
		mark_announced(vm, dirty, mailbox, M_INFLIGHT_SHADOW);
	}
}

static void collect(void *opaque, struct pmig_dirty *dirty)
{
	struct pvmm *vm = opaque;
	uint64_t *log = vm->track.log;
	uint64_t n_words = vm->track.log_bytes / sizeof(*log);

	for (uint64_t i = 0; i < n_words; i++) {
		if (!__atomic_load_n(&log[i], __ATOMIC_RELAXED))
			continue;
		mark_bits(dirty, i * 64,
			  __atomic_exchange_n(&log[i], 0, __ATOMIC_ACQ_REL));
	}
	mark_unlogged(vm, dirty);
}

static void describe_slots(struct pvmm *vm)
{
	struct pmig_kvm_slot *slots = vm->track.slots;
	uint64_t offset = 0;

	for (uint32_t i = 0; i < vm->ram.n_parts; i++) {
		slots[i] = (struct pmig_kvm_slot){
			.slot = i,
			.gpa = pvmm_gpa(offset),
			.size_bytes = vm->ram.part_bytes[i],
			.hva = (uint64_t)(uintptr_t)(vm->ram.base + offset),
		};
		offset += vm->ram.part_bytes[i];
	}
}

static int check_tracker(const struct pvmm *vm, enum pmig_tracker tracker,
			 struct pmig_error *err)
{
	uint32_t made_for = vm->plan.config.tracker;

	if (tracker == PMIG_TRACKER_MARKED && !vm->track.log)
		return pvmm_fail(err, -EINVAL,
				 "this machine keeps no log of its writes: "
				 "make it for the marked tracker");
	if (tracker == PMIG_TRACKER_KVM_RING && made_for != tracker)
		return pvmm_fail(err, -EINVAL,
				 "this machine has no dirty rings: make it for "
				 "the kvm-ring tracker");
	if (tracker == PMIG_TRACKER_KVM_LOG &&
	    made_for == PMIG_TRACKER_KVM_RING)
		return pvmm_fail(err, -EINVAL,
				 "this machine has dirty rings, which exclude "
				 "KVM's dirty log");
	return 0;
}

int pvmm_dirty_config(struct pvmm *vm, enum pmig_tracker tracker,
		      struct pmig_dirty_config *config, struct pmig_error *err)
{
	const struct pvmm_config *made = &vm->plan.config;
	int rc = check_tracker(vm, tracker, err);

	if (rc)
		return rc;
	memset(config, 0, sizeof(*config));
	config->struct_size = sizeof(*config);
	config->tracker = tracker;
	config->vm_fd = -1;
	config->uffd = -1;
	if (pvmm_is_kvm(vm)) {
		describe_slots(vm);
		config->vm_fd = vm->kvm.vm_fd;
		config->n_slots = vm->ram.n_parts;
		config->slots = vm->track.slots;
		config->vcpu_fds = vm->kvm.vcpu_fds;
		config->n_vcpus = made->n_vcpus;
		if (made->tracker == PMIG_TRACKER_KVM_RING)
			config->ring_bytes =
				made->ring_entries * RING_ENTRY_BYTES;
	}
	if (vm->track.log) {
		config->collect = collect;
		config->opaque = vm;
	}
	return 0;
}

void pvmm_attach(struct pvmm *vm, struct pmig_dirty *dirty)
{
	pthread_mutex_lock(&vm->track.lock);
	vm->track.dirty = dirty;
	vm->track.n_unserved = 0;
	pthread_mutex_unlock(&vm->track.lock);
}

/*
 * A tracker empties the rings when it stops. A vCPU that left the guest just
 * before finds no tracker any more, and nothing to do either.
 */
static int nobody_attached(struct pvmm_track *track, struct pmig_error *err)
{
	if (++track->n_unserved <= MAX_UNSERVED)
		return 0;
	return pvmm_fail(err, -EIO,
			 "a dirty ring is full and no tracker is attached");
}

int pvmm_track_ring_full(struct pvmm *vm, struct pmig_error *err)
{
	struct pvmm_track *track = &vm->track;
	int rc;

	pthread_mutex_lock(&track->lock);
	track->n_ring_full++;
	rc = track->dirty ? pmig_dirty_ring_full(track->dirty, err)
			  : nobody_attached(track, err);
	pthread_mutex_unlock(&track->lock);
	return rc;
}

void pvmm_track_wrote(struct pvmm *vm, uint64_t offset, uint64_t size_bytes)
{
	pthread_mutex_lock(&vm->track.lock);
	if (vm->track.dirty)
		mark(vm->track.dirty, offset, size_bytes);
	pthread_mutex_unlock(&vm->track.lock);
}
