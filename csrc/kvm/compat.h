/* SPDX-License-Identifier: Apache-2.0 */
/*
 * compat.h - <linux/kvm.h>, and what an older copy of it lacks
 *
 * The project builds with the headers of Linux 6.1. The constants below are
 * carried for older ones; whether the running kernel has the feature is
 * always asked at run time.
 */
#ifndef PMIG_KVM_COMPAT_H
#define PMIG_KVM_COMPAT_H

#include <linux/kvm.h>

#ifndef KVM_CAP_SREGS2 /* Linux 5.14 */
#error "<linux/kvm.h> is older than Linux 5.14 and lacks struct kvm_sregs2"
#endif
#ifndef KVM_CLOCK_REALTIME /* Linux 5.16 */
#error "<linux/kvm.h> is older than Linux 5.16 and lacks the clock's realtime"
#endif
#ifndef KVM_VCPU_TSC_CTRL /* Linux 5.16 */
#define KVM_VCPU_TSC_CTRL   0
#define KVM_VCPU_TSC_OFFSET 0
#endif
#ifndef KVM_CAP_XSAVE2 /* Linux 5.17 */
#define KVM_CAP_XSAVE2 208
#define KVM_GET_XSAVE2 _IOR(KVMIO, 0xcf, struct kvm_xsave)
#endif
#ifndef KVM_CAP_VM_TSC_CONTROL /* Linux 5.18 */
#define KVM_CAP_VM_TSC_CONTROL 214
#endif
#ifndef KVM_CAP_X86_TRIPLE_FAULT_EVENT /* Linux 6.0 */
#define KVM_CAP_X86_TRIPLE_FAULT_EVENT 218
#endif
#ifndef KVM_VCPUEVENT_VALID_TRIPLE_FAULT /* Linux 6.0 */
#define KVM_VCPUEVENT_VALID_TRIPLE_FAULT 0x20
#endif

#endif
