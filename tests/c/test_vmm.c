/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_vmm.c - the reference VMM: its guests, its oracle, its state
 */
#include <dirent.h>
#include <errno.h>
#include <linux/kvm.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include "unit.h"
#include "vmm/layout.h"
#include "vmm/vmm.h"

#define MEMORY_BYTES	  (8ull << 20)
#define WORKING_SET_BYTES (256ull << 10)
#define PAGE		  4096ull

/* Generous: a guest may be interpreted, on an emulated processor. */
#define TIMEOUT_MS 60000

static const uint32_t programs[] = {
	PVMM_PROGRAM_SWEEP,   PVMM_PROGRAM_RANDOM, PVMM_PROGRAM_READ,
	PVMM_PROGRAM_PARTIAL, PVMM_PROGRAM_IDLE,
};

#define N_PROGRAMS (sizeof(programs) / sizeof(programs[0]))

static struct pvmm_config config_for(uint32_t backend, uint32_t program)
{
	return (struct pvmm_config){
		.struct_size = sizeof(struct pvmm_config),
		.flags = PVMM_POPULATE | PVMM_UNLIMITED,
		.memory_bytes = MEMORY_BYTES,
		.working_set_bytes = WORKING_SET_BYTES,
		.seed = 11,
		.n_vcpus = 2,
		.backend = backend,
		.backing = PVMM_BACKING_MEMFD,
		.program = program,
		.content = PVMM_CONTENT_MIXED,
	};
}

static struct pvmm *machine(const struct pvmm_config *config)
{
	struct pmig_error err = {0};
	struct pvmm *vm = NULL;
	int rc = pvmm_new(config, &vm, &err);

	if (rc == -ENODEV)
		UNIT_SKIP("%s", err.message);
	CHECK_OK(rc, err);
	return vm;
}

static void run_until(struct pvmm *vm, uint64_t n_reads)
{
	struct pmig_error err = {0};

	CHECK_OK(pvmm_resume(vm, &err), err);
	CHECK_OK(pvmm_wait_device_reads(vm, n_reads, TIMEOUT_MS, &err), err);
	CHECK_OK(pvmm_pause(vm, &err), err);
}

static struct pvmm_oracle ask(struct pvmm *vm)
{
	struct pvmm_oracle oracle = {.struct_size = sizeof(oracle)};
	struct pmig_error err = {0};

	CHECK_OK(pvmm_oracle(vm, PVMM_ORACLE_CONTENT, &oracle, &err), err);
	return oracle;
}

static struct pvmm_oracle check_right(struct pvmm *vm)
{
	struct pvmm_oracle oracle = ask(vm);

	if (!oracle.ok)
		UNIT_FAIL("%s", oracle.message);
	CHECK_EQ(oracle.counters_checked, WORKING_SET_BYTES / PAGE);
	CHECK(oracle.content_checked > 0);
	return oracle;
}

static void check_every_program(uint32_t backend, uint32_t n_vcpus)
{
	for (size_t i = 0; i < N_PROGRAMS; i++) {
		struct pvmm_config config = config_for(backend, programs[i]);
		uint64_t before = 0;
		struct pvmm *vm;

		config.n_vcpus = n_vcpus;
		vm = machine(&config);
		for (int round = 0; round < 2; round++) {
			struct pvmm_oracle oracle;

			run_until(vm, 2);
			oracle = check_right(vm);
			CHECK(programs[i] == PVMM_PROGRAM_IDLE ||
			      oracle.steps > before);
			before = oracle.steps;
		}
		pvmm_free(vm);
	}
}

static void test_programs_under_kvm(void)
{
	check_every_program(PVMM_BACKEND_KVM, 1);
	check_every_program(PVMM_BACKEND_KVM, 4);
}

static void test_programs_as_threads(void)
{
	check_every_program(PVMM_BACKEND_THREADS, 1);
	check_every_program(PVMM_BACKEND_THREADS, 4);
}

/* The guest's timer: a paced guest does what it was told, and no more. */
static void check_pace(uint32_t backend)
{
	struct pvmm_config config = config_for(backend, PVMM_PROGRAM_SWEEP);
	struct pvmm_heartbeat beat;
	struct pvmm *vm;
	uint64_t most;

	config.flags = PVMM_POPULATE;
	config.rate_pages_per_s = 2500;
	config.tick_hz = 100;
	vm = machine(&config);
	run_until(vm, 6);
	check_right(vm);
	CHECK_EQ(pvmm_heartbeat(vm, 0, &beat), 0);
	/* 2500 pages a second on 2 vCPUs at 100 Hz: 12.5 for each beat. */
	most = beat.count * 25 / 2;
	CHECK(beat.steps <= most);
	CHECK(beat.steps + 13 >= most);
	pvmm_free(vm);
}

static void test_pace(void)
{
	check_pace(PVMM_BACKEND_THREADS);
	check_pace(PVMM_BACKEND_KVM);
}

/*
 * A page that the guest has written since before was copied, or NULL. Not
 * one whose last write could just as well not have happened yet: the page in
 * flight, or a page that a sweep has passed once.
 */
static uint8_t *find_written(struct pvmm *vm, const uint8_t *before, bool sweep)
{
	uint8_t *ram = pvmm_ram(vm);

	for (uint64_t at = PVMM_LOW_BYTES; at < MEMORY_BYTES; at += PAGE) {
		const uint64_t *then = (const uint64_t *)(before + at);
		const uint64_t *now = (const uint64_t *)(ram + at);
		uint64_t inflight =
			*pvmm_word(ram + PVMM_VCPU_AREA, M_INFLIGHT);

		/* In the working set pages know their number. */
		if (now[1] == (at / PAGE ^ PVMM_IDENTITY) && at != inflight &&
		    now[0] > then[0] + sweep)
			return ram + at;
	}
	return NULL;
}

/* Put one page back to an older version: every oracle must notice. */
static void check_lost_page(uint32_t backend)
{
	static uint8_t before[MEMORY_BYTES], newer[PAGE];

	for (size_t i = 0; i < N_PROGRAMS; i++) {
		struct pvmm_config config = config_for(backend, programs[i]);
		uint8_t *page = NULL;
		struct pvmm *vm;

		if (programs[i] == PVMM_PROGRAM_IDLE)
			continue;
		config.n_vcpus = 1;
		vm = machine(&config);
		run_until(vm, 1);
		memcpy(before, pvmm_ram(vm), MEMORY_BYTES);
		while (!page) {
			run_until(vm, 1);
			page = find_written(vm, before,
					    programs[i] == PVMM_PROGRAM_SWEEP);
		}
		check_right(vm);
		memcpy(newer, page, PAGE);
		memcpy(page, before + (page - (uint8_t *)pvmm_ram(vm)), PAGE);
		CHECK(!ask(vm).ok);
		memcpy(page, newer, PAGE);
		check_right(vm);
		pvmm_free(vm);
	}
}

static void test_lost_page_is_found(void)
{
	check_lost_page(PVMM_BACKEND_THREADS);
	check_lost_page(PVMM_BACKEND_KVM);
}

/* All of memory as it was earlier, but registers and devices of now. */
static void test_old_memory_is_found(void)
{
	static uint8_t before[MEMORY_BYTES];
	struct pvmm_config config =
		config_for(PVMM_BACKEND_THREADS, PVMM_PROGRAM_SWEEP);
	struct pvmm *vm = machine(&config);

	run_until(vm, 1);
	memcpy(before, pvmm_ram(vm), MEMORY_BYTES);
	run_until(vm, 8);
	memcpy(pvmm_ram(vm), before, MEMORY_BYTES);
	CHECK(!ask(vm).ok);
	pvmm_free(vm);
}

static void test_changed_content_is_found(void)
{
	struct pvmm_config config =
		config_for(PVMM_BACKEND_THREADS, PVMM_PROGRAM_SWEEP);
	struct pvmm *vm = machine(&config);
	uint8_t *last = (uint8_t *)pvmm_ram(vm) + MEMORY_BYTES - 1;

	run_until(vm, 1);
	*last ^= 1;
	CHECK(!ask(vm).ok);
	*last ^= 1;
	check_right(vm);
	pvmm_free(vm);
}

/* Carry a machine to another one: memory by memcpy, the rest by its state. */
static struct pvmm *carry(struct pvmm *vm, struct pvmm_config config)
{
	struct pmig_error err = {0};
	struct pmig_state *state;
	struct pvmm *to;
	char *skipped;

	config.flags &= ~(uint32_t)PVMM_POPULATE;
	to = machine(&config);
	CHECK_OK(pvmm_save(vm, &state, &err), err);
	/* A rehearsal first: state without memory. */
	CHECK_OK(pvmm_load(to, state, &skipped, &err), err);
	pmig_string_free(skipped);
	memcpy(pvmm_ram(to), pvmm_ram(vm), MEMORY_BYTES);
	CHECK_OK(pvmm_load(to, state, &skipped, &err), err);
	pmig_string_free(skipped);
	pmig_state_free(state);
	CHECK_OK(pvmm_before_run(to, &err), err);
	return to;
}

static void check_carry(uint32_t backend)
{
	for (size_t i = 0; i < N_PROGRAMS; i++) {
		struct pvmm_config config = config_for(backend, programs[i]);
		struct pvmm_heartbeat before, after;
		struct pvmm *from, *to;

		/* Both a guest that halts and one that never does. */
		if (programs[i] == PVMM_PROGRAM_RANDOM)
			config.flags &= ~(uint32_t)PVMM_UNLIMITED;
		config.rate_pages_per_s = 20000;
		from = machine(&config);
		run_until(from, 1);
		for (int hop = 0; hop < 2; hop++) {
			pvmm_heartbeat(from, 0, &before);
			to = carry(from, config);
			pvmm_free(from);
			run_until(to, 2);
			check_right(to);
			pvmm_heartbeat(to, 0, &after);
			CHECK(after.count >= before.count);
			CHECK(after.last_tsc >= before.last_tsc);
			CHECK(pvmm_longest_gap_ns(to) > 0);
			from = to;
		}
		pvmm_free(from);
	}
}

static void test_state_continues_in_another_machine(void)
{
	check_carry(PVMM_BACKEND_THREADS);
	check_carry(PVMM_BACKEND_KVM);
}

static void test_state_of_another_machine_is_refused(void)
{
	struct pvmm_config config =
		config_for(PVMM_BACKEND_THREADS, PVMM_PROGRAM_SWEEP);
	struct pmig_error err = {0};
	struct pmig_state *state;
	struct pvmm *from, *to;

	from = machine(&config);
	CHECK_OK(pvmm_save(from, &state, &err), err);
	config.n_vcpus = 1;
	to = machine(&config);
	CHECK_EQ(pvmm_load(to, state, NULL, &err), -EINVAL);
	CHECK(strstr(err.message, "n_vcpus"));
	CHECK_OK(pmig_state_add(state, "vmm/novelty", 1, 0, "x", 1, &err), err);
	CHECK_EQ(pvmm_load(from, state, NULL, &err), -ENOTSUP);
	CHECK(strstr(err.message, "vmm/novelty"));
	pmig_state_free(state);
	pvmm_free(to);
	pvmm_free(from);
}

static void test_skippable_items_are_skipped(void)
{
	struct pvmm_config config =
		config_for(PVMM_BACKEND_THREADS, PVMM_PROGRAM_SWEEP);
	struct pmig_error err = {0};
	struct pmig_state *state;
	struct pvmm *vm = machine(&config);

	CHECK_OK(pvmm_save(vm, &state, &err), err);
	CHECK_OK(pmig_state_add(state, "vmm/novelty", 1, PMIG_ITEM_SKIPPABLE,
				"x", 1, &err),
		 err);
	CHECK_OK(pvmm_load(vm, state, NULL, &err), err);
	pmig_state_free(state);
	pvmm_free(vm);
}

/* A sequencer that goes back in time is a lost device state. */
static void test_lost_device_state_is_found(void)
{
	struct pvmm_config config =
		config_for(PVMM_BACKEND_THREADS, PVMM_PROGRAM_IDLE);
	struct pmig_error err = {0};
	struct pmig_state *state;
	struct pvmm *vm = machine(&config), *to;

	config.flags = PVMM_POPULATE;
	pvmm_free(vm);
	vm = machine(&config);
	run_until(vm, 2);
	CHECK_OK(pvmm_save(vm, &state, &err), err);
	run_until(vm, 2);
	to = machine(&config);
	memcpy(pvmm_ram(to), pvmm_ram(vm), MEMORY_BYTES);
	CHECK_OK(pvmm_load(to, state, NULL, &err), err);
	CHECK(!ask(to).ok);
	pmig_state_free(state);
	pvmm_free(to);
	pvmm_free(vm);
}

static void test_busy_while_running(void)
{
	struct pvmm_config config =
		config_for(PVMM_BACKEND_THREADS, PVMM_PROGRAM_SWEEP);
	struct pvmm_oracle oracle;
	struct pmig_error err = {0};
	struct pmig_state *state;
	struct pvmm *vm = machine(&config);

	CHECK_OK(pvmm_resume(vm, &err), err);
	CHECK_OK(pvmm_resume(vm, &err), err);
	CHECK_EQ(pvmm_save(vm, &state, &err), -EBUSY);
	CHECK_EQ(pvmm_oracle(vm, 0, &oracle, &err), -EBUSY);
	CHECK_EQ(pvmm_before_run(vm, &err), -EBUSY);
	CHECK_OK(pvmm_pause(vm, &err), err);
	CHECK_OK(pvmm_pause(vm, &err), err);
	check_right(vm);
	pvmm_free(vm);
}

/* Every backend says in words why a vCPU cannot go on. */
static void test_stopped_vcpu_is_reported(void)
{
	struct pvmm_config config =
		config_for(PVMM_BACKEND_KVM, PVMM_PROGRAM_SWEEP);
	struct pvmm_status status = {.struct_size = sizeof(status)};
	struct pmig_error err = {0};
	struct pvmm *vm;

	/* Nothing was loaded: RAM is zero and the vCPU in real mode. */
	config.flags = 0;
	config.n_vcpus = 1;
	vm = machine(&config);
	CHECK_OK(pvmm_resume(vm, &err), err);
	CHECK_EQ(pvmm_wait_device_reads(vm, 1, TIMEOUT_MS, &err), -EIO);
	CHECK_OK(pvmm_pause(vm, &err), err);
	pvmm_status(vm, &status);
	CHECK_EQ(status.stopped_vcpus, 1);
	CHECK(strstr(status.message, "vCPU 0"));
	CHECK_EQ(pvmm_resume(vm, &err), -EIO);
	CHECK(!ask(vm).ok);
	pvmm_free(vm);
}

/* Log writes behind the VMM's back: the ring fills and nobody empties it. */
static void test_full_ring_without_tracker_is_reported(void)
{
	struct pvmm_config config =
		config_for(PVMM_BACKEND_KVM, PVMM_PROGRAM_SWEEP);
	struct pvmm_status status = {.struct_size = sizeof(status)};
	struct kvm_userspace_memory_region slot = {
		.flags = KVM_MEM_LOG_DIRTY_PAGES,
		.memory_size = MEMORY_BYTES,
	};
	struct pmig_error err = {0};
	struct pvmm *vm;
	int rc;

	config.n_vcpus = 1;
	config.working_set_bytes = 5 << 20;
	config.tracker = PMIG_TRACKER_KVM_RING;
	config.ring_entries = 1024;
	rc = pvmm_new(&config, &vm, &err);
	if (rc == -ENODEV || rc == -ENOTSUP)
		UNIT_SKIP("%s", err.message);
	CHECK_OK(rc, err);
	slot.userspace_addr = (uintptr_t)pvmm_ram(vm);
	CHECK_EQ(ioctl(pvmm_kvm(vm)->vm_fd, KVM_SET_USER_MEMORY_REGION, &slot),
		 0);
	CHECK_OK(pvmm_resume(vm, &err), err);
	CHECK_EQ(pvmm_wait_device_reads(vm, 1000, TIMEOUT_MS, &err), -EIO);
	CHECK_OK(pvmm_pause(vm, &err), err);
	pvmm_status(vm, &status);
	CHECK(status.ring_full_exits > 0);
	CHECK(strstr(status.message, "dirty ring"));
	pvmm_free(vm);
}

/* RAM is one piece to the guest, though it lies around the hole. */
static void test_memory_above_the_hole(void)
{
	struct pvmm_config config =
		config_for(PVMM_BACKEND_KVM, PVMM_PROGRAM_IDLE);
	struct kvm_translation at = {.linear_address = PVMM_HOLE_START + 4096};
	struct pmig_region region;
	struct pvmm *vm;

	config.memory_bytes = PVMM_HOLE_START + (64 << 20);
	config.content = PVMM_CONTENT_UNTOUCHED;
	vm = machine(&config);
	CHECK_EQ(pmig_memory_regions(pvmm_memory(vm)), 2);
	CHECK_EQ(pmig_memory_region(pvmm_memory(vm), 1, &region), 0);
	CHECK_EQ(region.gpa, PVMM_HOLE_END);
	CHECK_EQ((uint8_t *)region.hva - (uint8_t *)pvmm_ram(vm),
		 PVMM_HOLE_START);
	CHECK_EQ(ioctl(pvmm_kvm(vm)->vcpu_fds[0], KVM_TRANSLATE, &at), 0);
	CHECK(at.valid);
	CHECK_EQ(at.physical_address, PVMM_HOLE_END + 4096);
	run_until(vm, 1);
	pvmm_free(vm);
}

static void test_impossible_configurations(void)
{
	struct pvmm_config good =
		config_for(PVMM_BACKEND_THREADS, PVMM_PROGRAM_SWEEP);
	const struct {
		const char *member;
		size_t offset;
		uint32_t value;
	} bad[] = {
		{"n_vcpus", offsetof(struct pvmm_config, n_vcpus), 0},
		{"n_vcpus", offsetof(struct pvmm_config, n_vcpus), 65},
		{"backend", offsetof(struct pvmm_config, backend), 0},
		{"backing", offsetof(struct pvmm_config, backing), 9},
		{"program", offsetof(struct pvmm_config, program), 6},
		{"content", offsetof(struct pvmm_config, content), 9},
		{"flags", offsetof(struct pvmm_config, flags), 64},
		{"tracker", offsetof(struct pvmm_config, tracker), 5},
		{"write_bytes", offsetof(struct pvmm_config, write_bytes), 12},
		{"tick_hz", offsetof(struct pvmm_config, tick_hz), 20000},
		{"ring_entries", offsetof(struct pvmm_config, ring_entries),
		 1000},
		{"memory_bytes", offsetof(struct pvmm_config, memory_bytes),
		 4096},
		{"working_set_bytes",
		 offsetof(struct pvmm_config, working_set_bytes), 8 << 20},
		{"working_set_bytes",
		 offsetof(struct pvmm_config, working_set_bytes), 4096},
		{"struct_size", offsetof(struct pvmm_config, struct_size), 8},
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct pvmm_config config = good;
		struct pmig_error err = {0};
		struct pvmm *vm;

		memcpy((char *)&config + bad[i].offset, &bad[i].value,
		       sizeof(bad[i].value));
		CHECK_EQ(pvmm_new(&config, &vm, &err), -EINVAL);
		if (!strstr(err.message, bad[i].member))
			UNIT_FAIL("'%s' does not name %s", err.message,
				  bad[i].member);
	}
}

static unsigned int count_entries(const char *path)
{
	DIR *directory = opendir(path);
	unsigned int n = 0;

	CHECK(directory);
	while (readdir(directory))
		n++;
	closedir(directory);
	return n;
}

/* A thread that was joined may still be listed for a moment. */
static unsigned int count_threads(unsigned int expected)
{
	const struct timespec pause = {.tv_nsec = 1000000};
	unsigned int n = count_entries("/proc/self/task");

	for (int i = 0; i < 5000 && n > expected; i++) {
		nanosleep(&pause, NULL);
		n = count_entries("/proc/self/task");
	}
	return n;
}

static void check_no_leak(uint32_t backend)
{
	struct pvmm_config config = config_for(backend, PVMM_PROGRAM_SWEEP);
	unsigned int n_fds, n_threads;

	pvmm_free(machine(&config));
	n_fds = count_entries("/proc/self/fd");
	n_threads = count_entries("/proc/self/task");
	config.content = PVMM_CONTENT_UNTOUCHED;
	for (int i = 0; i < 12; i++) {
		struct pmig_error err = {0};
		struct pvmm *vm = machine(&config);

		/* Freed while it runs, every other time. */
		if (i % 2)
			CHECK_OK(pvmm_resume(vm, &err), err);
		pvmm_free(vm);
	}
	CHECK_EQ(count_entries("/proc/self/fd"), n_fds);
	CHECK(count_threads(n_threads) <= n_threads);
}

static void test_nothing_leaks(void)
{
	check_no_leak(PVMM_BACKEND_THREADS);
	check_no_leak(PVMM_BACKEND_KVM);
}

int main(void)
{
	return unit_run((struct unit_test[]){
		UNIT(test_programs_as_threads),
		UNIT(test_programs_under_kvm),
		UNIT(test_pace),
		UNIT(test_lost_page_is_found),
		UNIT(test_old_memory_is_found),
		UNIT(test_changed_content_is_found),
		UNIT(test_state_continues_in_another_machine),
		UNIT(test_state_of_another_machine_is_refused),
		UNIT(test_skippable_items_are_skipped),
		UNIT(test_lost_device_state_is_found),
		UNIT(test_busy_while_running),
		UNIT(test_stopped_vcpu_is_reported),
		UNIT(test_full_ring_without_tracker_is_reported),
		UNIT(test_memory_above_the_hole),
		UNIT(test_impossible_configurations),
		UNIT(test_nothing_leaks),
		UNIT_END,
	});
}
