/* SPDX-License-Identifier: Apache-2.0 */
/*
 * msrs.c - the item "msrs": index and value of each MSR
 *
 * KVM works through an array of MSRs and returns how many it did; a smaller
 * number than asked for names the one that it refused.  One that it refuses
 * to read is one that the guest cannot have written, so it is left out.  One
 * that it refuses to write is looked at more closely (msr_call.c).
 */
#include "kvm/msrs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "kvm/x86.h"

/* The item is a struct kvm_msrs: count, 0, then these. */
_Static_assert(sizeof(struct kvm_msrs) == 8, "head of the item");
_Static_assert(sizeof(struct kvm_msr_entry) == 16, "entry of the item");

static uint32_t smaller(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* Read up to a chunk; *done entries of it were read. */
static int read_chunk(struct pmig_kvm_job *job, uint32_t vcpu,
		      const uint32_t *indices, uint32_t count,
		      struct pmig_kvm_msr_chunk *chunk, struct pmig_error *err)
{
	memset(chunk, 0, sizeof(*chunk));
	chunk->head.nmsrs = count;
	for (uint32_t i = 0; i < count; i++)
		chunk->entries[i].index = indices[i];
	return VCPU_CALL(job, vcpu, KVM_GET_MSRS, chunk, err);
}

static int read_all(struct pmig_kvm_job *job, uint32_t vcpu,
		    const struct pmig_kvm_msr_list *list, struct kvm_msrs *out,
		    struct pmig_error *err)
{
	struct pmig_kvm_msr_chunk chunk;
	uint32_t next = 0;

	while (next < list->count) {
		uint32_t n = smaller(list->count - next, PMIG_KVM_MSR_CHUNK);
		int done = read_chunk(job, vcpu, list->indices + next, n,
				      &chunk, err);

		if (done < 0)
			return done;
		memcpy(out->entries + out->nmsrs, chunk.entries,
		       done * sizeof(*out->entries));
		out->nmsrs += done;
		next += (uint32_t)done < n ? done + 1 : done;
	}
	return 0;
}

static int save_listed(struct pmig_kvm_job *job, uint32_t vcpu,
		       const struct pmig_kvm_msr_list *list,
		       struct pmig_error *err)
{
	size_t size_bytes = sizeof(struct kvm_msrs) +
			    list->count * sizeof(struct kvm_msr_entry);
	struct kvm_msrs *out = pmig_kvm_room(job, size_bytes, err);
	int rc;

	if (!out)
		return -ENOMEM;
	rc = read_all(job, vcpu, list, out, err);
	job->blob.size_bytes =
		sizeof(*out) + out->nmsrs * sizeof(*out->entries);
	return rc;
}

PMIG_KVM_SAVE(msrs)
{
	struct pmig_kvm_msr_list *list = malloc(sizeof(*list));
	int rc;

	if (!list)
		return pmig_fail_errno(err, "list of MSRs");
	rc = pmig_kvm_list_msrs(job->kvm->kvm_fd, job->kvm->vcpu_fds[vcpu],
				list, err);
	if (!rc)
		rc = save_listed(job, vcpu, list, err);
	free(list);
	return rc;
}

/* The entries of an item, whose own count must agree with its size. */
static int parse(uint32_t vcpu, const struct pmig_item *item,
		 const struct kvm_msr_entry **entries, uint32_t *count,
		 struct pmig_error *err)
{
	uint64_t n = (item->size_bytes - sizeof(struct kvm_msrs)) /
		     sizeof(struct kvm_msr_entry);
	struct kvm_msrs head;

	memcpy(&head, item->data, sizeof(head));
	if (head.nmsrs != n)
		return pmig_fail(err, -EBADMSG,
				 "kvm/vcpu%u/msrs: it says %u MSRs and holds "
				 "%llu",
				 vcpu, head.nmsrs, (unsigned long long)n);
	*entries = (const void *)(item->data + sizeof(head));
	*count = head.nmsrs;
	return 0;
}

/*
 * Writing the wall clock MSR makes KVM write the time of the guest's boot
 * into its memory, computed from the machine's clock: the clock goes first.
 */
static bool is_wall_clock(uint32_t index)
{
	return index == MSR_KVM_WALL_CLOCK || index == MSR_KVM_WALL_CLOCK_NEW;
}

/* Write a chunk, giving those that KVM refuses a closer look. */
static int write_chunk(struct pmig_kvm_job *job, uint32_t vcpu,
		       struct pmig_kvm_msr_chunk *chunk, struct pmig_error *err)
{
	uint32_t count = chunk->head.nmsrs;

	while (count) {
		int done = VCPU_CALL(job, vcpu, KVM_SET_MSRS, chunk, err);
		int rc;

		if (done < 0)
			return done;
		if ((uint32_t)done >= count)
			return 0;
		rc = pmig_kvm_write_msr(job, vcpu, chunk->entries[done].index,
					chunk->entries[done].data, err);
		if (rc)
			return rc;
		count -= done + 1;
		memmove(chunk->entries, chunk->entries + done + 1,
			count * sizeof(*chunk->entries));
		chunk->head.nmsrs = count;
	}
	return 0;
}

PMIG_KVM_LOAD(msrs)
{
	const struct kvm_msr_entry *entries = NULL;
	struct pmig_kvm_msr_chunk chunk = {0};
	uint32_t count = 0;
	int rc;

	rc = parse(vcpu, item, &entries, &count, err);
	for (uint32_t i = 0; i < count && !rc; i++) {
		if (pmig_kvm_msr_is_apart(entries[i].index) ||
		    is_wall_clock(entries[i].index))
			continue;
		chunk.entries[chunk.head.nmsrs++] = entries[i];
		if (chunk.head.nmsrs < PMIG_KVM_MSR_CHUNK)
			continue;
		rc = write_chunk(job, vcpu, &chunk, err);
		chunk.head.nmsrs = 0;
	}
	return rc ? rc : write_chunk(job, vcpu, &chunk, err);
}

PMIG_KVM_LOAD(wall_clock)
{
	const struct kvm_msr_entry *entries = NULL;
	uint32_t count = 0;
	int rc;

	rc = parse(vcpu, item, &entries, &count, err);
	for (uint32_t i = 0; i < count && !rc; i++)
		if (is_wall_clock(entries[i].index))
			rc = pmig_kvm_write_msr(job, vcpu, entries[i].index,
						entries[i].data, err);
	return rc;
}

/*
 * Whether CR4.VMXE and nested state may be loaded depends on this MSR. Where
 * it cannot be written, loading all MSRs says so.
 */
PMIG_KVM_LOAD(feature_control)
{
	const struct kvm_msr_entry *entries = NULL;
	uint32_t count = 0;
	int rc;

	rc = parse(vcpu, item, &entries, &count, err);
	for (uint32_t i = 0; i < count && !rc; i++)
		if (entries[i].index == MSR_IA32_FEAT_CTL)
			rc = pmig_kvm_write_msr(job, vcpu, MSR_IA32_FEAT_CTL,
						entries[i].data, err);
	return rc;
}
