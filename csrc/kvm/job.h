/* SPDX-License-Identifier: Apache-2.0 */
/*
 * job.h - one save or load of a KVM machine, and the parts that do it
 *
 * What there is to move is a table of item types (item.c), each with a
 * name, a layout version, its size, and the part of the machine it needs.
 * save.c walks one table of steps and load.c another: the two orders differ,
 * both are given by what the kernel's ioctls do to each other
 * (docs/kvm-state.md), and each stands in one place.
 */
#ifndef PMIG_KVM_JOB_H
#define PMIG_KVM_JOB_H

#include "kvm/compat.h"
#include "kvm/text.h"
#include "pymigrate.h"

/**
 * struct pmig_kvm_caps - what the kernel offers for state
 * @xsave_bytes: size of a vCPU's XSAVE area in KVM's layout
 * @nested_bytes: largest nested state, 0 without nesting
 * @xsave2:	KVM_GET_XSAVE2
 * @xcrs:	KVM_GET_XCRS
 * @sregs2:	KVM_GET_SREGS2
 * @tsc_offset:	the TSC can be set by its offset
 * @tsc_scaling: the TSC can run at another frequency than the host's
 * @clock_realtime: KVM_SET_CLOCK adds the time that passed by itself
 */
struct pmig_kvm_caps {
	uint32_t xsave_bytes;
	uint32_t nested_bytes;
	bool xsave2;
	bool xcrs;
	bool sregs2;
	bool tsc_offset;
	bool tsc_scaling;
	bool clock_realtime;
};

/**
 * struct pmig_kvm_blob - contents of the item that is being saved
 * @data:	zeroed by pmig_kvm_blob_room()
 * @size_bytes:	bytes used; 0: this machine has no such item
 * @capacity_bytes: bytes allocated, kept from item to item
 * @flags:	enum pmig_item_flags
 */
struct pmig_kvm_blob {
	uint8_t *data;
	size_t size_bytes;
	size_t capacity_bytes;
	uint32_t flags;
};

/**
 * struct pmig_kvm_job - one save or load
 * @kvm:	the machine
 * @caps:	of its kernel
 * @state:	load: where items are found
 * @blob:	save: the item in the making
 * @skipped:	load: what was left out, and why
 * @tsc_lead:	load: ticks that vCPU 0's TSC is set further than its own
 * @tsc_offset:	load: the TSC offset given to vCPU 0
 */
struct pmig_kvm_job {
	const struct pmig_kvm *kvm;
	struct pmig_kvm_caps caps;
	const struct pmig_state *state;
	struct pmig_kvm_blob blob;
	struct pmig_text skipped;
	uint64_t tsc_lead;
	uint64_t tsc_offset;
};

/* The vCPU number of items that belong to the whole machine. */
#define PMIG_KVM_VM UINT32_MAX

/* caps.c */
int pmig_kvm_check(const struct pmig_kvm *kvm, struct pmig_error *err);
void pmig_kvm_probe(const struct pmig_kvm *kvm, struct pmig_kvm_caps *caps);
int pmig_kvm_extension(const struct pmig_kvm *kvm, int capability);

/*
 * ioctls whose failure becomes a sentence: "vCPU 1: KVM_GET_REGS: ...".
 * They return what the ioctl returned, or -errno.
 */
int pmig_kvm_vcpu_call(const struct pmig_kvm_job *job, uint32_t vcpu,
		       unsigned long request, const char *name, void *arg,
		       struct pmig_error *err);
int pmig_kvm_vm_call(const struct pmig_kvm_job *job, unsigned long request,
		     const char *name, void *arg, struct pmig_error *err);

#define VCPU_CALL(job, vcpu, request, arg, err)                                \
	pmig_kvm_vcpu_call(job, vcpu, request, #request, arg, err)
#define VM_CALL(job, request, arg, err)                                        \
	pmig_kvm_vm_call(job, request, #request, arg, err)

/* save.c: size_bytes of zeroed room in job->blob, or NULL and an error. */
void *pmig_kvm_room(struct pmig_kvm_job *job, size_t size_bytes,
		    struct pmig_error *err);

/* load.c: note something that was left out, with the reason. */
void pmig_kvm_skip(struct pmig_kvm_job *job, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* item.c */

/**
 * struct pmig_kvm_type - a kind of item
 * @name:	last part of the item's name
 * @version:	of its layout
 * @size_bytes:	of its contents, or of the part before the elements
 * @element_bytes: the contents go on with any number of these; 0: none
 * @needs:	enum pmig_kvm_flags: any of these parts; 0: every machine
 * @optional:	a state without it is complete
 */
struct pmig_kvm_type {
	const char *name;
	uint32_t version;
	uint32_t size_bytes;
	uint32_t element_bytes;
	uint32_t needs;
	bool optional;
};

/* The type of that name among the vCPU's or the machine's, or NULL. */
const struct pmig_kvm_type *pmig_kvm_type_find(uint32_t vcpu, const char *name);

/* Room for the longest item name. */
#define PMIG_KVM_NAME_BYTES 48

/* "kvm/vcpu3/regs", "kvm/vm/clock" */
void pmig_kvm_item_name(char *full, uint32_t vcpu, const char *name);

/*
 * Check every kvm/ item of a state before any of it is loaded: known, of
 * the right version and size, for a part that the machine has, and none
 * missing.
 */
int pmig_kvm_check_items(struct pmig_kvm_job *job, struct pmig_error *err);

/*
 * The parts. A save function fills job->blob or leaves it empty; a load
 * function gets an item whose size fits its type. vcpu is PMIG_KVM_VM for
 * items of the machine.
 */
#define PMIG_KVM_SAVE(part)                                                    \
	int pmig_kvm_save_##part(struct pmig_kvm_job *job, uint32_t vcpu,      \
				 struct pmig_error *err)
#define PMIG_KVM_LOAD(part)                                                    \
	int pmig_kvm_load_##part(struct pmig_kvm_job *job, uint32_t vcpu,      \
				 const struct pmig_item *item,                 \
				 struct pmig_error *err)

PMIG_KVM_SAVE(mp_state);
PMIG_KVM_LOAD(mp_state);
PMIG_KVM_SAVE(events);
PMIG_KVM_LOAD(events);
PMIG_KVM_SAVE(regs);
PMIG_KVM_LOAD(regs);
PMIG_KVM_SAVE(sregs);
PMIG_KVM_LOAD(sregs);
PMIG_KVM_SAVE(sregs2);
PMIG_KVM_LOAD(sregs2);
PMIG_KVM_SAVE(debugregs);
PMIG_KVM_LOAD(debugregs);
PMIG_KVM_SAVE(xcrs);
PMIG_KVM_LOAD(xcrs);
PMIG_KVM_SAVE(xsave);
PMIG_KVM_LOAD(xsave);
PMIG_KVM_SAVE(lapic);
PMIG_KVM_LOAD(lapic);
PMIG_KVM_SAVE(tsc);
PMIG_KVM_LOAD(tsc_khz);
PMIG_KVM_LOAD(tsc);
PMIG_KVM_SAVE(tsc_deadline);
PMIG_KVM_LOAD(tsc_deadline);
PMIG_KVM_SAVE(cpuid);
PMIG_KVM_LOAD(cpuid);
PMIG_KVM_SAVE(msrs);
PMIG_KVM_LOAD(feature_control);
PMIG_KVM_LOAD(msrs);
PMIG_KVM_LOAD(wall_clock);
PMIG_KVM_SAVE(nested);
PMIG_KVM_LOAD(nested);
PMIG_KVM_SAVE(clock);
PMIG_KVM_LOAD(clock);
PMIG_KVM_SAVE(pit);
PMIG_KVM_LOAD(pit);
PMIG_KVM_SAVE(pic0);
PMIG_KVM_LOAD(pic0);
PMIG_KVM_SAVE(pic1);
PMIG_KVM_LOAD(pic1);
PMIG_KVM_SAVE(ioapic);
PMIG_KVM_LOAD(ioapic);

/* Save and load a plain structure by one ioctl each. */
int pmig_kvm_get_struct(struct pmig_kvm_job *job, uint32_t vcpu,
			unsigned long request, const char *name,
			size_t size_bytes, struct pmig_error *err);
int pmig_kvm_set_struct(struct pmig_kvm_job *job, uint32_t vcpu,
			unsigned long request, const char *name,
			const struct pmig_item *item, struct pmig_error *err);

#define GET_STRUCT(job, vcpu, request, type, err)                              \
	pmig_kvm_get_struct(job, vcpu, request, #request, sizeof(type), err)
#define SET_STRUCT(job, vcpu, request, item, err)                              \
	pmig_kvm_set_struct(job, vcpu, request, #request, item, err)

#endif
