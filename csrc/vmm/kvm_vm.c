/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/kvm_vm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/error.h"
#include "vmm/vm.h"

/* Three pages that Intel's VMX needs, in the hole below 4 GiB. */
#define TSS_ADDRESS	   0xfffbd000ull
#define IDENTITY_ADDRESS   0xfffbc000ull

#define MAX_CPUID_ENTRIES  256
#define CPUID_X2APIC	   (1u << 21) /* leaf 1, ecx */
#define CPUID_TSC_DEADLINE (1u << 24) /* leaf 1, ecx */

/* Size of the kernel's sigset_t, which is not libc's. */
#define KERNEL_SIGSET_BYTES 8

void pvmm_kvm_init(struct pvmm_kvm *kvm)
{
	memset(kvm, 0, sizeof(*kvm));
	kvm->fd = -1;
	kvm->vm_fd = -1;
	for (int i = 0; i < PVMM_MAX_VCPUS; i++)
		kvm->vcpu_fds[i] = -1;
}

static int check_capabilities(const struct pvmm_kvm *kvm,
			      struct pmig_error *err)
{
	static const struct {
		int number;
		const char *name;
	} needed[] = {
		{KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP"},
		{KVM_CAP_PIT2, "KVM_CAP_PIT2"},
		{KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE"},
		{KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT"},
		{KVM_CAP_TSC_DEADLINE_TIMER, "KVM_CAP_TSC_DEADLINE_TIMER"},
		{KVM_CAP_GET_TSC_KHZ, "KVM_CAP_GET_TSC_KHZ"},
	};

	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
		if (ioctl(kvm->fd, KVM_CHECK_EXTENSION, needed[i].number) <= 0)
			return pvmm_fail(err, -ENOTSUP, "this KVM has no %s",
					 needed[i].name);
	}
	return 0;
}

static int open_kvm(struct pvmm_kvm *kvm, struct pmig_error *err)
{
	int size;

	kvm->fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm->fd < 0) {
		pvmm_fail_errno(err, "cannot open /dev/kvm (the threads "
				     "backend needs none)");
		return -ENODEV;
	}
	if (ioctl(kvm->fd, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
		return pvmm_fail(err, -ENODEV, "/dev/kvm is not KVM API %d",
				 KVM_API_VERSION);
	size = ioctl(kvm->fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (size < (int)sizeof(struct kvm_run))
		return pvmm_fail_errno(err, "KVM_GET_VCPU_MMAP_SIZE failed");
	kvm->run_bytes = (size_t)size;
	return check_capabilities(kvm, err);
}

/* KVM creation can be interrupted by signals of the calling thread. */
static int create_vm(int kvm_fd)
{
	int fd;

	do
		fd = ioctl(kvm_fd, KVM_CREATE_VM, 0);
	while (fd < 0 && errno == EINTR);
	return fd;
}

static int enable_rings(struct pvmm *vm, struct pmig_error *err)
{
	struct kvm_enable_cap cap = {0};
	uint64_t bytes = (uint64_t)vm->plan.config.ring_entries * 16;
	static const uint32_t caps[] = {KVM_CAP_DIRTY_LOG_RING,
					KVM_CAP_DIRTY_LOG_RING_ACQ_REL};
	int most = 0;

	for (int i = 0; i < 2; i++) {
		most = ioctl(vm->kvm.fd, KVM_CHECK_EXTENSION, caps[i]);
		if (most > 0) {
			cap.cap = caps[i];
			break;
		}
	}
	if (most <= 0)
		return pvmm_fail(err, -ENOTSUP,
				 "this KVM has no KVM_CAP_DIRTY_LOG_RING "
				 "(Linux 5.11)");
	if (bytes > (uint64_t)most)
		return pvmm_fail(err, -EINVAL,
				 "config.ring_entries is %u, this KVM has at "
				 "most %d",
				 vm->plan.config.ring_entries, most / 16);
	cap.args[0] = bytes;
	if (ioctl(vm->kvm.vm_fd, KVM_ENABLE_CAP, &cap))
		return pvmm_fail_errno(err,
				       "cannot make dirty rings of %u "
				       "entries",
				       vm->plan.config.ring_entries);
	return 0;
}

static int set_slot(const struct pvmm *vm, uint32_t slot, uint64_t gpa,
		    uint64_t size_bytes, void *hva, struct pmig_error *err)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.guest_phys_addr = gpa,
		.memory_size = size_bytes,
		.userspace_addr = (uint64_t)(uintptr_t)hva,
	};

	if (ioctl(vm->kvm.vm_fd, KVM_SET_USER_MEMORY_REGION, &region))
		return pvmm_fail_errno(err, "cannot set memory slot %u", slot);
	return 0;
}

static int set_slots(const struct pvmm *vm, struct pmig_error *err)
{
	uint64_t offset = 0;
	int rc;

	for (uint32_t i = 0; i < vm->ram.n_parts; i++) {
		rc = set_slot(vm, i, pvmm_gpa(offset), vm->ram.part_bytes[i],
			      vm->ram.base + offset, err);
		if (rc)
			return rc;
		offset += vm->ram.part_bytes[i];
	}
	if (!vm->track.log)
		return 0;
	return set_slot(vm, vm->ram.n_parts, PVMM_LOG_GPA, vm->track.log_bytes,
			vm->track.log, err);
}

static int make_board(struct pvmm *vm, struct pmig_error *err)
{
	struct kvm_pit_config pit = {0};
	uint64_t identity = IDENTITY_ADDRESS;
	int vm_fd = vm->kvm.vm_fd;

	if (ioctl(vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity) ||
	    ioctl(vm_fd, KVM_SET_TSS_ADDR, TSS_ADDRESS))
		return pvmm_fail_errno(err, "cannot place KVM's own pages");
	if (ioctl(vm_fd, KVM_CREATE_IRQCHIP, 0))
		return pvmm_fail_errno(err, "cannot make the irqchip");
	if (ioctl(vm_fd, KVM_CREATE_PIT2, &pit))
		return pvmm_fail_errno(err, "cannot make the PIT");
	return set_slots(vm, err);
}

/* Give vCPU number id its APIC id wherever CPUID shows one. */
static void personalize_cpuid(struct kvm_cpuid2 *cpuid, uint32_t id)
{
	for (uint32_t i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *entry = &cpuid->entries[i];

		if (entry->function == 1) {
			entry->ebx = (entry->ebx & 0x00ffffff) | id << 24;
			entry->ecx |= CPUID_X2APIC | CPUID_TSC_DEADLINE;
		} else if (entry->function == 0xb || entry->function == 0x1f) {
			entry->edx = id;
		} else if (entry->function == 0x8000001e) {
			entry->eax = id;
		}
	}
}

static int set_cpuid(struct pvmm_kvm *kvm, uint32_t id, struct pmig_error *err)
{
	struct kvm_cpuid2 *cpuid;
	int rc = 0;

	cpuid = calloc(1, sizeof(*cpuid) + MAX_CPUID_ENTRIES *
						   sizeof(cpuid->entries[0]));
	if (!cpuid)
		return pvmm_fail(err, -ENOMEM, "no memory for CPUID");
	cpuid->nent = MAX_CPUID_ENTRIES;
	if (ioctl(kvm->fd, KVM_GET_SUPPORTED_CPUID, cpuid)) {
		rc = pvmm_fail_errno(err, "KVM_GET_SUPPORTED_CPUID failed");
	} else {
		personalize_cpuid(cpuid, id);
		if (ioctl(kvm->vcpu_fds[id], KVM_SET_CPUID2, cpuid))
			rc = pvmm_fail_errno(err, "KVM_SET_CPUID2 failed");
	}
	free(cpuid);
	return rc;
}

/*
 * SIGRTMIN, blocked on the vCPU's thread, ends KVM_RUN: it stays pending and
 * no handler runs. All other signals leave KVM_RUN alone.
 */
static int set_signal_mask(int vcpu_fd, struct pmig_error *err)
{
	struct {
		struct kvm_signal_mask head;
		uint8_t set[KERNEL_SIGSET_BYTES];
	} mask;
	sigset_t set;

	sigfillset(&set);
	sigdelset(&set, SIGRTMIN);
	mask.head.len = sizeof(mask.set);
	memcpy(mask.set, &set, sizeof(mask.set));
	if (ioctl(vcpu_fd, KVM_SET_SIGNAL_MASK, &mask))
		return pvmm_fail_errno(err, "KVM_SET_SIGNAL_MASK failed");
	return 0;
}

static int make_vcpu(struct pvmm_kvm *kvm, uint32_t id, struct pmig_error *err)
{
	void *run;
	int rc;

	kvm->vcpu_fds[id] = ioctl(kvm->vm_fd, KVM_CREATE_VCPU, id);
	if (kvm->vcpu_fds[id] < 0)
		return pvmm_fail_errno(err, "cannot make vCPU %u", id);
	run = mmap(NULL, kvm->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
		   kvm->vcpu_fds[id], 0);
	if (run == MAP_FAILED)
		return pvmm_fail_errno(err, "cannot map vCPU %u", id);
	kvm->runs[id] = run;
	rc = set_cpuid(kvm, id, err);
	return rc ? rc : set_signal_mask(kvm->vcpu_fds[id], err);
}

static void describe(struct pvmm_kvm *kvm, uint32_t n_vcpus)
{
	kvm->api = (struct pmig_kvm){
		.struct_size = sizeof(kvm->api),
		.kvm_fd = kvm->fd,
		.vm_fd = kvm->vm_fd,
		.n_vcpus = n_vcpus,
		.vcpu_fds = kvm->vcpu_fds,
		.runs = kvm->runs,
		.flags = PMIG_KVM_IRQCHIP | PMIG_KVM_PIT,
	};
}

int pvmm_kvm_new(struct pvmm *vm, struct pmig_error *err)
{
	struct pvmm_kvm *kvm = &vm->kvm;
	uint32_t n_vcpus = vm->plan.config.n_vcpus;
	int rc = open_kvm(kvm, err);

	if (rc)
		return rc;
	kvm->vm_fd = create_vm(kvm->fd);
	if (kvm->vm_fd < 0)
		return pvmm_fail_errno(err, "KVM_CREATE_VM failed");
	rc = pmig_kvm_prepare(kvm->fd, kvm->vm_fd, err);
	if (!rc && vm->plan.config.tracker == PMIG_TRACKER_KVM_RING)
		rc = enable_rings(vm, err);
	if (!rc)
		rc = make_board(vm, err);
	for (uint32_t i = 0; !rc && i < n_vcpus; i++)
		rc = make_vcpu(kvm, i, err);
	describe(kvm, n_vcpus);
	return rc;
}

void pvmm_kvm_free(struct pvmm_kvm *kvm)
{
	for (int i = 0; i < PVMM_MAX_VCPUS; i++) {
		if (kvm->runs[i])
			munmap(kvm->runs[i], kvm->run_bytes);
		if (kvm->vcpu_fds[i] >= 0)
			close(kvm->vcpu_fds[i]);
	}
	if (kvm->vm_fd >= 0)
		close(kvm->vm_fd);
	if (kvm->fd >= 0)
		close(kvm->fd);
	pvmm_kvm_init(kvm);
}

uint64_t pvmm_kvm_tsc_khz(const struct pvmm_kvm *kvm)
{
	int khz = ioctl(kvm->vcpu_fds[0], KVM_GET_TSC_KHZ, 0);

	return khz > 0 ? (uint64_t)khz : 0;
}
