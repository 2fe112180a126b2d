/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include <errno.h>
#include <string.h>

#include "vcpu.h"

static struct pmig_error err;

#define FULL (PMIG_KVM_IRQCHIP | PMIG_KVM_PIT)

static struct pmig_state *save(const struct test_vm *vm)
{
	struct pmig_state *state;

	CHECK_OK(pmig_state_new(&state, &err), err);
	CHECK_OK(pmig_kvm_save(&vm->kvm, state, &err), err);
	return state;
}

static void load(const struct test_vm *vm, const struct pmig_state *state)
{
	char *skipped;

	CHECK_OK(pmig_kvm_load(&vm->kvm, state, &skipped, &err), err);
	if (skipped)
		UNIT_FAIL("%s", skipped);
}

/*
 * Items that carry the time of their save differ from one save to the next
 * in just these bytes; the tests of the clocks look at them.
 */
static const struct {
	const char *name; /* last part */
	uint32_t offset;
	uint32_t size_bytes;
} time_carrying[] = {
	{"clock", 0, 64},    /* all of it */
	{"tsc", 16, 16},     /* the counter, and when it was read */
	{"pit", 16, 8},	     /* count_load_time of each channel */
	{"pit", 16 + 24, 8}, /* by the host's CLOCK_MONOTONIC */
	{"pit", 16 + 48, 8},
};

static bool carries_time(const struct pmig_item *item, uint64_t offset)
{
	const char *last = strrchr(item->name, '/') + 1;

	for (size_t i = 0; i < sizeof(time_carrying) / sizeof(*time_carrying);
	     i++)
		if (!strcmp(last, time_carrying[i].name) &&
		    offset >= time_carrying[i].offset &&
		    offset < time_carrying[i].offset +
				     time_carrying[i].size_bytes)
			return true;
	return false;
}

static void check_same_item(const struct pmig_item *a,
			    const struct pmig_item *b)
{
	CHECK(!strcmp(a->name, b->name));
	CHECK_EQ(a->size_bytes, b->size_bytes);
	CHECK_EQ(a->version, b->version);
	CHECK_EQ(a->flags, b->flags);
	for (uint64_t i = 0; i < a->size_bytes; i++)
		if (a->data[i] != b->data[i] && !carries_time(a, i))
			UNIT_FAIL("%s: byte %llu was 0x%02x and is 0x%02x",
				  a->name, (unsigned long long)i, a->data[i],
				  b->data[i]);
}

static void check_same(const struct pmig_state *a, const struct pmig_state *b)
{
	struct pmig_item x, y;

	CHECK_EQ(pmig_state_count(a), pmig_state_count(b));
	for (uint32_t i = 0; !pmig_state_item(a, i, &x); i++) {
		CHECK_EQ(pmig_state_item(b, i, &y), 0);
		check_same_item(&x, &y);
	}
}

static void check_round_trip(uint32_t flags)
{
	struct test_vm *source = test_vm_new(2, flags);
	struct test_vm *destination = test_vm_new(2, flags);
	struct pmig_state *saved = save(source);
	struct pmig_state *again;

	load(destination, saved);
	again = save(destination);
	check_same(saved, again);
	pmig_state_free(saved);
	pmig_state_free(again);
	test_vm_free(source);
	test_vm_free(destination);
}

static void test_round_trip_of_a_fresh_machine(void)
{
	check_round_trip(FULL);
	check_round_trip(FULL | PMIG_KVM_BASIC);
	check_round_trip(PMIG_KVM_SPLIT_IRQCHIP);
	check_round_trip(0);
}

int main(void)
{
	return unit_run((struct unit_test[]){
		UNIT(test_round_trip_of_a_fresh_machine),
		UNIT_END,
	});
}
