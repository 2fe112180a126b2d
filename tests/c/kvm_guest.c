/* SPDX-License-Identifier: Apache-2.0 */
#include "kvm_guest.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "unit.h"

enum {
	CODE_BYTES = 128 << 10,
	CODE_SLOT = 100,
	TOUCH_AT = 0x000, /* offsets in the code slot */
	SWEEP_AT = 0x040,
	LISTS_AT = 0x10000,
	LIST_BYTES = 0x8000, /* per vCPU */
};

#define CODE_GPA 0xe0000000u

/* esi: list of ecx addresses */
static const uint8_t touch_code[] = {
	0xe3, 0x0a,	  /* again: jecxz done */
	0x8b, 0x06,	  /*        mov (%esi), %eax */
	0xff, 0x00,	  /*        incl (%eax) */
	0x83, 0xc6, 0x04, /*        add $4, %esi */
	0x49,		  /*        dec %ecx */
	0xeb, 0xf4,	  /*        jmp again */
	0xf4,		  /* done:  hlt */
};

/* ebx: first address, edx: number of pages */
static const uint8_t sweep_code[] = {
	0x89, 0xdf,			    /* again: mov %ebx, %edi */
	0x89, 0xd1,			    /*        mov %edx, %ecx */
	0xff, 0x07,			    /* next:  incl (%edi) */
	0x81, 0xc7, 0x00, 0x10, 0x00, 0x00, /*        add $4096, %edi */
	0x49,				    /*        dec %ecx */
	0x75, 0xf5,			    /*        jnz next */
	0xeb, 0xef,			    /*        jmp again */
};

static void on_kick(int signal)
{
	(void)signal;
}

static void set_slot(struct kvm_guest *guest, const struct pmig_kvm_slot *slot)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot->slot,
		.flags = slot->flags,
		.guest_phys_addr = slot->gpa,
		.memory_size = slot->size_bytes,
		.userspace_addr = slot->hva,
	};

	if (ioctl(guest->vm_fd, KVM_SET_USER_MEMORY_REGION, &region))
		UNIT_FAIL("KVM_SET_USER_MEMORY_REGION: %s", strerror(errno));
}

static void load_code(struct kvm_guest *guest)
{
	struct pmig_kvm_slot slot = {
		.slot = CODE_SLOT,
		.gpa = CODE_GPA,
		.size_bytes = CODE_BYTES,
	};

	guest->code = mmap(NULL, CODE_BYTES, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(guest->code != MAP_FAILED);
	memcpy(guest->code + TOUCH_AT, touch_code, sizeof(touch_code));
	memcpy(guest->code + SWEEP_AT, sweep_code, sizeof(sweep_code));
	slot.hva = (uint64_t)(uintptr_t)guest->code;
	set_slot(guest, &slot);
}

static void enable_ring(struct kvm_guest *guest)
{
	static const uint32_t caps[] = {
		KVM_CAP_DIRTY_LOG_RING_ACQ_REL,
		KVM_CAP_DIRTY_LOG_RING,
	};

	for (int i = 0; i < 2; i++) {
		struct kvm_enable_cap cap = {
			.cap = caps[i],
			.args = {guest->ring_bytes},
		};

		if (!ioctl(guest->vm_fd, KVM_ENABLE_CAP, &cap))
			return;
	}
	UNIT_SKIP("KVM has no dirty ring (KVM_CAP_DIRTY_LOG_RING)");
}

static void set_flat_mode(int vcpu_fd)
{
	const struct kvm_segment code = {
		.limit = 0xffffffff,
		.selector = 8,
		.type = 11,
		.present = 1,
		.db = 1,
		.s = 1,
		.g = 1,
	};
	struct kvm_segment data = code;
	struct kvm_sregs sregs;

	data.type = 3;
	data.selector = 16;
	CHECK(!ioctl(vcpu_fd, KVM_GET_SREGS, &sregs));
	sregs.cs = code;
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
	sregs.cr0 |= 1;
	CHECK(!ioctl(vcpu_fd, KVM_SET_SREGS, &sregs));
}

static void add_vcpu(struct kvm_guest *guest, int index)
{
	struct kvm_guest_vcpu *vcpu = &guest->vcpus[index];
	int run_bytes = ioctl(guest->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);

	CHECK(run_bytes > 0);
	vcpu->guest = guest;
	vcpu->fd = ioctl(guest->vm_fd, KVM_CREATE_VCPU, index);
	CHECK(vcpu->fd >= 0);
	guest->vcpu_fds[index] = vcpu->fd;
	vcpu->run = mmap(NULL, (size_t)run_bytes, PROT_READ | PROT_WRITE,
			 MAP_SHARED, vcpu->fd, 0);
	CHECK(vcpu->run != MAP_FAILED);
	set_flat_mode(vcpu->fd);
}

void kvm_guest_open(struct kvm_guest *guest, uint32_t ring_bytes)
{
	struct sigaction kick = {.sa_handler = on_kick};

	*guest = (struct kvm_guest){.ring_bytes = ring_bytes};
	pthread_mutex_init(&guest->lock, NULL);
	pthread_cond_init(&guest->changed, NULL);
	sigaction(SIGUSR1, &kick, NULL);
	guest->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (guest->kvm_fd < 0)
		UNIT_SKIP("no /dev/kvm: %s", strerror(errno));
	guest->vm_fd = ioctl(guest->kvm_fd, KVM_CREATE_VM, 0);
	CHECK(guest->vm_fd >= 0);
	if (ring_bytes)
		enable_ring(guest);
	load_code(guest);
	for (int i = 0; i < KVM_GUEST_VCPUS; i++)
		add_vcpu(guest, i);
}

void kvm_guest_add_slot(struct kvm_guest *guest, uint64_t gpa, void *hva,
			uint64_t size_bytes)
{
	struct pmig_kvm_slot *slot = &guest->slots[guest->n_slots];

	*slot = (struct pmig_kvm_slot){
		.slot = guest->n_slots++,
		.gpa = gpa,
		.size_bytes = size_bytes,
		.hva = (uint64_t)(uintptr_t)hva,
	};
	set_slot(guest, slot);
}

void kvm_guest_log_slot(struct kvm_guest *guest, uint32_t slot, bool on)
{
	struct pmig_kvm_slot logged = guest->slots[slot];

	logged.flags |= on ? KVM_MEM_LOG_DIRTY_PAGES : 0;
	set_slot(guest, &logged);
}

struct pmig_dirty_config kvm_guest_config(const struct kvm_guest *guest,
					  enum pmig_tracker tracker)
{
	return (struct pmig_dirty_config){
		.struct_size = sizeof(struct pmig_dirty_config),
		.tracker = tracker,
		.vm_fd = guest->vm_fd,
		.n_slots = guest->n_slots,
		.slots = guest->slots,
		.vcpu_fds = guest->vcpu_fds,
		.n_vcpus = KVM_GUEST_VCPUS,
		.ring_bytes = guest->ring_bytes,
		.uffd = -1,
	};
}

static void set_regs(struct kvm_guest_vcpu *vcpu, struct kvm_regs regs)
{
	regs.rflags = 2;
	CHECK(!ioctl(vcpu->fd, KVM_SET_REGS, &regs));
}

static void empty_rings(struct kvm_guest *guest)
{
	struct pmig_error err;

	__atomic_fetch_add(&guest->ring_fulls, 1, __ATOMIC_SEQ_CST);
	if (pmig_dirty_ring_full(guest->dirty, &err)) {
		fprintf(stderr, "%s\n", err.message);
		abort();
	}
}

/* One entry; true when the guest has halted. Runs on any thread. */
static bool enter(struct kvm_guest_vcpu *vcpu)
{
	if (ioctl(vcpu->fd, KVM_RUN, 0)) {
		if (errno == EINTR || errno == EAGAIN)
			return false;
		perror("KVM_RUN");
		abort();
	}
	switch (vcpu->run->exit_reason) {
	case KVM_EXIT_HLT:
		return true;
	case KVM_EXIT_DIRTY_RING_FULL:
		empty_rings(vcpu->guest);
		return false;
	case KVM_EXIT_INTR:
		return false;
	default:
		fprintf(stderr, "unexpected exit %u\n", vcpu->run->exit_reason);
		abort();
	}
}

void kvm_guest_touch(struct kvm_guest *guest, int vcpu, const uint32_t *gpas,
		     uint32_t n)
{
	uint32_t list = LISTS_AT + (uint32_t)vcpu * LIST_BYTES;

	CHECK(n <= KVM_GUEST_TOUCHES);
	memcpy(guest->code + list, gpas, n * sizeof(*gpas));
	set_regs(&guest->vcpus[vcpu], (struct kvm_regs){
					      .rip = CODE_GPA + TOUCH_AT,
					      .rsi = CODE_GPA + list,
					      .rcx = n,
				      });
	while (!enter(&guest->vcpus[vcpu]))
		;
}

/* Wait while the guest is paused; false when it is over. */
static bool may_run(struct kvm_guest_vcpu *vcpu)
{
	struct kvm_guest *guest = vcpu->guest;
	bool go_on;

	pthread_mutex_lock(&guest->lock);
	while (guest->is_paused && !guest->is_over) {
		vcpu->is_parked = true;
		pthread_cond_broadcast(&guest->changed);
		pthread_cond_wait(&guest->changed, &guest->lock);
	}
	vcpu->is_parked = false;
	go_on = !guest->is_over;
	pthread_mutex_unlock(&guest->lock);
	return go_on;
}

static void *vcpu_main(void *arg)
{
	struct kvm_guest_vcpu *vcpu = arg;

	while (may_run(vcpu))
		enter(vcpu);
	return NULL;
}

void kvm_guest_sweep(struct kvm_guest *guest, int index, uint32_t gpa,
		     uint32_t n_pages)
{
	struct kvm_guest_vcpu *vcpu = &guest->vcpus[index];

	set_regs(vcpu, (struct kvm_regs){
			       .rip = CODE_GPA + SWEEP_AT,
			       .rbx = gpa,
			       .rdx = n_pages,
		       });
	CHECK(!pthread_create(&vcpu->thread, NULL, vcpu_main, vcpu));
	vcpu->is_started = true;
}

static void set_immediate_exit(struct kvm_guest *guest, uint8_t value)
{
	for (int i = 0; i < KVM_GUEST_VCPUS; i++)
		__atomic_store_n(&guest->vcpus[i].run->immediate_exit, value,
				 __ATOMIC_SEQ_CST);
}

/* immediate_exit first: the signal may come just before KVM_RUN. */
static void kick(struct kvm_guest *guest)
{
	set_immediate_exit(guest, 1);
	for (int i = 0; i < KVM_GUEST_VCPUS; i++)
		if (guest->vcpus[i].is_started)
			pthread_kill(guest->vcpus[i].thread, SIGUSR1);
}

void kvm_guest_pause(struct kvm_guest *guest)
{
	pthread_mutex_lock(&guest->lock);
	guest->is_paused = true;
	kick(guest);
	for (int i = 0; i < KVM_GUEST_VCPUS; i++)
		while (guest->vcpus[i].is_started && !guest->vcpus[i].is_parked)
			pthread_cond_wait(&guest->changed, &guest->lock);
	pthread_mutex_unlock(&guest->lock);
}

void kvm_guest_resume(struct kvm_guest *guest)
{
	pthread_mutex_lock(&guest->lock);
	set_immediate_exit(guest, 0);
	guest->is_paused = false;
	pthread_cond_broadcast(&guest->changed);
	pthread_mutex_unlock(&guest->lock);
}

void kvm_guest_close(struct kvm_guest *guest)
{
	int run_bytes = ioctl(guest->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);

	pthread_mutex_lock(&guest->lock);
	guest->is_over = true;
	kick(guest);
	pthread_cond_broadcast(&guest->changed);
	pthread_mutex_unlock(&guest->lock);
	for (int i = 0; i < KVM_GUEST_VCPUS; i++) {
		if (guest->vcpus[i].is_started)
			pthread_join(guest->vcpus[i].thread, NULL);
		munmap(guest->vcpus[i].run, (size_t)run_bytes);
		close(guest->vcpus[i].fd);
	}
	close(guest->vm_fd);
	close(guest->kvm_fd);
	munmap(guest->code, CODE_BYTES);
	pthread_cond_destroy(&guest->changed);
	pthread_mutex_destroy(&guest->lock);
}
