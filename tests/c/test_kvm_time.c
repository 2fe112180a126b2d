/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_kvm_time.c - timers fire, counters count on, time never goes back
 */
#include "unit.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "kvm/time.h"
#include "kvm_move.h"

#define MSR_TSC_DEADLINE    0x6e0
#define MSR_TSC		    0x10
#define MSR_KVM_SYSTEM_TIME 0x4b564d01

#define TIMER_VECTOR	    0x40
#define LVT_ONE_SHOT	    (0 << 17)
#define LVT_TSC_DEADLINE    (2 << 17)
#define DIVIDE_BY_1	    0xb

#define NS_PER_S	    1000000000ULL

/* Waits for interrupts. */
GUEST_PROGRAM(wait, "1: hlt; jmp 1b");

static struct pmig_error err;

static struct test_vm *waiting_vm(uint32_t lvt_mode)
{
	struct test_vm *vm = test_vm_new(1, TEST_VM_FULL);

	test_vm_program(vm, wait, wait_end);
	test_lapic_write(vm, 0, TEST_LAPIC_SPURIOUS, 0x1ff);
	test_lapic_write(vm, 0, TEST_LAPIC_LVT_TIMER, lvt_mode | TIMER_VECTOR);
	return vm;
}

static uint64_t tsc_khz(const struct test_vm *vm)
{
	return test_vcpu_call(vm, 0, KVM_GET_TSC_KHZ, NULL);
}

/* A machine in deadline mode. */
static struct test_vm *deadline_vm(void)
{
	if (!test_host_has(KVM_CAP_TSC_DEADLINE_TIMER))
		UNIT_SKIP("no TSC deadline timer "
			  "(KVM_CAP_TSC_DEADLINE_TIMER)");
	return waiting_vm(LVT_TSC_DEADLINE);
}

/* Arm the deadline timer; returns the deadline. */
static uint64_t arm_us(const struct test_vm *vm, uint64_t in_us)
{
	uint64_t deadline =
		test_vcpu_msr(vm, 0, MSR_TSC) + in_us * tsc_khz(vm) / 1000;

	CHECK(test_vcpu_set_msr(vm, 0, MSR_TSC_DEADLINE, deadline));
	return deadline;
}

/* The deadline passes while nobody runs the vCPU. */
static void let_it_pass(uint64_t ms)
{
	uint64_t end_ns = pmig_kvm_monotonic_ns() + (ms + 1) * 1000000;

	while (pmig_kvm_monotonic_ns() < end_ns)
		;
}

static void expect_timer(struct test_vm *vm)
{
	CHECK_EQ(test_vm_expect_out(vm, TEST_VM_VECTOR_PORT), TIMER_VECTOR);
}

static void test_deadline_ahead(void)
{
	struct test_vm *vm = deadline_vm();
	uint64_t deadline = arm_us(vm, 200000);

	vm = test_vm_move(vm);
	CHECK(test_vcpu_msr(vm, 0, MSR_TSC) < deadline);
	CHECK_EQ(test_vcpu_msr(vm, 0, MSR_TSC_DEADLINE), deadline);
	expect_timer(vm);
	CHECK(test_vcpu_msr(vm, 0, MSR_TSC) >= deadline);
	test_vm_free(vm);
}

static void test_deadline_that_passed_before_the_save(void)
{
	struct test_vm *vm = deadline_vm();

	arm_us(vm, 1000);
	let_it_pass(1);
	vm = test_vm_move(vm);
	expect_timer(vm);
	test_vm_free(vm);
}

static void test_deadline_that_passes_between_save_and_load(void)
{
	struct test_vm *source = deadline_vm();
	struct test_vm *vm = deadline_vm();
	struct pmig_state *state;

	arm_us(source, 20000);
	state = test_vm_save(source);
	let_it_pass(20);
	test_vm_load(vm, state);
	pmig_state_free(state);
	test_vm_free(source);
	expect_timer(vm);
	test_vm_free(vm);
}

/*
 * The deadline passes while the vCPU is being saved, and KVM clears the MSR:
 * whatever the moment, the interrupt is in the APIC page, or the deadline is
 * in its item. Deadlines at every distance around the save try the moments.
 */
static void test_deadline_that_passes_during_the_save(void)
{
	struct test_vm *vm = deadline_vm();

	for (uint64_t us = 0; us < 400; us += 50) {
		arm_us(vm, us);
		vm = test_vm_move(vm);
		expect_timer(vm);
		/* the guest's handler does not acknowledge: do it here */
		test_lapic_write(vm, 0, TEST_LAPIC_ISR + 0x20, 0);
	}
	test_vm_free(vm);
}

/* A rehearsal's timer does not go off in the machine's real state. */
static void test_timer_of_a_rehearsal_is_gone(void)
{
	struct test_vm *source = deadline_vm();
	struct test_vm *vm = test_vm_new(1, TEST_VM_FULL);
	struct pmig_state *rehearsal, *real;

	arm_us(source, 0);
	rehearsal = test_vm_save(source);
	CHECK(test_vcpu_set_msr(source, 0, MSR_TSC_DEADLINE, 0));
	test_lapic_write(source, 0, TEST_LAPIC_IRR + 0x20, 0);
	real = test_vm_save(source);
	test_vm_load(vm, rehearsal);
	test_vm_load(vm, real);
	CHECK_EQ(test_vcpu_msr(vm, 0, MSR_TSC_DEADLINE), 0);
	CHECK_EQ(test_lapic_read(vm, 0, TEST_LAPIC_IRR + 0x20), 0);
	pmig_state_free(rehearsal);
	pmig_state_free(real);
	test_vm_free(source);
	test_vm_free(vm);
}

static void test_one_shot_timer(void)
{
	struct test_vm *vm = waiting_vm(LVT_ONE_SHOT);

	test_lapic_write(vm, 0, TEST_LAPIC_TIMER_DIVIDE, DIVIDE_BY_1);
	test_lapic_write(vm, 0, TEST_LAPIC_TIMER_COUNT, 500000000);
	test_lapic_write(vm, 0, TEST_LAPIC_TIMER_CURRENT, 500000000);
	vm = test_vm_move(vm);
	CHECK(test_lapic_read(vm, 0, TEST_LAPIC_TIMER_CURRENT) > 0);
	expect_timer(vm);
	test_vm_free(vm);
}

/* Puts its time stamp counter into memory, then says so. */
GUEST_PROGRAM(tell_tsc, "1: rdtsc; mov %eax, 0x600; mov %edx, 0x604;"
			"out %al, $0x98; jmp 1b");

static uint64_t guest_tsc(struct test_vm *vm)
{
	uint64_t tsc;

	test_vm_expect_out(vm, 0x98);
	memcpy(&tsc, vm->memory + 0x600, sizeof(tsc));
	return tsc;
}

/*
 * On a host whose own TSC is unstable KVM moves a vCPU's offset whenever it
 * is touched, and its counter stands still while it does not run.
 */
static bool counts_always(struct test_vm *vm)
{
	const struct pmig_kvm_tsc_item *tsc;
	struct pmig_state *state;
	bool settled;

	vm->kvm.flags &= ~(uint32_t)PMIG_KVM_BASIC;
	state = test_vm_save(vm);
	tsc = test_state_contents(state, "kvm/vcpu0/tsc");
	settled = tsc->flags & PMIG_KVM_TSC_OFFSET_VALID;
	pmig_state_free(state);
	return settled;
}

static void check_tsc_counts_on(uint32_t flags)
{
	struct test_vm *vm = test_vm_new(2, TEST_VM_FULL | flags);
	uint64_t start_ns, before, after, passed_ns;

	test_vm_program(vm, tell_tsc, tell_tsc_end);
	guest_tsc(vm);
	before = guest_tsc(vm);
	start_ns = pmig_kvm_monotonic_ns();
	let_it_pass(10);
	vm = test_vm_move(vm);
	passed_ns = pmig_kvm_monotonic_ns() - start_ns;
	after = guest_tsc(vm);
	CHECK(after > before);
	/* clocks and counter agree within a part in a thousand */
	CHECK(!counts_always(vm) ||
	      (after - before) * 1000000 / tsc_khz(vm) >
		      passed_ns - passed_ns / 1000 - 10000);
	test_vm_free(vm);
}

static void test_guest_tsc_counts_on(void)
{
	check_tsc_counts_on(0);
	check_tsc_counts_on(PMIG_KVM_BASIC);
}

static uint64_t clock_ns(const struct test_vm *vm)
{
	struct kvm_clock_data clock = {0};

	test_vm_call(vm, KVM_GET_CLOCK, &clock);
	return clock.clock;
}

static void check_kvmclock_counts_on(uint32_t flags)
{
	struct test_vm *vm = test_vm_new(1, TEST_VM_FULL | flags);
	struct kvm_clock_data week = {.clock = 7 * 24 * 3600 * NS_PER_S};
	uint64_t before_ns, after_ns, start_ns, passed_ns;

	test_vm_call(vm, KVM_SET_CLOCK, &week);
	test_vm_program(vm, wait, wait_end);
	before_ns = clock_ns(vm);
	start_ns = pmig_kvm_monotonic_ns();
	let_it_pass(5);
	vm = test_vm_move(vm);
	passed_ns = pmig_kvm_monotonic_ns() - start_ns;
	after_ns = clock_ns(vm);
	CHECK(after_ns >= before_ns + passed_ns - passed_ns / 100);
	CHECK(after_ns < before_ns + passed_ns + NS_PER_S);
	test_vm_free(vm);
}

static void test_kvmclock_counts_on(void)
{
	check_kvmclock_counts_on(0);
	check_kvmclock_counts_on(PMIG_KVM_BASIC);
}

/* Documentation/virt/kvm/x86/msr.rst, MSR_KVM_SYSTEM_TIME_NEW */
struct pvclock {
	uint32_t version;
	uint32_t pad;
	uint64_t tsc_timestamp;
	uint64_t system_time;
	uint32_t tsc_to_system_mul;
	int8_t tsc_shift;
	uint8_t flags;
	uint8_t pad2[2];
};

#define PVCLOCK_GPA	      0x2000
#define PVCLOCK_GUEST_STOPPED 2

/* The time as the guest computes it. */
static uint64_t guest_kvmclock_ns(struct test_vm *vm, uint8_t *flags)
{
	uint64_t tsc = guest_tsc(vm);
	struct pvclock pvclock;
	uint64_t delta;

	memcpy(&pvclock, vm->memory + PVCLOCK_GPA, sizeof(pvclock));
	CHECK(pvclock.version && pvclock.version % 2 == 0);
	delta = tsc - pvclock.tsc_timestamp;
	if (pvclock.tsc_shift >= 0)
		delta <<= pvclock.tsc_shift;
	else
		delta >>= -pvclock.tsc_shift;
	*flags = pvclock.flags;
	return pvclock.system_time +
	       (uint64_t)((unsigned __int128)delta *
				  pvclock.tsc_to_system_mul >>
			  32);
}

static void test_guest_sees_its_kvmclock_go_on(void)
{
	struct test_vm *vm = test_vm_new(1, TEST_VM_FULL);
	uint64_t before_ns, after_ns;
	uint8_t flags;

	test_vm_program(vm, tell_tsc, tell_tsc_end);
	CHECK(test_vcpu_set_msr(vm, 0, MSR_KVM_SYSTEM_TIME, PVCLOCK_GPA | 1));
	before_ns = guest_kvmclock_ns(vm, &flags);
	CHECK(!(flags & PVCLOCK_GUEST_STOPPED));
	let_it_pass(5);
	vm = test_vm_move(vm);
	after_ns = guest_kvmclock_ns(vm, &flags);
	CHECK(after_ns > before_ns + 5000000);
	CHECK(after_ns < before_ns + 5 * NS_PER_S);
	CHECK(flags & PVCLOCK_GUEST_STOPPED);
	test_vm_free(vm);
}

/* A machine whose clock was read ago_ns before ours says. */
static struct pmig_state *earlier_state(const struct test_vm *source,
					int64_t ago_ns)
{
	struct pmig_state *state = test_vm_save(source);
	struct pmig_kvm_clock_item *clock =
		test_state_contents(state, "kvm/vm/clock");

	clock->realtime_ns -= ago_ns;
	clock->clock.realtime -= ago_ns;
	return state;
}

/* The guest's kvmclock goes on by expected_ns. */
static void check_clock_between_hosts(int64_t ago_ns, uint64_t expected_ns)
{
	struct test_vm *source = test_vm_new(1, TEST_VM_FULL);
	struct test_vm *vm = test_vm_new(1, TEST_VM_FULL);
	uint64_t before_ns = clock_ns(source), after_ns;
	struct pmig_state *state = earlier_state(source, ago_ns);

	test_vm_load(vm, state);
	after_ns = clock_ns(vm);
	CHECK(after_ns >= before_ns + expected_ns);
	CHECK(after_ns < before_ns + expected_ns + NS_PER_S);
	pmig_state_free(state);
	test_vm_free(source);
	test_vm_free(vm);
}

static void test_kvmclock_between_hosts(void)
{
	check_clock_between_hosts(0, 0);
	check_clock_between_hosts(10 * NS_PER_S, 10 * NS_PER_S);
	/* the source's clock was an hour ahead: never back, hardly on */
	check_clock_between_hosts(-3600 * (int64_t)NS_PER_S, 0);
}

/* Does this KVM let a guest's counter differ from the host's? */
static bool sets_tsc(void)
{
	return test_host_takes_msr(MSR_TSC, 1ULL << 60);
}

static struct test_vm *vm_that_sets_tsc(void)
{
	if (!sets_tsc())
		UNIT_SKIP("this KVM backend does not offset a guest's TSC");
	return test_vm_new(2, TEST_VM_FULL);
}

/* The item of a vCPU, as of a host whose TSC started elsewhere. */
static struct pmig_kvm_tsc_item *foreign_tsc(struct pmig_state *state,
					     const char *name, int64_t ago_ns)
{
	struct pmig_kvm_tsc_item *tsc = test_state_contents(state, name);

	tsc->offset += 1ULL << 60;
	tsc->realtime_ns -= ago_ns;
	return tsc;
}

static void check_tsc_between_hosts(int64_t ago_ns, uint64_t expected_ns)
{
	struct test_vm *vm = vm_that_sets_tsc();
	struct pmig_state *state = test_vm_save(vm);
	struct pmig_kvm_tsc_item *tsc;
	uint64_t now, passed_ns;

	foreign_tsc(state, "kvm/vcpu1/tsc", ago_ns);
	tsc = foreign_tsc(state, "kvm/vcpu0/tsc", ago_ns);
	test_vm_load(vm, state);
	now = test_vcpu_msr(vm, 0, MSR_TSC);
	CHECK(now >= tsc->tsc);
	passed_ns = (now - tsc->tsc) * 1000000 / tsc->tsc_khz;
	CHECK(passed_ns >= expected_ns && passed_ns < expected_ns + NS_PER_S);
	pmig_state_free(state);
	test_vm_free(vm);
}

static void test_tsc_between_hosts(void)
{
	check_tsc_between_hosts(0, 0);
	check_tsc_between_hosts(10 * NS_PER_S, 10 * NS_PER_S);
	check_tsc_between_hosts(-3600 * (int64_t)NS_PER_S, 0);
}

/* vCPUs that the guest had set apart by some seconds stay so. */
static void check_distance(int64_t ahead_s)
{
	struct test_vm *vm = vm_that_sets_tsc();
	struct pmig_state *state = test_vm_save(vm);
	struct pmig_kvm_tsc_item *first, *second;
	int64_t ahead, distance;

	first = foreign_tsc(state, "kvm/vcpu0/tsc", 0);
	second = foreign_tsc(state, "kvm/vcpu1/tsc", 0);
	ahead = ahead_s * first->tsc_khz * 1000;
	first->flags = second->flags = PMIG_KVM_TSC_OFFSET_VALID;
	first->tsc = 1ULL << 60;
	second->tsc = first->tsc + ahead;
	second->offset = first->offset + ahead;
	test_vm_load(vm, state);
	distance = test_vcpu_msr(vm, 1, MSR_TSC) -
		   test_vcpu_msr(vm, 0, MSR_TSC) - ahead;
	CHECK(llabs(distance) < first->tsc_khz * 500LL);
	pmig_state_free(state);
	test_vm_free(vm);
}

static void test_distances_between_vcpus(void)
{
	check_distance(0);
	check_distance(5);
	check_distance(-5);
}

/* A source that cannot tell offsets: all get the counter that was furthest. */
static void test_vcpus_without_offsets(void)
{
	struct test_vm *vm = vm_that_sets_tsc();
	struct pmig_state *state = test_vm_save(vm);
	struct pmig_kvm_tsc_item *first, *second;
	uint64_t furthest;

	first = test_state_contents(state, "kvm/vcpu0/tsc");
	second = test_state_contents(state, "kvm/vcpu1/tsc");
	first->flags = second->flags = 0;
	first->tsc = 1ULL << 60;
	furthest = second->tsc = first->tsc + 20 * 1000 * first->tsc_khz;
	test_vm_load(vm, state);
	CHECK(test_vcpu_msr(vm, 0, MSR_TSC) >= furthest);
	CHECK(test_vcpu_msr(vm, 1, MSR_TSC) >= furthest);
	pmig_state_free(state);
	test_vm_free(vm);
}

/* Where KVM does not set it, a counter that would go back is refused. */
static void test_tsc_that_cannot_be_set(void)
{
	struct pmig_kvm_tsc_item *tsc;
	struct pmig_state *state;
	struct test_vm *vm;
	char *skipped;

	if (sets_tsc())
		UNIT_SKIP("this KVM backend offsets a guest's TSC, nothing is "
			  "missing");
	vm = test_vm_new(1, TEST_VM_FULL);
	state = test_vm_save(vm);
	tsc = test_state_contents(state, "kvm/vcpu0/tsc");
	tsc->tsc += 1ULL << 60;
	CHECK_EQ(pmig_kvm_load(&vm->kvm, state, NULL, &err), -ENOTSUP);
	CHECK(strstr(err.message, "would go back"));
	tsc->tsc = 1;
	CHECK_OK(pmig_kvm_load(&vm->kvm, state, &skipped, &err), err);
	CHECK(skipped && strstr(skipped, "vCPU 0: TSC: this host"));
	pmig_string_free(skipped);
	pmig_state_free(state);
	test_vm_free(vm);
}

static void test_frequency_that_this_host_lacks(void)
{
	struct pmig_kvm_tsc_item *tsc;
	struct pmig_state *state;
	struct test_vm *vm;

	if (test_host_has(KVM_CAP_TSC_CONTROL))
		UNIT_SKIP("this host can scale a TSC (KVM_CAP_TSC_CONTROL), "
			  "nothing is missing");
	vm = test_vm_new(1, TEST_VM_FULL);
	state = test_vm_save(vm);
	tsc = test_state_contents(state, "kvm/vcpu0/tsc");
	tsc->tsc_khz += tsc->tsc_khz / 10000; /* 100 ppm */
	test_vm_load(vm, state);
	tsc->tsc_khz += tsc->tsc_khz / 1000; /* 1000 ppm */
	CHECK_EQ(pmig_kvm_load(&vm->kvm, state, NULL, &err), -ENOTSUP);
	CHECK(strstr(err.message, "KVM_CAP_TSC_CONTROL"));
	pmig_state_free(state);
	test_vm_free(vm);
}

int main(void)
{
	return unit_run((struct unit_test[]){
		UNIT(test_deadline_ahead),
		UNIT(test_deadline_that_passed_before_the_save),
		UNIT(test_deadline_that_passes_between_save_and_load),
		UNIT(test_deadline_that_passes_during_the_save),
		UNIT(test_timer_of_a_rehearsal_is_gone),
		UNIT(test_one_shot_timer),
		UNIT(test_guest_tsc_counts_on),
		UNIT(test_kvmclock_counts_on),
		UNIT(test_guest_sees_its_kvmclock_go_on),
		UNIT(test_kvmclock_between_hosts),
		UNIT(test_tsc_between_hosts),
		UNIT(test_distances_between_vcpus),
		UNIT(test_vcpus_without_offsets),
		UNIT(test_tsc_that_cannot_be_set),
		UNIT(test_frequency_that_this_host_lacks),
		UNIT_END,
	});
}
