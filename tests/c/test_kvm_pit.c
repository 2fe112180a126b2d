/* SPDX-License-Identifier: Apache-2.0 */
/* The PIT goes on ticking in another machine, and in phase. */
#include <inttypes.h>

#include "kvm/time.h"
#include "kvm_move.h"
#include "unit.h"

#define NS_PER_S 1000000000ULL
/* what may be done to the host's CLOCK_REALTIME meanwhile */
#define CORRECTION_NS ((int64_t)1000000)

/* Waits for interrupts. */
GUEST_PROGRAM(wait, "1: hlt; jmp 1b");

/* 10 ms, as channel 0 ticks through the master PIC. */
static void start_pit(const struct test_vm *vm)
{
	struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_PIC_MASTER};
	struct kvm_pit_state2 pit;

	test_vm_call(vm, KVM_GET_IRQCHIP, &chip);
	chip.chip.pic.irq_base = 0x20;
	chip.chip.pic.auto_eoi = 1;
	test_vm_call(vm, KVM_SET_IRQCHIP, &chip);
	test_vm_call(vm, KVM_GET_PIT2, &pit);
	pit.channels[0].mode = 2;
	pit.channels[0].count = 11932;
	pit.channels[2].mode = 3;
	pit.channels[2].count = 1193;
	test_vm_call(vm, KVM_SET_PIT2, &pit);
}

static void test_pit_goes_on_ticking(void)
{
	struct test_vm *vm = test_vm_new(1, TEST_VM_FULL);

	test_vm_program(vm, wait, wait_end);
	start_pit(vm);
	for (int i = 0; i < 3; i++)
		CHECK_EQ(test_vm_expect_out(vm, TEST_VM_VECTOR_PORT), 0x20);
	vm = test_vm_move(vm);
	for (int i = 0; i < 3; i++)
		CHECK_EQ(test_vm_expect_out(vm, TEST_VM_VECTOR_PORT), 0x20);
	test_vm_free(vm);
}

/* How long ago the count of channel 2 was loaded. */
static int64_t pit_age_ns(const struct test_vm *vm)
{
	struct kvm_pit_state2 pit;

	test_vm_call(vm, KVM_GET_PIT2, &pit);
	return pmig_kvm_monotonic_ns() - pit.channels[2].count_load_time;
}

/* On a host that was started long after the source's, too. */
static void check_pit_phase(int64_t other_start_ns)
{
	struct test_vm *source = test_vm_new(1, TEST_VM_FULL);
	struct test_vm *vm = test_vm_new(1, TEST_VM_FULL);
	struct pmig_kvm_clock_item *clock;
	struct kvm_pit_state2 *pit;
	struct pmig_state *state;
	int64_t before_ns, late_ns, began_ns, took_ns;

	start_pit(source);
	began_ns = pmig_kvm_monotonic_ns();
	before_ns = pit_age_ns(source);
	state = test_vm_save(source);
	clock = test_state_contents(state, "kvm/vm/clock");
	clock->monotonic_ns += other_start_ns;
	pit = test_state_contents(state, "kvm/vm/pit");
	for (int i = 0; i < 3; i++)
		pit->channels[i].count_load_time += other_start_ns;
	test_vm_load(vm, state);
	late_ns = pit_age_ns(vm) - before_ns;
	took_ns = pmig_kvm_monotonic_ns() - began_ns;
	if (late_ns < -CORRECTION_NS || late_ns > took_ns + CORRECTION_NS)
		UNIT_FAIL("%" PRId64 " ns later after %" PRId64 " ns", late_ns,
			  took_ns);
	pmig_state_free(state);
	test_vm_free(source);
	test_vm_free(vm);
}

static void test_pit_keeps_its_phase(void)
{
	check_pit_phase(0);
	check_pit_phase(1000 * (int64_t)NS_PER_S);
	check_pit_phase(-1000 * (int64_t)NS_PER_S);
}

int main(void)
{
	return unit_run((struct unit_test[]){UNIT(test_pit_goes_on_ticking),
					     UNIT(test_pit_keeps_its_phase),
					     UNIT_END});
}
