/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vcpu.c - the thread of a vCPU
 */
#include <errno.h>
#include <linux/kvm.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>

#include "vmm/error.h"
#include "vmm/vm.h"

/* Take a kick that has ended KVM_RUN, or every later KVM_RUN ends too. */
static void drain_kick(void)
{
	static const struct timespec now = {0};
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	while (sigtimedwait(&set, NULL, &now) == SIGRTMIN)
		;
}

static void kick(struct pvmm_worker *worker)
{
	pthread_kill(worker->thread, SIGRTMIN);
}

/* The signal of a kick, which the thread blocks, ends this as well. */
static void wait_for_kick(struct pvmm_worker *worker, uint64_t ns)
{
	const struct timespec at_most = {
		.tv_sec = (time_t)(ns / 1000000000),
		.tv_nsec = (long)(ns % 1000000000),
	};
	sigset_t set;

	(void)worker;
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	(void)sigtimedwait(&set, NULL, &at_most);
}

static int exception(struct pvmm_worker *worker, uint32_t vector,
		     struct pmig_error *err)
{
	struct kvm_regs regs = {0};
	struct kvm_sregs sregs = {0};
	int fd = worker->vm->kvm.vcpu_fds[worker->index];

	(void)ioctl(fd, KVM_GET_REGS, &regs);
	(void)ioctl(fd, KVM_GET_SREGS, &sregs);
	return pvmm_fail(err, -EIO,
			 "vCPU %u took exception %u (rsp 0x%llx, cr2 0x%llx)",
			 worker->index, vector, regs.rsp, sregs.cr2);
}

static int handle_io(struct pvmm_worker *worker, struct kvm_run *run,
		     struct pmig_error *err)
{
	struct pvmm_devices *devices = &worker->vm->devices;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;
	bool known = true;
	uint32_t vector;

	if (run->io.port == PVMM_PORT_EXCEPTION && run->io.size == 4) {
		memcpy(&vector, data, sizeof(vector));
		return exception(worker, vector, err);
	}
	for (uint32_t i = 0; known && i < run->io.count; i++) {
		if (run->io.direction == KVM_EXIT_IO_IN)
			known = pvmm_port_read(devices, worker->index,
					       run->io.port, data,
					       run->io.size);
		else
			known = pvmm_port_write(devices, worker->index,
						run->io.port, data,
						run->io.size);
		data += run->io.size;
	}
	if (known)
		return 0;
	return pvmm_fail(err, -EIO,
			 "vCPU %u accessed port 0x%x, where nothing is",
			 worker->index, run->io.port);
}

/* An exit that the guest programs never cause on their own. */
static int unexpected_exit(const struct pvmm_worker *worker,
			   const struct kvm_run *run, struct pmig_error *err)
{
	uint32_t index = worker->index;

	switch (run->exit_reason) {
	case KVM_EXIT_SHUTDOWN:
		return pvmm_fail(err, -EIO, "vCPU %u: triple fault", index);
	case KVM_EXIT_MMIO:
		return pvmm_fail(err, -EIO,
				 "vCPU %u accessed 0x%llx, where nothing is",
				 index, run->mmio.phys_addr);
	case KVM_EXIT_INTERNAL_ERROR:
		return pvmm_fail(err, -EIO,
				 "vCPU %u: KVM internal error %u "
				 "(0x%llx 0x%llx)",
				 index, run->internal.suberror,
				 run->internal.data[0], run->internal.data[1]);
	case KVM_EXIT_FAIL_ENTRY:
		return pvmm_fail(err, -EIO,
				 "vCPU %u: entry failed, hardware reason "
				 "0x%llx",
				 index,
				 run->fail_entry.hardware_entry_failure_reason);
	case KVM_EXIT_SYSTEM_EVENT:
		return pvmm_fail(err, -EIO, "vCPU %u: system event %u", index,
				 run->system_event.type);
	default:
		return pvmm_fail(err, -EIO, "vCPU %u: unexpected exit %u",
				 index, run->exit_reason);
	}
}

static int handle_exit(struct pvmm_worker *worker, struct kvm_run *run,
		       struct pmig_error *err)
{
	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		return handle_io(worker, run, err);
	case KVM_EXIT_DIRTY_RING_FULL:
		return pvmm_track_ring_full(worker->vm, err);
	case KVM_EXIT_INTR:
		return 0;
	default:
		return unexpected_exit(worker, run, err);
	}
}

/* An instruction of several accesses takes several exits to complete. */
static int quiesce(struct pvmm_worker *worker, int fd, struct kvm_run *run,
		   struct pmig_error *err)
{
	int rc = pmig_kvm_quiesce_vcpu(fd, run, err);

	while (rc == -EAGAIN) {
		rc = handle_exit(worker, run, err);
		if (!rc)
			rc = pmig_kvm_quiesce_vcpu(fd, run, err);
	}
	return rc;
}

static int run_vcpu(struct pvmm_worker *worker, struct pmig_error *err)
{
	struct pvmm_kvm *kvm = &worker->vm->kvm;
	struct kvm_run *run = kvm->runs[worker->index];
	int fd = kvm->vcpu_fds[worker->index];
	int rc = 0;

	drain_kick();
	pvmm_turn_begin(worker);
	while (!rc && !pvmm_worker_must_park(worker)) {
		if (pvmm_turn_waited(worker))
			continue;
		if (!ioctl(fd, KVM_RUN, 0))
			rc = handle_exit(worker, run, err);
		else if (errno == EINTR)
			drain_kick();
		else if (errno != EAGAIN)
			rc = pvmm_fail_errno(err, "vCPU %u: KVM_RUN failed",
					     worker->index);
	}
	return rc ? rc : quiesce(worker, fd, run, err);
}

const struct pvmm_backend_ops pvmm_vcpu_ops = {
	.name = "pvmm-vcpu",
	.run = run_vcpu,
	.kick = kick,
	.alarm = pvmm_throttle_alarm,
	.wait = wait_for_kick,
};
