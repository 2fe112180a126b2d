/* SPDX-License-Identifier: Apache-2.0 */
#include "vcpu.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "unit.h"

/* KVM_RUN is interrupted this often, to look at the time. */
#define TICK_US	    20000
#define RUN_LIMIT_S 20

/* Where KVM keeps what it needs for real mode on Intel: not guest memory. */
#define TSS_GPA		 0xfffbd000
#define IDENTITY_MAP_GPA 0xfffbc000

/* The code of the interrupt handlers, 8 bytes each. */
#define HANDLERS 0x9000

static int must(int rc, const char *what)
{
	if (rc < 0)
		UNIT_FAIL("%s: %s", what, strerror(errno));
	return rc;
}

int test_vcpu_call(const struct test_vm *vm, uint32_t vcpu,
		   unsigned long request, void *arg)
{
	char what[64];

	snprintf(what, sizeof(what), "vCPU %u ioctl 0x%lx", vcpu, request);
	return must(ioctl(vm->vcpu_fds[vcpu], request, arg), what);
}

int test_vm_call(const struct test_vm *vm, unsigned long request, void *arg)
{
	char what[64];

	snprintf(what, sizeof(what), "VM ioctl 0x%lx", request);
	return must(ioctl(vm->kvm.vm_fd, request, arg), what);
}

static void open_kvm(struct test_vm *vm)
{
	vm->kvm.kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (vm->kvm.kvm_fd < 0) {
		free(vm);
		UNIT_SKIP("no /dev/kvm: %s", strerror(errno));
	}
	vm->kvm.vm_fd =
		must(ioctl(vm->kvm.kvm_fd, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
}

static void make_memory(struct test_vm *vm)
{
	struct kvm_userspace_memory_region region = {
		.memory_size = TEST_VM_MEMORY_BYTES,
	};

	vm->memory = mmap(NULL, TEST_VM_MEMORY_BYTES, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (vm->memory == MAP_FAILED)
		UNIT_FAIL("mmap: %s", strerror(errno));
	region.userspace_addr = (uintptr_t)vm->memory;
	test_vm_call(vm, KVM_SET_USER_MEMORY_REGION, &region);
}

static void make_chips(struct test_vm *vm)
{
	struct kvm_pit_config pit = {0};
	struct kvm_enable_cap split = {
		.cap = KVM_CAP_SPLIT_IRQCHIP,
		.args = {24},
	};
	uint64_t identity_map = IDENTITY_MAP_GPA;

	test_vm_call(vm, KVM_SET_IDENTITY_MAP_ADDR, &identity_map);
	test_vm_call(vm, KVM_SET_TSS_ADDR, (void *)TSS_GPA);
	if (vm->kvm.flags & PMIG_KVM_IRQCHIP)
		test_vm_call(vm, KVM_CREATE_IRQCHIP, NULL);
	if (vm->kvm.flags & PMIG_KVM_SPLIT_IRQCHIP)
		test_vm_call(vm, KVM_ENABLE_CAP, &split);
	if (vm->kvm.flags & PMIG_KVM_PIT)
		test_vm_call(vm, KVM_CREATE_PIT2, &pit);
}

/* The host's CPUID, with the vCPU's own APIC id and a deadline timer. */
static void set_cpuid(struct test_vm *vm, uint32_t vcpu)
{
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entries[256];
	} cpuid = {.head.nent = 256};

	must(ioctl(vm->kvm.kvm_fd, KVM_GET_SUPPORTED_CPUID, &cpuid),
	     "KVM_GET_SUPPORTED_CPUID");
	for (uint32_t i = 0; i < cpuid.head.nent; i++) {
		struct kvm_cpuid_entry2 *e = &cpuid.entries[i];

		if (e->function == 1) {
			e->ebx = (e->ebx & 0xffffff) | vcpu << 24;
			e->ecx |= 1 << 24;
		}
		if (e->function == 0xb)
			e->edx = vcpu;
	}
	test_vcpu_call(vm, vcpu, KVM_SET_CPUID2, &cpuid);
}

static void make_vcpu(struct test_vm *vm, uint32_t vcpu)
{
	vm->vcpu_fds[vcpu] =
		test_vm_call(vm, KVM_CREATE_VCPU, (void *)(uintptr_t)vcpu);
	vm->runs[vcpu] = mmap(NULL, vm->run_bytes, PROT_READ | PROT_WRITE,
			      MAP_SHARED, vm->vcpu_fds[vcpu], 0);
	if (vm->runs[vcpu] == MAP_FAILED)
		UNIT_FAIL("mmap of kvm_run: %s", strerror(errno));
	set_cpuid(vm, vcpu);
}

struct test_vm *test_vm_new(uint32_t n_vcpus, uint32_t flags)
{
	struct test_vm *vm = calloc(1, sizeof(*vm));
	struct pmig_error err;

	CHECK(vm && n_vcpus <= TEST_VM_VCPUS);
	vm->kvm = (struct pmig_kvm){
		.struct_size = sizeof(vm->kvm),
		.vcpu_fds = vm->vcpu_fds,
		.runs = vm->runs,
		.flags = flags,
	};
	open_kvm(vm);
	CHECK_OK(pmig_kvm_prepare(vm->kvm.kvm_fd, vm->kvm.vm_fd, &err), err);
	vm->run_bytes = must(ioctl(vm->kvm.kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0),
			     "KVM_GET_VCPU_MMAP_SIZE");
	make_memory(vm);
	make_chips(vm);
	for (uint32_t v = 0; v < n_vcpus; v++) {
		make_vcpu(vm, v);
		vm->kvm.n_vcpus++;
	}
	return vm;
}

void test_vm_free(struct test_vm *vm)
{
	for (uint32_t v = 0; v < vm->kvm.n_vcpus; v++) {
		munmap(vm->runs[v], vm->run_bytes);
		close(vm->vcpu_fds[v]);
	}
	munmap(vm->memory, TEST_VM_MEMORY_BYTES);
	close(vm->kvm.vm_fd);
	close(vm->kvm.kvm_fd);
	free(vm);
}

/* mov $vector, %al; out %al, $port; iret */
static void make_handler(struct test_vm *vm, uint8_t vector)
{
	uint16_t at = HANDLERS + vector * 8;
	const uint8_t code[] = {
		0xb0, vector, 0xe6, TEST_VM_VECTOR_PORT, 0xcf,
	};

	memcpy(vm->memory + at, code, sizeof(code));
	memcpy(vm->memory + vector * 4, &at, sizeof(at));
}

void test_vm_program(struct test_vm *vm, const uint8_t *code,
		     const uint8_t *code_end)
{
	struct kvm_regs regs = {
		.rip = TEST_VM_CODE,
		.rsp = TEST_VM_CODE,
		.rflags = 0x202,
	};
	struct kvm_sregs sregs;

	for (int vector = 0; vector < 256; vector++)
		make_handler(vm, vector);
	memcpy(vm->memory + TEST_VM_CODE, code, code_end - code);
	test_vcpu_call(vm, 0, KVM_GET_SREGS, &sregs);
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	test_vcpu_call(vm, 0, KVM_SET_SREGS, &sregs);
	test_vcpu_call(vm, 0, KVM_SET_REGS, &regs);
}

static void on_tick(int signal_number)
{
	(void)signal_number;
}

/* A timer whose signal does nothing but interrupt KVM_RUN. */
static timer_t start_ticking(void)
{
	struct sigaction action = {.sa_handler = on_tick};
	struct sigevent event = {
		.sigev_notify = SIGEV_SIGNAL,
		.sigev_signo = SIGALRM,
	};
	struct itimerspec every = {
		.it_interval.tv_nsec = TICK_US * 1000L,
		.it_value.tv_nsec = TICK_US * 1000L,
	};
	timer_t timer;

	must(sigaction(SIGALRM, &action, NULL), "sigaction");
	must(timer_create(CLOCK_MONOTONIC, &event, &timer), "timer_create");
	must(timer_settime(timer, 0, &every, NULL), "timer_settime");
	return timer;
}

uint32_t test_vm_run(struct test_vm *vm)
{
	timer_t timer = start_ticking();
	time_t limit = time(NULL) + RUN_LIMIT_S;
	int rc, code;

	do {
		rc = ioctl(vm->vcpu_fds[0], KVM_RUN, 0);
		code = errno;
	} while (rc < 0 && (code == EINTR || code == EAGAIN) &&
		 time(NULL) < limit);
	timer_delete(timer);
	errno = code;
	must(rc, "the guest did not come to an end: KVM_RUN");
	return vm->runs[0]->exit_reason;
}

static void *expect_io(struct test_vm *vm, uint16_t port, uint8_t direction)
{
	struct kvm_run *run = vm->runs[0];

	CHECK_EQ(test_vm_run(vm), KVM_EXIT_IO);
	CHECK_EQ(run->io.port, port);
	CHECK_EQ(run->io.direction, direction);
	return (uint8_t *)run + run->io.data_offset;
}

uint32_t test_vm_expect_out(struct test_vm *vm, uint16_t port)
{
	void *data = expect_io(vm, port, KVM_EXIT_IO_OUT);
	uint32_t value = 0;

	memcpy(&value, data, vm->runs[0]->io.size);
	return value;
}

void *test_vm_expect_in(struct test_vm *vm, uint16_t port)
{
	return expect_io(vm, port, KVM_EXIT_IO_IN);
}

struct one_msr {
	struct kvm_msrs head;
	struct kvm_msr_entry entry;
};

uint64_t test_vcpu_msr(const struct test_vm *vm, uint32_t vcpu, uint32_t index)
{
	struct one_msr msr = {.head.nmsrs = 1, .entry.index = index};

	if (test_vcpu_call(vm, vcpu, KVM_GET_MSRS, &msr) != 1)
		UNIT_FAIL("cannot read MSR 0x%x", index);
	return msr.entry.data;
}

bool test_vcpu_set_msr(const struct test_vm *vm, uint32_t vcpu, uint32_t index,
		       uint64_t value)
{
	struct one_msr msr = {
		.head.nmsrs = 1,
		.entry = {.index = index, .data = value},
	};

	return test_vcpu_call(vm, vcpu, KVM_SET_MSRS, &msr) == 1;
}

uint32_t test_lapic_read(const struct test_vm *vm, uint32_t vcpu,
			 uint32_t offset)
{
	struct kvm_lapic_state lapic;
	uint32_t value;

	test_vcpu_call(vm, vcpu, KVM_GET_LAPIC, &lapic);
	memcpy(&value, lapic.regs + offset, sizeof(value));
	return value;
}

void test_lapic_write(const struct test_vm *vm, uint32_t vcpu, uint32_t offset,
		      uint32_t value)
{
	struct kvm_lapic_state lapic;

	test_vcpu_call(vm, vcpu, KVM_GET_LAPIC, &lapic);
	memcpy(lapic.regs + offset, &value, sizeof(value));
	test_vcpu_call(vm, vcpu, KVM_SET_LAPIC, &lapic);
}

bool test_host_has(int capability)
{
	struct test_vm *vm = test_vm_new(0, 0);
	bool has = test_vm_call(vm, KVM_CHECK_EXTENSION,
				(void *)(uintptr_t)capability) > 0;

	test_vm_free(vm);
	return has;
}

bool test_host_takes_msr(uint32_t index, uint64_t value)
{
	struct test_vm *vm = test_vm_new(1, PMIG_KVM_IRQCHIP);
	bool takes = test_vcpu_set_msr(vm, 0, index, value) &&
		     test_vcpu_msr(vm, 0, index) >= value;

	test_vm_free(vm);
	return takes;
}
