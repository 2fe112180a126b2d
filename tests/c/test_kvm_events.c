/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_kvm_events.c - what was about to happen to the guest happens after the
 * move, once
 */
#include "unit.h"

#include <errno.h>
#include <string.h>

#include "kvm_move.h"

#define IDLE_PORT 0x98

/* Says so whenever it is not interrupted. */
GUEST_PROGRAM(idle, "1: out %al, $0x98; jmp 1b");

static struct pmig_error err;

/* One interrupt of that vector, then nothing but the guest's own loop. */
static void check_one_event(struct test_vm *vm, uint8_t vector)
{
	vm = test_vm_move(vm);
	CHECK_EQ(test_vm_expect_out(vm, TEST_VM_VECTOR_PORT), vector);
	for (int i = 0; i < 3; i++)
		test_vm_expect_out(vm, IDLE_PORT);
	test_vm_free(vm);
}

static struct test_vm *idle_vm(void)
{
	struct test_vm *vm = test_vm_new(1, TEST_VM_FULL);

	test_vm_program(vm, idle, idle_end);
	return vm;
}

static void set_events(struct test_vm *vm, struct kvm_vcpu_events events)
{
	struct kvm_vcpu_events current;

	test_vcpu_call(vm, 0, KVM_GET_VCPU_EVENTS, &current);
	events.flags = current.flags;
	test_vcpu_call(vm, 0, KVM_SET_VCPU_EVENTS, &events);
}

static void test_pending_exception(void)
{
	struct test_vm *vm = idle_vm();

	set_events(vm, (struct kvm_vcpu_events){
			       .exception = {.pending = 1, .nr = 6}});
	check_one_event(vm, 6);
}

static void test_injected_exception(void)
{
	struct test_vm *vm = idle_vm();

	set_events(vm, (struct kvm_vcpu_events){
			       .exception = {.injected = 1, .nr = 6}});
	check_one_event(vm, 6);
}

static void test_injected_interrupt(void)
{
	struct test_vm *vm = idle_vm();

	set_events(vm, (struct kvm_vcpu_events){
			       .interrupt = {.injected = 1, .nr = 0x41}});
	check_one_event(vm, 0x41);
}

static void test_pending_nmi(void)
{
	struct test_vm *vm = idle_vm();

	set_events(vm, (struct kvm_vcpu_events){.nmi = {.pending = 1}});
	check_one_event(vm, 2);
}

static void test_interrupt_requested_at_the_lapic(void)
{
	struct test_vm *vm = idle_vm();

	test_lapic_write(vm, 0, TEST_LAPIC_SPURIOUS, 0x1ff);
	test_lapic_write(vm, 0, TEST_LAPIC_IRR + 0x20, 1 << 2);
	check_one_event(vm, 0x42);
}

static void test_interrupt_requested_at_the_pic(void)
{
	struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_PIC_MASTER};
	struct kvm_irq_level line = {.irq = 3, .level = 1};
	struct test_vm *vm = idle_vm();

	test_vm_call(vm, KVM_GET_IRQCHIP, &chip);
	chip.chip.pic.irq_base = 0x20;
	chip.chip.pic.auto_eoi = 1;
	test_vm_call(vm, KVM_SET_IRQCHIP, &chip);
	test_vm_call(vm, KVM_IRQ_LINE, &line);
	check_one_event(vm, 0x23);
}

GUEST_PROGRAM(two_writes, "mov $0x11, %al; out %al, $0x10;"
			  "mov $0x22, %al; out %al, $0x10");

static void test_port_write_is_done_once(void)
{
	struct test_vm *vm = test_vm_new(1, TEST_VM_FULL);

	test_vm_program(vm, two_writes, two_writes_end);
	CHECK_EQ(test_vm_expect_out(vm, 0x10), 0x11);
	vm = test_vm_move(vm);
	CHECK_EQ(test_vm_expect_out(vm, 0x10), 0x22);
	test_vm_free(vm);
}

GUEST_PROGRAM(read_and_tell, "in $0x10, %al; out %al, $0x11");

static void test_port_read_is_taken_along(void)
{
	struct test_vm *vm = test_vm_new(2, TEST_VM_FULL);

	test_vm_program(vm, read_and_tell, read_and_tell_end);
	memset(test_vm_expect_in(vm, 0x10), 0x5a, 1);
	vm = test_vm_move(vm);
	CHECK_EQ(test_vm_expect_out(vm, 0x11), 0x5a);
	test_vm_free(vm);
}

GUEST_PROGRAM(read_string, "cld; mov $0x600, %di; mov $4, %cx; mov $0x10, %dx;"
			   "rep insb; mov %cl, %al; out %al, $0x11");

static void test_string_read_is_taken_along(void)
{
	struct test_vm *vm = test_vm_new(1, TEST_VM_FULL);
	uint32_t given = 0;

	test_vm_program(vm, read_string, read_string_end);
	test_vm_run(vm);
	/* one exit or several, as KVM likes */
	do {
		struct kvm_run *run = vm->runs[0];

		CHECK_EQ(run->exit_reason, KVM_EXIT_IO);
		for (uint32_t i = 0; i < run->io.count; i++)
			((uint8_t *)run)[run->io.data_offset + i] = ++given;
	} while (pmig_kvm_quiesce_vcpu(vm->vcpu_fds[0], vm->runs[0], &err) ==
		 -EAGAIN);
	vm = test_vm_move(vm);
	while (given < 4) {
		memset(test_vm_expect_in(vm, 0x10), ++given, 1);
		vm = test_vm_move(vm);
	}
	CHECK_EQ(test_vm_expect_out(vm, 0x11), 0);
	CHECK(!memcmp(vm->memory + 0x600, "\1\2\3\4", 4));
	test_vm_free(vm);
}

/* Four bytes across a page boundary, above memory: 0xffff0 + 0x100e. */
GUEST_PROGRAM(write_across, "mov $0xffff, %ax; mov %ax, %ds;"
			    "movl $0x44332211, 0x100e; out %al, $0x11");

static void expect_mmio(const struct kvm_run *run, uint64_t gpa,
			const char *bytes)
{
	CHECK_EQ(run->exit_reason, KVM_EXIT_MMIO);
	CHECK_EQ(run->mmio.is_write, 1);
	CHECK_EQ(run->mmio.phys_addr, gpa);
	CHECK_EQ(run->mmio.len, 2);
	CHECK(!memcmp(run->mmio.data, bytes, 2));
}

static void test_memory_write_in_two_parts(void)
{
	struct test_vm *vm = test_vm_new(1, TEST_VM_FULL);

	test_vm_program(vm, write_across, write_across_end);
	test_vm_run(vm);
	expect_mmio(vm->runs[0], 0x100ffe, "\x11\x22");
	CHECK_EQ(pmig_kvm_quiesce_vcpu(vm->vcpu_fds[0], vm->runs[0], &err),
		 -EAGAIN);
	CHECK(strstr(err.message, "further exit"));
	expect_mmio(vm->runs[0], 0x101000, "\x33\x44");
	vm = test_vm_move(vm);
	test_vm_expect_out(vm, 0x11);
	test_vm_free(vm);
}

/* Bits of a kernel to come: nothing is pending, so nothing is lost. */
static void test_unknown_events_that_are_not_pending(void)
{
	struct test_vm *vm = idle_vm();
	struct pmig_state *state = test_vm_save(vm);
	struct kvm_vcpu_events *events =
		test_state_contents(state, "kvm/vcpu0/events");

	events->flags |= 1 << 20;
	test_vm_load(vm, state);
	pmig_state_free(state);
	test_vm_free(vm);
}

static void test_event_that_the_machine_cannot_take(void)
{
	struct kvm_vcpu_events *events;
	struct pmig_state *state;
	struct test_vm *vm;

	if (test_host_has(KVM_CAP_X86_SMM))
		UNIT_SKIP("this kernel has system management mode "
			  "(KVM_CAP_X86_SMM), nothing is missing");
	vm = idle_vm();
	state = test_vm_save(vm);
	events = test_state_contents(state, "kvm/vcpu0/events");
	events->flags |= KVM_VCPUEVENT_VALID_SMM;
	events->smi.smm = 1;
	CHECK_EQ(pmig_kvm_load(&vm->kvm, state, NULL, &err), -ENOTSUP);
	CHECK(strstr(err.message, "KVM_CAP_X86_SMM"));
	pmig_state_free(state);
	test_vm_free(vm);
}

int main(void)
{
	return unit_run((struct unit_test[]){
		UNIT(test_pending_exception),
		UNIT(test_injected_exception),
		UNIT(test_injected_interrupt),
		UNIT(test_pending_nmi),
		UNIT(test_interrupt_requested_at_the_lapic),
		UNIT(test_interrupt_requested_at_the_pic),
		UNIT(test_port_write_is_done_once),
		UNIT(test_port_read_is_taken_along),
		UNIT(test_string_read_is_taken_along),
		UNIT(test_memory_write_in_two_parts),
		UNIT(test_unknown_events_that_are_not_pending),
		UNIT(test_event_that_the_machine_cannot_take),
		UNIT_END,
	});
}
