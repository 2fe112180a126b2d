/* SPDX-License-Identifier: Apache-2.0 */
#include "kvm_move.h"

#include <string.h>

#include "unit.h"

static struct pmig_error err;

static const struct {
	const char *name; /* last part */
	uint32_t offset;
	uint32_t size_bytes;
} time_carrying[] = {
	{"clock", 0, 64},    /* all of it */
	{"tsc", 16, 16},     /* the counter, and when it was read */
	{"pit", 16, 8},	     /* count_load_time of each channel, which is */
	{"pit", 16 + 24, 8}, /* moved into the time of the new host's */
	{"pit", 16 + 48, 8}, /* CLOCK_MONOTONIC */
};

/* The entry of "msrs" that a byte belongs to; 0 for other items. */
static uint32_t msr_of(const struct pmig_item *item, uint64_t offset)
{
	uint32_t index = 0;

	if (!strcmp(strrchr(item->name, '/'), "/msrs") && offset >= 8)
		memcpy(&index, item->data + 8 + (offset - 8) / 16 * 16,
		       sizeof(index));
	return index;
}

/* Hyper-V's count of the time that a vCPU's thread ran. */
#define MSR_HV_VP_RUNTIME 0x40000010

static bool carries_time(const struct pmig_item *item, uint64_t offset)
{
	const char *last = strrchr(item->name, '/') + 1;

	if (msr_of(item, offset) == MSR_HV_VP_RUNTIME)
		return true;
	for (size_t i = 0; i < sizeof(time_carrying) / sizeof(*time_carrying);
	     i++)
		if (!strcmp(last, time_carrying[i].name) &&
		    offset >= time_carrying[i].offset &&
		    offset < time_carrying[i].offset +
				     time_carrying[i].size_bytes)
			return true;
	return false;
}

static void items_equal(const struct pmig_item *a, const struct pmig_item *b)
{
	CHECK(!strcmp(a->name, b->name));
	CHECK_EQ(a->size_bytes, b->size_bytes);
	CHECK_EQ(a->version, b->version);
	CHECK_EQ(a->flags, b->flags);
	for (uint64_t i = 0; i < a->size_bytes; i++)
		if (a->data[i] != b->data[i] && !carries_time(a, i))
			UNIT_FAIL("%s: byte %llu (MSR 0x%x) was 0x%02x and is "
				  "0x%02x",
				  a->name, (unsigned long long)i, msr_of(a, i),
				  a->data[i], b->data[i]);
}

void test_states_equal(const struct pmig_state *a, const struct pmig_state *b)
{
	struct pmig_item x, y;

	CHECK_EQ(pmig_state_count(a), pmig_state_count(b));
	for (uint32_t i = 0; !pmig_state_item(a, i, &x); i++) {
		CHECK_EQ(pmig_state_item(b, i, &y), 0);
		items_equal(&x, &y);
	}
}

struct pmig_state *test_vm_save(const struct test_vm *vm)
{
	struct pmig_state *state;

	CHECK_OK(pmig_state_new(&state, &err), err);
	CHECK_OK(pmig_kvm_save(&vm->kvm, state, &err), err);
	return state;
}

void test_vm_load(const struct test_vm *vm, const struct pmig_state *state)
{
	char *skipped;

	CHECK_OK(pmig_kvm_load(&vm->kvm, state, &skipped, &err), err);
	if (skipped)
		UNIT_FAIL("%s", skipped);
}

/* What a peer receives: a state decoded from the other's bytes. */
static struct pmig_state *send(struct pmig_state *state)
{
	struct pmig_state *received;
	const uint8_t *data;
	uint64_t size_bytes;

	CHECK_OK(pmig_state_encode(state, &data, &size_bytes, &err), err);
	CHECK_OK(pmig_state_decode(data, size_bytes, &received, &err), err);
	pmig_state_free(state);
	return received;
}

struct test_vm *test_vm_move(struct test_vm *source)
{
	struct test_vm *destination =
		test_vm_new(source->kvm.n_vcpus, source->kvm.flags);
	struct pmig_state *state;

	for (uint32_t v = 0; v < source->kvm.n_vcpus; v++)
		CHECK_OK(pmig_kvm_quiesce_vcpu(source->vcpu_fds[v],
					       source->runs[v], &err),
			 err);
	state = send(test_vm_save(source));
	memcpy(destination->memory, source->memory, TEST_VM_MEMORY_BYTES);
	test_vm_load(destination, state);
	CHECK_OK(pmig_kvm_before_run(&destination->kvm, &err), err);
	pmig_state_free(state);
	test_vm_free(source);
	return destination;
}

void *test_state_contents(struct pmig_state *state, const char *name)
{
	struct pmig_item item;

	if (pmig_state_find(state, name, &item))
		UNIT_FAIL("the state has no %s", name);
	return (void *)(uintptr_t)item.data;
}
