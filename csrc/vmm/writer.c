/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/writer.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "vmm/error.h"
#include "vmm/vm.h"

#define NS_PER_S 1000000000ull

/* Steps between two looks at whether to park. */
#define CHUNK_STEPS 256

/* Heartbeats that are read by others while they are written. */
#define GUEST_ACCESS __attribute__((no_sanitize("thread")))

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

uint64_t pvmm_writers_tsc(const struct pvmm_writers *writers)
{
	return clock_ns(CLOCK_MONOTONIC) + writers->clock_offset_ns;
}

void pvmm_writers_init(struct pvmm_writers *writers)
{
	memset(writers, 0, sizeof(*writers));
	for (int i = 0; i < PVMM_MAX_VCPUS; i++) {
		writers->kick_fds[i] = -1;
		writers->timer_fds[i] = -1;
	}
}

int pvmm_writers_new(struct pvmm *vm, struct pmig_error *err)
{
	struct pvmm_writers *writers = &vm->writers;

	for (uint32_t i = 0; i < vm->plan.config.n_vcpus; i++) {
		writers->kick_fds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		writers->timer_fds[i] = timerfd_create(
			CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
		if (writers->kick_fds[i] < 0 || writers->timer_fds[i] < 0)
			return pvmm_fail_errno(err,
					       "cannot make the timer of "
					       "writer %u",
					       i);
	}
	return 0;
}

void pvmm_writers_free(struct pvmm_writers *writers)
{
	for (int i = 0; i < PVMM_MAX_VCPUS; i++) {
		if (writers->kick_fds[i] >= 0)
			close(writers->kick_fds[i]);
		if (writers->timer_fds[i] >= 0)
			close(writers->timer_fds[i]);
	}
	pvmm_writers_init(writers);
}

GUEST_ACCESS void pvmm_writers_boot(struct pvmm *vm)
{
	uint64_t now = pvmm_writers_tsc(&vm->writers);

	for (uint32_t i = 0; i < vm->plan.config.n_vcpus; i++) {
		void *mailbox = pvmm_mailbox(vm, i);

		vm->writers.registers[i] = (struct pvmm_registers){
			.random = *pvmm_word(mailbox, M_RANDOM),
			.sequence = i,
			.countdown = *pvmm_word(mailbox, M_COUNTDOWN),
			.deadline = now,
		};
		*pvmm_word(pvmm_heartbeat_page(vm, i), H_LAST) = now;
	}
}

GUEST_ACCESS static void keep_gap(void *page, uint64_t gap, uint64_t now)
{
	if (!*pvmm_word(page, H_FIRST_GAP))
		*pvmm_word(page, H_FIRST_GAP) = gap;
	if (gap <= *pvmm_word(page, H_MAX_GAP))
		return;
	*pvmm_word(page, H_MAX_GAP) = gap;
	*pvmm_word(page, H_MAX_GAP_AT) = now;
}

GUEST_ACCESS static void beat(struct pvmm *vm, uint32_t index)
{
	void *page = pvmm_heartbeat_page(vm, index);
	uint64_t now = pvmm_writers_tsc(&vm->writers);
	uint64_t last = *pvmm_word(page, H_LAST);

	*pvmm_word(page, H_LAST) = now;
	*pvmm_word(page, H_COUNT) = *pvmm_word(page, H_COUNT) + 1;
	if (now >= last)
		keep_gap(page, now - last, now);
	else
		*pvmm_word(page, H_BACKWARDS) =
			*pvmm_word(page, H_BACKWARDS) + 1;
}

GUEST_ACCESS static void access_device(struct pvmm *vm, uint32_t index)
{
	struct pvmm_registers *registers = &vm->writers.registers[index];
	void *page = pvmm_heartbeat_page(vm, index);
	uint32_t expected =
		(uint32_t)registers->sequence * PVMM_LCG_MULTIPLIER +
		PVMM_LCG_INCREMENT;
	uint8_t letter = (uint8_t)('a' + index % 26);
	uint64_t n_reads = *pvmm_word(page, H_DEVICE_READS) + 1;
	uint32_t number = 0;

	pvmm_port_read(&vm->devices, index, PVMM_PORT_SEQUENCE, &number,
		       sizeof(number));
	if (number != expected)
		*pvmm_word(page, H_DEVICE_ERRORS) =
			*pvmm_word(page, H_DEVICE_ERRORS) + 1;
	registers->sequence = number;
	pvmm_port_write(&vm->devices, index, PVMM_PORT_ECHO, &number,
			sizeof(number));
	*pvmm_word(page, H_DEVICE_READS) = n_reads;
	if (!(n_reads & 15))
		pvmm_port_write(&vm->devices, index, PVMM_PORT_SERIAL, &letter,
				sizeof(letter));
}

/* As next_tick in guest.S: the deadline, and the steps to do until then. */
static uint64_t next_tick(struct pvmm *vm, uint32_t index)
{
	struct pvmm_registers *registers = &vm->writers.registers[index];
	void *mailbox = pvmm_mailbox(vm, index);
	uint64_t now = pvmm_writers_tsc(&vm->writers);
	uint64_t tick = *pvmm_word(mailbox, M_TICK);
	uint64_t credit = registers->credit + *pvmm_word(mailbox, M_PER_TICK);

	registers->deadline += tick;
	if (now > registers->deadline &&
	    now - registers->deadline > *pvmm_word(mailbox, M_LATE))
		registers->deadline = now + tick;
	registers->credit = (uint32_t)credit;
	return credit >> 32;
}

/* Whoever takes kicks has to look at what they may be about. */
static void drain_kicks(const struct pvmm_writers *writers, uint32_t index)
{
	uint64_t kicks;

	(void)!read(writers->kick_fds[index], &kicks, sizeof(kicks));
}

static void wait_for_kick(struct pvmm_worker *worker, uint64_t ns)
{
	const struct pvmm_writers *writers = &worker->vm->writers;
	const struct timespec at_most = {
		.tv_sec = (time_t)(ns / NS_PER_S),
		.tv_nsec = (long)(ns % NS_PER_S),
	};
	struct pollfd fd = {
		.fd = writers->kick_fds[worker->index],
		.events = POLLIN,
	};

	(void)ppoll(&fd, 1, &at_most, NULL);
	drain_kicks(writers, worker->index);
}

/* A writer looks around every CHUNK_STEPS steps. */
static void no_alarm(struct pvmm_worker *worker, uint64_t ns)
{
	(void)worker;
	(void)ns;
}

/* Sleep until the deadline, or a kick. */
static void wait_for_tick(struct pvmm *vm, uint32_t index)
{
	struct pvmm_writers *writers = &vm->writers;
	struct pvmm_registers *registers = &writers->registers[index];
	uint64_t at = registers->deadline - writers->clock_offset_ns;
	struct itimerspec timer = {
		.it_value.tv_sec = (time_t)(at / NS_PER_S),
		.it_value.tv_nsec = (long)(at % NS_PER_S),
	};
	struct pollfd fds[2] = {
		{.fd = writers->timer_fds[index], .events = POLLIN},
		{.fd = writers->kick_fds[index], .events = POLLIN},
	};

	timerfd_settime(fds[0].fd, TFD_TIMER_ABSTIME, &timer, NULL);
	(void)poll(fds, 2, -1);
	drain_kicks(writers, index);
	if (pvmm_writers_tsc(writers) >= registers->deadline)
		registers->waiting = 0;
}

/* Begin a new batch: beat, sometimes use the device, count the steps. */
GUEST_ACCESS static void begin_batch(struct pvmm *vm, uint32_t index)
{
	struct pvmm_registers *registers = &vm->writers.registers[index];
	void *mailbox = pvmm_mailbox(vm, index);

	beat(vm, index);
	if (!--registers->countdown) {
		registers->countdown = *pvmm_word(mailbox, M_DEVICE_EVERY);
		access_device(vm, index);
	}
	if (*pvmm_word(mailbox, M_UNLIMITED))
		registers->left = *pvmm_word(mailbox, M_BATCH);
	else
		registers->left = next_tick(vm, index);
	*pvmm_word(mailbox, M_RUNNING) = registers->left;
	pvmm_track_log(&vm->track, PVMM_VCPU_AREA + index * PVMM_VCPU_STRIDE);
}

/* Do a part of the batch that is short enough to park after it. */
GUEST_ACCESS static void go_on(struct pvmm *vm, uint32_t index)
{
	struct pvmm_registers *registers = &vm->writers.registers[index];
	void *mailbox = pvmm_mailbox(vm, index);
	uint64_t n =
		registers->left < CHUNK_STEPS ? registers->left : CHUNK_STEPS;

	pvmm_program_run(vm, index, n);
	registers->left -= n;
	*pvmm_word(mailbox, M_STEPS) = *pvmm_word(mailbox, M_STEPS) + n;
	*pvmm_word(mailbox, M_RUNNING) = registers->left;
	registers->waiting =
		!registers->left && !*pvmm_word(mailbox, M_UNLIMITED);
}

static int run_writer(struct pvmm_worker *worker, struct pmig_error *err)
{
	struct pvmm *vm = worker->vm;
	uint32_t index = worker->index;
	struct pvmm_registers *registers = &vm->writers.registers[index];

	(void)err;
	/* A kick that came after the last run had seen the flag. */
	drain_kicks(&vm->writers, index);
	pvmm_turn_begin(worker);
	while (!pvmm_worker_must_park(worker)) {
		if (pvmm_turn_waited(worker))
			continue;
		if (registers->waiting) {
			wait_for_tick(vm, index);
			continue;
		}
		if (!registers->left)
			begin_batch(vm, index);
		go_on(vm, index);
	}
	return 0;
}

static void kick(struct pvmm_worker *worker)
{
	const uint64_t one = 1;

	(void)!write(worker->vm->writers.kick_fds[worker->index], &one,
		     sizeof(one));
}

const struct pvmm_backend_ops pvmm_writer_ops = {
	.name = "pvmm-writer",
	.run = run_writer,
	.kick = kick,
	.alarm = no_alarm,
	.wait = wait_for_kick,
};
