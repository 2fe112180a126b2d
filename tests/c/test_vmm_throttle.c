/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Throttling: who is held back, by how much, and what stays as it was.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "unit.h"
#include "vmm/vmm.h"

#define NS_PER_MS 1000000ull

/* Generous: a guest may be interpreted, on an emulated processor. */
#define TIMEOUT_MS 60000

enum {
	WINDOWS = 4,
	PAUSES = 31,
};

static const uint32_t backends[] = {PVMM_BACKEND_KVM, PVMM_BACKEND_THREADS};

static struct pmig_error err;

static struct pvmm *machine(uint32_t backend, uint32_t program)
{
	const struct pvmm_config config = {
		.struct_size = sizeof(config),
		.flags = PVMM_POPULATE | PVMM_UNLIMITED,
		.memory_bytes = 8 << 20,
		.working_set_bytes = 1 << 20,
		.n_vcpus = 2,
		.backend = backend,
		.backing = PVMM_BACKING_MEMFD,
		.program = program,
		.content = PVMM_CONTENT_UNTOUCHED,
	};
	struct pvmm *vm;
	int rc = pvmm_new(&config, &vm, &err);

	if (rc == -ENODEV)
		UNIT_SKIP("%s", err.message);
	CHECK_OK(rc, err);
	return vm;
}

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static uint64_t now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

static void pass_ms(long ms)
{
	const struct timespec time = {.tv_nsec = ms * 1000000};

	nanosleep(&time, NULL);
}

static uint64_t steps_of(const struct pvmm *vm)
{
	struct pvmm_heartbeat beat;
	uint64_t steps = 0;

	for (uint32_t i = 0; !pvmm_heartbeat(vm, i, &beat); i++)
		steps += beat.steps;
	return steps;
}

static struct pvmm_throttled throttled(struct pvmm *vm)
{
	struct pvmm_throttled state;

	pvmm_throttled(vm, &state);
	return state;
}

static void wait_until_free(struct pvmm *vm)
{
	uint64_t end_ns = now_ns() + TIMEOUT_MS * NS_PER_MS;

	while (throttled(vm).held_back_vcpus) {
		CHECK(now_ns() < end_ns);
		pass_ms(1);
	}
}

static void wait_for_waits(struct pvmm *vm, uint64_t n)
{
	uint64_t end_ns = now_ns() + TIMEOUT_MS * NS_PER_MS;

	while (throttled(vm).waits < n) {
		CHECK(now_ns() < end_ns);
		pass_ms(1);
	}
}

/**
 * struct pace - what a machine did in some time
 * @steps_per_ms: of the guest programs
 * @cpus:	processors that this process kept busy
 */
struct pace {
	double steps_per_ms;
	double cpus;
};

static void add_pace(struct pvmm *vm, uint32_t percent, struct pace *pace)
{
	uint64_t wall_ns, cpu_ns, steps;

	CHECK_OK(pvmm_throttle(vm, percent, &err), err);
	wall_ns = clock_ns(CLOCK_MONOTONIC);
	cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	steps = steps_of(vm);
	pass_ms(150);
	wall_ns = clock_ns(CLOCK_MONOTONIC) - wall_ns;
	cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu_ns;
	pace->steps_per_ms += (double)(steps_of(vm) - steps) *
			      (double)NS_PER_MS / (double)wall_ns / WINDOWS;
	pace->cpus += (double)cpu_ns / (double)wall_ns / WINDOWS;
}

/*
 * Two vCPUs that may run a tenth of the time are 0.2 processors. How much
 * slower the guest is than one that runs freely shows only where others left
 * it the processors to run freely.
 */
static void check_share(uint32_t backend)
{
	struct pvmm *vm = machine(backend, PVMM_PROGRAM_SWEEP);
	struct pace freely = {0}, held = {0};
	struct pvmm_oracle oracle;

	CHECK_OK(pvmm_resume(vm, &err), err);
	CHECK_OK(pvmm_wait_device_reads(vm, 2, TIMEOUT_MS, &err), err);
	for (int i = 0; i < WINDOWS; i++) {
		add_pace(vm, 0, &freely);
		add_pace(vm, 90, &held);
	}
	printf("# %.0f steps/ms on %.2f CPUs, %.0f on %.2f when throttled\n",
	       freely.steps_per_ms, freely.cpus, held.steps_per_ms, held.cpus);
	CHECK(held.cpus < 0.5);
	CHECK(held.steps_per_ms > 0);
	if (freely.cpus > 1.2)
		CHECK(held.steps_per_ms < 0.5 * freely.steps_per_ms);
	CHECK_EQ(throttled(vm).percent, 90);
	CHECK_EQ(throttled(vm).held_back_vcpus, 2);
	CHECK_OK(pvmm_pause(vm, &err), err);
	CHECK_OK(pvmm_oracle(vm, 0, &oracle, &err), err);
	if (!oracle.ok)
		UNIT_FAIL("%s", oracle.message);
	pvmm_free(vm);
}

static void test_share_kvm(void)
{
	check_share(PVMM_BACKEND_KVM);
}

static void test_share_threads(void)
{
	check_share(PVMM_BACKEND_THREADS);
}

/* Who does not write runs freely. */
static void test_idle_is_left_alone(void)
{
	for (int i = 0; i < 2; i++) {
		struct pvmm *vm = machine(backends[i], PVMM_PROGRAM_IDLE);

		CHECK_OK(pvmm_throttle(vm, 99, &err), err);
		CHECK_OK(pvmm_resume(vm, &err), err);
		CHECK_OK(pvmm_wait_device_reads(vm, 4, TIMEOUT_MS, &err), err);
		CHECK_EQ(throttled(vm).waits, 0);
		CHECK_EQ(throttled(vm).held_back_vcpus, 0);
		pvmm_free(vm);
	}
}

/* A guest inside KVM_RUN that never leaves it by itself is held back too. */
static void test_takes_effect_while_running(void)
{
	for (int i = 0; i < 2; i++) {
		struct pvmm *vm = machine(backends[i], PVMM_PROGRAM_SWEEP);
		uint64_t waits;

		CHECK_OK(pvmm_resume(vm, &err), err);
		CHECK_OK(pvmm_wait_device_reads(vm, 1, TIMEOUT_MS, &err), err);
		CHECK_EQ(throttled(vm).waits, 0);
		CHECK_OK(pvmm_throttle(vm, 50, &err), err);
		wait_for_waits(vm, 6);
		CHECK(throttled(vm).waited_ns > 0);
		CHECK_OK(pvmm_throttle(vm, 0, &err), err);
		wait_until_free(vm);
		waits = throttled(vm).waits;
		CHECK_OK(pvmm_wait_device_reads(vm, 2, TIMEOUT_MS, &err), err);
		CHECK_EQ(throttled(vm).waits, waits);
		CHECK_EQ(throttled(vm).held_back_vcpus, 0);
		pvmm_free(vm);
	}
}

static int by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static uint64_t median_pause_ns(struct pvmm *vm)
{
	uint64_t took_ns[PAUSES];

	for (int i = 0; i < PAUSES; i++) {
		CHECK_OK(pvmm_resume(vm, &err), err);
		pass_ms(1 + i % 11);
		took_ns[i] = now_ns();
		CHECK_OK(pvmm_pause(vm, &err), err);
		took_ns[i] = now_ns() - took_ns[i];
	}
	qsort(took_ns, PAUSES, sizeof(*took_ns), by_size);
	return took_ns[PAUSES / 2];
}

/* A pause ends the wait, of which 5 ms would be left on average. */
static void test_pause_does_not_wait(void)
{
	for (int i = 0; i < 2; i++) {
		struct pvmm *vm = machine(backends[i], PVMM_PROGRAM_SWEEP);
		uint64_t freely_ns, held_ns;

		CHECK_OK(pvmm_resume(vm, &err), err);
		CHECK_OK(pvmm_wait_device_reads(vm, 1, TIMEOUT_MS, &err), err);
		CHECK_OK(pvmm_pause(vm, &err), err);
		freely_ns = median_pause_ns(vm);
		CHECK_OK(pvmm_throttle(vm, 99, &err), err);
		held_ns = median_pause_ns(vm);
		CHECK(throttled(vm).waits > 0);
		CHECK(held_ns < freely_ns + 3 * NS_PER_MS);
		pvmm_free(vm);
	}
}

static void test_impossible_percent(void)
{
	struct pvmm *vm = machine(PVMM_BACKEND_THREADS, PVMM_PROGRAM_SWEEP);

	CHECK_EQ(pvmm_throttle(vm, 100, &err), -EINVAL);
	CHECK(strstr(err.message, "0 to 99"));
	CHECK_EQ(throttled(vm).percent, 0);
	pvmm_free(vm);
}

int main(void)
{
	return unit_run((struct unit_test[]){
		UNIT(test_share_kvm), UNIT(test_share_threads),
		UNIT(test_idle_is_left_alone),
		UNIT(test_takes_effect_while_running),
		UNIT(test_pause_does_not_wait), UNIT(test_impossible_percent),
		UNIT_END});
}
