/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvm_fill.h - a machine with something in every register
 */
#ifndef TESTS_C_KVM_FILL_H
#define TESTS_C_KVM_FILL_H

#include "vcpu.h"

/* Give every part of the machine values of its own, also per vCPU. */
void test_vm_fill(struct test_vm *vm);

/* Look for those values with KVM's own calls. */
void test_vm_check_filled(const struct test_vm *vm);

#endif
