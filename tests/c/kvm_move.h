/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvm_move.h - saving, loading and comparing test machines
 */
#ifndef TESTS_C_KVM_MOVE_H
#define TESTS_C_KVM_MOVE_H

#include "vcpu.h"

/* A whole machine: in-kernel irqchip and PIT. */
#define TEST_VM_FULL (PMIG_KVM_IRQCHIP | PMIG_KVM_PIT)

/* These fail the running test on any error. */
struct pmig_state *test_vm_save(const struct test_vm *vm);
void test_vm_load(const struct test_vm *vm, const struct pmig_state *state);

/*
 * Equal item by item, but for the bytes that carry the time of the save:
 * those differ from one save to the next, and the tests of the clocks look
 * at them.
 */
void test_states_equal(const struct pmig_state *a, const struct pmig_state *b);

/*
 * Move a machine into a new one as a migration does: quiesce, save, encode,
 * decode, load, tell the clocks. The old machine is freed.
 */
struct test_vm *test_vm_move(struct test_vm *source);

/* The contents of an item, to be changed in place. */
void *test_state_contents(struct pmig_state *state, const char *name);

#endif
