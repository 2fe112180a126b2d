/* SPDX-License-Identifier: Apache-2.0 */
#include "kvm/job.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "base/error.h"

static int enable(int vm_fd, uint32_t capability, const char *name,
		  struct pmig_error *err)
{
	struct kvm_enable_cap request = {.cap = capability, .args = {1}};

	if (ioctl(vm_fd, KVM_CHECK_EXTENSION, capability) <= 0)
		return 0;
	if (ioctl(vm_fd, KVM_ENABLE_CAP, &request) < 0)
		return pmig_fail_errno(err, "cannot enable %s", name);
	return 0;
}

/*
 * Without the payload capability KVM_GET_VCPU_EVENTS may deliver a pending
 * exception's payload into CR2 or DR6, and a triple fault that is pending
 * between two entries is lost.
 */
int pmig_kvm_prepare(int kvm_fd, int vm_fd, struct pmig_error *err)
{
	int version = ioctl(kvm_fd, KVM_GET_API_VERSION, 0);
	int rc;

	if (version != KVM_API_VERSION)
		return pmig_fail(err, -ENOTSUP,
				 "this is not KVM as known here: API version "
				 "%d, not %d",
				 version, KVM_API_VERSION);
	rc = enable(vm_fd, KVM_CAP_EXCEPTION_PAYLOAD,
		    "KVM_CAP_EXCEPTION_PAYLOAD", err);
	if (rc)
		return rc;
	return enable(vm_fd, KVM_CAP_X86_TRIPLE_FAULT_EVENT,
		      "KVM_CAP_X86_TRIPLE_FAULT_EVENT", err);
}

int pmig_kvm_check(const struct pmig_kvm *kvm, struct pmig_error *err)
{
	const uint32_t irqchips = PMIG_KVM_IRQCHIP | PMIG_KVM_SPLIT_IRQCHIP;

	if (kvm->struct_size < sizeof(*kvm))
		return pmig_fail(err, -EINVAL,
				 "struct pmig_kvm: struct_size %u is smaller "
				 "than %zu",
				 kvm->struct_size, sizeof(*kvm));
	if (kvm->n_vcpus && !kvm->vcpu_fds)
		return pmig_fail(err, -EINVAL,
				 "struct pmig_kvm: vcpu_fds is missing");
	if ((kvm->flags & irqchips) == irqchips)
		return pmig_fail(err, -EINVAL,
				 "struct pmig_kvm: the irqchip is either "
				 "whole or split, not both");
	if ((kvm->flags & PMIG_KVM_PIT) && !(kvm->flags & PMIG_KVM_IRQCHIP))
		return pmig_fail(err, -EINVAL,
				 "struct pmig_kvm: an in-kernel PIT comes "
				 "with an in-kernel irqchip");
	return 0;
}

/* Some capabilities differ between machines of one host: ask the VM. */
int pmig_kvm_extension(const struct pmig_kvm *kvm, int capability)
{
	int fd = kvm->vm_fd >= 0 ? kvm->vm_fd : kvm->kvm_fd;
	int value = ioctl(fd, KVM_CHECK_EXTENSION, capability);

	return value > 0 ? value : 0;
}

static bool has_tsc_offset(const struct pmig_kvm *kvm)
{
	struct kvm_device_attr attr = {
		.group = KVM_VCPU_TSC_CTRL,
		.attr = KVM_VCPU_TSC_OFFSET,
	};

	return kvm->n_vcpus &&
	       ioctl(kvm->vcpu_fds[0], KVM_HAS_DEVICE_ATTR, &attr) == 0;
}

void pmig_kvm_probe(const struct pmig_kvm *kvm, struct pmig_kvm_caps *caps)
{
	bool basic = kvm->flags & PMIG_KVM_BASIC;
	int xsave2 = basic ? 0 : pmig_kvm_extension(kvm, KVM_CAP_XSAVE2);
	int clock = pmig_kvm_extension(kvm, KVM_CAP_ADJUST_CLOCK);

	*caps = (struct pmig_kvm_caps){
		.xsave_bytes = sizeof(struct kvm_xsave),
		.nested_bytes = pmig_kvm_extension(kvm, KVM_CAP_NESTED_STATE),
		.xsave2 = xsave2 > 0,
		.xcrs = pmig_kvm_extension(kvm, KVM_CAP_XCRS),
		.sregs2 = !basic && pmig_kvm_extension(kvm, KVM_CAP_SREGS2),
		.tsc_offset = !basic && has_tsc_offset(kvm),
		.tsc_scaling = pmig_kvm_extension(kvm, KVM_CAP_TSC_CONTROL),
		.clock_realtime = !basic && (clock & KVM_CLOCK_REALTIME),
	};
	if (xsave2 > (int)sizeof(struct kvm_xsave))
		caps->xsave_bytes = xsave2;
}

int pmig_kvm_vcpu_call(const struct pmig_kvm_job *job, uint32_t vcpu,
		       unsigned long request, const char *name, void *arg,
		       struct pmig_error *err)
{
	int rc = ioctl(job->kvm->vcpu_fds[vcpu], request, arg);

	if (rc < 0)
		return pmig_fail_errno(err, "vCPU %u: %s", vcpu, name);
	return rc;
}

int pmig_kvm_vm_call(const struct pmig_kvm_job *job, unsigned long request,
		     const char *name, void *arg, struct pmig_error *err)
{
	int rc = ioctl(job->kvm->vm_fd, request, arg);

	if (rc < 0)
		return pmig_fail_errno(err, "%s", name);
	return rc;
}

int pmig_kvm_get_struct(struct pmig_kvm_job *job, uint32_t vcpu,
			unsigned long request, const char *name,
			size_t size_bytes, struct pmig_error *err)
{
	void *room = pmig_kvm_room(job, size_bytes, err);

	if (!room)
		return -ENOMEM;
	return pmig_kvm_vcpu_call(job, vcpu, request, name, room, err);
}

/* The item's size was checked against its type; the kernel only reads it. */
int pmig_kvm_set_struct(struct pmig_kvm_job *job, uint32_t vcpu,
			unsigned long request, const char *name,
			const struct pmig_item *item, struct pmig_error *err)
{
	return pmig_kvm_vcpu_call(job, vcpu, request, name,
				  (void *)(uintptr_t)item->data, err);
}
