/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vmm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "vmm/content.h"
#include "vmm/error.h"
#include "vmm/mailbox.h"
#include "vmm/vm.h"

static int make_backend(struct pvmm *vm, struct pmig_error *err)
{
	bool kvm = pvmm_is_kvm(vm);
	int rc;

	rc = kvm ? pvmm_kvm_new(vm, err) : pvmm_writers_new(vm, err);
	if (rc)
		return rc;
	return pvmm_runner_start(&vm->runner, vm,
				 kvm ? &pvmm_vcpu_ops : &pvmm_writer_ops,
				 vm->plan.config.n_vcpus, err);
}

static int populate(struct pvmm *vm, struct pmig_error *err)
{
	int rc = pvmm_content_open(vm, err);

	if (rc)
		return rc;
	pvmm_content_fill(vm);
	pvmm_content_close(vm);
	pvmm_mailbox_fill(vm);
	if (pvmm_is_kvm(vm))
		return pvmm_boot(vm, err);
	pvmm_writers_boot(vm);
	return 0;
}

int pvmm_new(const struct pvmm_config *config, struct pvmm **out,
	     struct pmig_error *err)
{
	struct pvmm *vm = calloc(1, sizeof(*vm));
	int rc;

	if (!vm)
		return pvmm_fail(err, -ENOMEM, "no memory for a machine");
	pvmm_kvm_init(&vm->kvm);
	pvmm_writers_init(&vm->writers);
	rc = pvmm_plan(config, &vm->plan, err);
	if (rc)
		goto free_vm;
	rc = pvmm_ram_new(&vm->ram, &vm->plan.config, err);
	if (rc)
		goto free_vm;
	rc = pvmm_track_init(&vm->track, &vm->plan, err);
	if (rc)
		goto free_ram;
	pvmm_devices_init(&vm->devices, vm->plan.config.n_vcpus);
	rc = make_backend(vm, err);
	if (!rc && vm->plan.config.flags & PVMM_POPULATE)
		rc = populate(vm, err);
	if (rc) {
		pvmm_free(vm);
		return rc;
	}
	*out = vm;
	return 0;

free_ram:
	pvmm_ram_free(&vm->ram);
free_vm:
	free(vm);
	return rc;
}

void pvmm_free(struct pvmm *vm)
{
	if (!vm)
		return;
	pvmm_runner_stop(&vm->runner);
	pvmm_throttle_free(&vm->throttle);
	pvmm_writers_free(&vm->writers);
	pvmm_kvm_free(&vm->kvm);
	pvmm_devices_destroy(&vm->devices);
	pvmm_track_destroy(&vm->track);
	pvmm_ram_free(&vm->ram);
	free(vm);
}

struct pmig_memory *pvmm_memory(const struct pvmm *vm)
{
	return vm->ram.memory;
}

void *pvmm_ram(const struct pvmm *vm)
{
	return vm->ram.base;
}

const struct pmig_kvm *pvmm_kvm(const struct pvmm *vm)
{
	return pvmm_is_kvm(vm) ? &vm->kvm.api : NULL;
}

int pvmm_pause(struct pvmm *vm, struct pmig_error *err)
{
	(void)err;
	pvmm_runner_pause(&vm->runner);
	return 0;
}

int pvmm_resume(struct pvmm *vm, struct pmig_error *err)
{
	return pvmm_runner_resume(&vm->runner, err);
}

void pvmm_status(struct pvmm *vm, struct pvmm_status *status)
{
	struct pvmm_runner *runner = &vm->runner;

	*status = (struct pvmm_status){.struct_size = sizeof(*status)};
	pthread_mutex_lock(&runner->lock);
	status->running = runner->running;
	status->stopped_vcpus = runner->n_stopped;
	status->kicks = runner->n_kicks;
	if (runner->n_stopped)
		memcpy(status->message, runner->first_stop.message,
		       sizeof(status->message) - 1);
	pthread_mutex_unlock(&runner->lock);
	pthread_mutex_lock(&vm->track.lock);
	status->ring_full_exits = vm->track.n_ring_full;
	pthread_mutex_unlock(&vm->track.lock);
}

static struct timespec deadline_after(int timeout_ms)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	at.tv_sec += timeout_ms / 1000;
	at.tv_nsec += timeout_ms % 1000 * 1000000L;
	if (at.tv_nsec >= 1000000000L) {
		at.tv_sec++;
		at.tv_nsec -= 1000000000L;
	}
	return at;
}

static bool any_stopped(struct pvmm *vm)
{
	bool stopped;

	pthread_mutex_lock(&vm->runner.lock);
	stopped = vm->runner.n_stopped != 0;
	pthread_mutex_unlock(&vm->runner.lock);
	return stopped;
}

int pvmm_wait_device_reads(struct pvmm *vm, uint64_t n, int timeout_ms,
			   struct pmig_error *err)
{
	struct pvmm_devices *devices = &vm->devices;
	struct timespec at = deadline_after(timeout_ms);
	uint64_t target;
	bool enough;
	int rc = 0;

	pthread_mutex_lock(&devices->lock);
	target = devices->n_reads + n;
	while (devices->n_reads < target && !any_stopped(vm) && !rc)
		rc = pthread_cond_timedwait(&devices->changed, &devices->lock,
					    &at);
	enough = devices->n_reads >= target;
	pthread_mutex_unlock(&devices->lock);
	if (enough)
		return 0;
	if (rc)
		return pvmm_fail(err, -ETIMEDOUT,
				 "the guest read the sequencer less than %llu "
				 "times within %d ms",
				 (unsigned long long)n, timeout_ms);
	return pvmm_fail(err, -EIO, "a vCPU has stopped: %s",
			 vm->runner.first_stop.message);
}

size_t pvmm_serial(struct pvmm *vm, char *buffer, size_t size_bytes)
{
	struct pvmm_serial *serial = &vm->devices.serial;
	uint64_t end;
	size_t n;

	pthread_mutex_lock(&vm->devices.lock);
	end = serial->n_bytes;
	n = end < PVMM_SERIAL_BYTES ? (size_t)end : PVMM_SERIAL_BYTES;
	if (n > size_bytes)
		n = size_bytes;
	for (size_t i = 0; i < n; i++)
		buffer[i] =
			(char)serial->ring[(end - n + i) % PVMM_SERIAL_BYTES];
	pthread_mutex_unlock(&vm->devices.lock);
	return n;
}

uint64_t pvmm_serial_bytes(struct pvmm *vm)
{
	uint64_t n_bytes;

	pthread_mutex_lock(&vm->devices.lock);
	n_bytes = vm->devices.serial.n_bytes;
	pthread_mutex_unlock(&vm->devices.lock);
	return n_bytes;
}
