/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_kvm_state.c - save, load, save again: nothing is lost or added
 */
#include "unit.h"

#include <errno.h>
#include <string.h>

#include "kvm_fill.h"
#include "kvm_move.h"

static struct pmig_error err;

static void check_round_trip(struct test_vm *source)
{
	struct test_vm *destination =
		test_vm_new(source->kvm.n_vcpus, source->kvm.flags);
	struct pmig_state *saved = test_vm_save(source);
	struct pmig_state *again;

	test_vm_load(destination, saved);
	again = test_vm_save(destination);
	test_states_equal(saved, again);
	pmig_state_free(saved);
	pmig_state_free(again);
	test_vm_free(source);
	test_vm_free(destination);
}

static void test_round_trip_of_fresh_machines(void)
{
	check_round_trip(test_vm_new(1, TEST_VM_FULL));
	check_round_trip(test_vm_new(4, TEST_VM_FULL));
	check_round_trip(test_vm_new(2, TEST_VM_FULL | PMIG_KVM_BASIC));
	check_round_trip(test_vm_new(2, PMIG_KVM_IRQCHIP));
	check_round_trip(test_vm_new(2, PMIG_KVM_SPLIT_IRQCHIP));
	check_round_trip(test_vm_new(2, 0));
}

static void test_round_trip_of_a_filled_machine(void)
{
	struct test_vm *vm = test_vm_new(3, TEST_VM_FULL);

	test_vm_fill(vm);
	check_round_trip(vm);
}

static void test_round_trip_by_the_older_interfaces(void)
{
	struct test_vm *vm = test_vm_new(2, TEST_VM_FULL | PMIG_KVM_BASIC);

	test_vm_fill(vm);
	check_round_trip(vm);
}

/* The round trips above would not see what neither side carries. */
static void test_filled_values_arrive(void)
{
	struct test_vm *source = test_vm_new(3, TEST_VM_FULL);
	struct test_vm *destination = test_vm_new(3, TEST_VM_FULL);
	struct pmig_state *saved;

	test_vm_fill(source);
	saved = test_vm_save(source);
	test_vm_load(destination, saved);
	pmig_state_free(saved);
	test_vm_free(source);
	test_vm_check_filled(destination);
	test_vm_free(destination);
}

/* A rehearsal and the real state: what was saved first changes nothing. */
static void test_saving_twice(void)
{
	struct test_vm *vm = test_vm_new(2, TEST_VM_FULL);
	struct pmig_state *first, *second;

	test_vm_fill(vm);
	first = test_vm_save(vm);
	second = test_vm_save(vm);
	test_states_equal(first, second);
	pmig_state_free(first);
	pmig_state_free(second);
	test_vm_free(vm);
}

/* Nothing of the first load is left after the second. */
static void check_second_load(bool filled_first)
{
	struct test_vm *fresh = test_vm_new(2, TEST_VM_FULL);
	struct test_vm *filled = test_vm_new(2, TEST_VM_FULL);
	struct test_vm *destination = test_vm_new(2, TEST_VM_FULL);
	struct pmig_state *states[2], *after;

	test_vm_fill(filled);
	states[0] = test_vm_save(filled_first ? filled : fresh);
	states[1] = test_vm_save(filled_first ? fresh : filled);
	test_vm_load(destination, states[0]);
	test_vm_load(destination, states[1]);
	after = test_vm_save(destination);
	test_states_equal(states[1], after);
	for (int i = 0; i < 2; i++)
		pmig_state_free(states[i]);
	pmig_state_free(after);
	test_vm_free(fresh);
	test_vm_free(filled);
	test_vm_free(destination);
}

static void test_second_load_leaves_nothing_of_the_first(void)
{
	check_second_load(true);
	check_second_load(false);
}

/* A state of the newer interfaces on a kernel that lacks them. */
static void test_newer_state_on_an_older_kernel(void)
{
	struct test_vm *source = test_vm_new(2, TEST_VM_FULL);
	struct test_vm *destination =
		test_vm_new(2, TEST_VM_FULL | PMIG_KVM_BASIC);
	struct pmig_state *saved, *again;

	test_vm_fill(source);
	saved = test_vm_save(source);
	test_vm_load(destination, saved);
	destination->kvm.flags = TEST_VM_FULL;
	again = test_vm_save(destination);
	/* the counter was written, not its offset: the offset is new */
	for (uint32_t v = 0; v < 2; v++) {
		const char *name = v ? "kvm/vcpu1/tsc" : "kvm/vcpu0/tsc";

		memcpy(test_state_contents(again, name),
		       test_state_contents(saved, name), 16);
	}
	test_states_equal(saved, again);
	pmig_state_free(saved);
	pmig_state_free(again);
	test_vm_free(source);
	test_vm_free(destination);
}

static void test_pae_on_an_older_kernel_is_refused(void)
{
	struct test_vm *vm;
	struct pmig_state *saved;
	struct kvm_sregs2 *sregs2;

	if (!test_host_has(KVM_CAP_SREGS2))
		UNIT_SKIP("this kernel has no KVM_CAP_SREGS2 (Linux 5.14)");
	vm = test_vm_new(1, TEST_VM_FULL);
	saved = test_vm_save(vm);
	sregs2 = test_state_contents(saved, "kvm/vcpu0/sregs2");
	sregs2->flags = KVM_SREGS2_FLAGS_PDPTRS_VALID;
	vm->kvm.flags |= PMIG_KVM_BASIC;
	CHECK_EQ(pmig_kvm_load(&vm->kvm, saved, NULL, &err), -ENOTSUP);
	CHECK(strstr(err.message, "PAE paging"));
	pmig_state_free(saved);
	test_vm_free(vm);
}

GUEST_PROGRAM(out_forever, "1: out %al, $0x10; jmp 1b");

/* A machine that has run takes a state like one that has not. */
static void test_loading_a_machine_that_ran(void)
{
	struct test_vm *vm = test_vm_new(1, TEST_VM_FULL);
	struct pmig_state *saved, *again;

	test_vm_program(vm, out_forever, out_forever_end);
	saved = test_vm_save(vm);
	for (int i = 0; i < 3; i++)
		test_vm_expect_out(vm, 0x10);
	CHECK_OK(pmig_kvm_quiesce_vcpu(vm->vcpu_fds[0], vm->runs[0], &err),
		 err);
	test_vm_load(vm, saved);
	again = test_vm_save(vm);
	test_states_equal(saved, again);
	test_vm_expect_out(vm, 0x10);
	pmig_state_free(saved);
	pmig_state_free(again);
	test_vm_free(vm);
}

static void test_describe(void)
{
	struct test_vm *vm = test_vm_new(2, TEST_VM_FULL);
	char *json;

	CHECK_OK(pmig_kvm_describe(&vm->kvm, &json, &err), err);
	CHECK(strstr(json, "{\"arch\":\"x86_64\",\"caps\":{"));
	CHECK(strstr(json, "\"KVM_CAP_VCPU_EVENTS\":1,"));
	CHECK(strstr(json, "\"cpuid\":[{\"function\":0,"));
	CHECK(strstr(json,
		     ",\"n_vcpus\":2,\"irqchip\":\"full\",\"pit\":true}"));
	pmig_string_free(json);
	vm->kvm.n_vcpus = 0;
	CHECK_OK(pmig_kvm_describe(&vm->kvm, &json, &err), err);
	CHECK(strstr(json, ",\"n_vcpus\":0,"));
	pmig_string_free(json);
	vm->kvm.n_vcpus = 2;
	test_vm_free(vm);
}

int main(void)
{
	return unit_run((struct unit_test[]){
		UNIT(test_round_trip_of_fresh_machines),
		UNIT(test_round_trip_of_a_filled_machine),
		UNIT(test_round_trip_by_the_older_interfaces),
		UNIT(test_filled_values_arrive),
		UNIT(test_saving_twice),
		UNIT(test_second_load_leaves_nothing_of_the_first),
		UNIT(test_newer_state_on_an_older_kernel),
		UNIT(test_pae_on_an_older_kernel_is_refused),
		UNIT(test_loading_a_machine_that_ran),
		UNIT(test_describe),
		UNIT_END,
	});
}
