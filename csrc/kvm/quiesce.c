/* SPDX-License-Identifier: Apache-2.0 */
/*
 * quiesce.c - no device access half done
 *
 * When a vCPU leaves KVM_RUN for a port or memory access, the instruction is
 * not complete: KVM finishes it, takes in what the device answered and moves
 * RIP on, at the start of the next KVM_RUN.  A vCPU that is saved in between
 * would do the access again, or lose it.  Entering once with immediate_exit
 * completes the instruction and comes back before the guest runs on.
 *
 * One instruction may need several exits (a string of port accesses, an
 * access across two pages).  Then the entry comes back with the next exit
 * instead, which only the owner of the devices can handle.
 */
#include "kvm/compat.h"

#include <errno.h>
#include <sys/ioctl.h>

#include "base/error.h"

int pmig_kvm_quiesce_vcpu(int vcpu_fd, struct kvm_run *run,
			  struct pmig_error *err)
{
	int rc, code;

	run->immediate_exit = 1;
	rc = ioctl(vcpu_fd, KVM_RUN, 0);
	code = errno;
	run->immediate_exit = 0;
	if (rc == 0)
		return pmig_fail(err, -EAGAIN,
				 "the vCPU has a further exit to handle "
				 "(reason %u) before it is complete",
				 run->exit_reason);
	/* EAGAIN: a vCPU that waits to be started has nothing to complete */
	if (code == EINTR || code == EAGAIN)
		return 0;
	errno = code;
	return pmig_fail_errno(err, "KVM_RUN with immediate_exit");
}
