/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_kvm_malformed.c - states that no source wrote: refused by name, and
 * the machine takes a good one afterwards
 */
#include "unit.h"

#include <errno.h>
#include <string.h>

#include "kvm/msrs.h"
#include "kvm_fill.h"
#include "kvm_move.h"

#define MTRR_CAP 0xfe /* read-only */

static struct pmig_error err;

/* What to do to one item while a state is copied. */
struct change {
	const char *name; /* of the item, or NULL: none */
	bool leave_out;
	int size_change;
	int version_change;
	uint32_t flags;
	const char *rename;
};

static void add(struct pmig_state *state, const struct pmig_item *item,
		const struct change *change)
{
	uint8_t *data = calloc(1, item->size_bytes + 64);
	uint64_t size_bytes = item->size_bytes + change->size_change;

	CHECK(data);
	memcpy(data, item->data, item->size_bytes);
	CHECK_OK(pmig_state_add(
			 state, change->rename ? change->rename : item->name,
			 item->version + change->version_change,
			 item->flags | change->flags, data, size_bytes, &err),
		 err);
	free(data);
}

static struct pmig_state *changed(const struct pmig_state *state,
				  struct change change)
{
	const struct change none = {0};
	struct pmig_state *copy;
	struct pmig_item item;

	CHECK_OK(pmig_state_new(&copy, &err), err);
	for (uint32_t i = 0; !pmig_state_item(state, i, &item); i++) {
		if (!change.name || strcmp(item.name, change.name))
			add(copy, &item, &none);
		else if (!change.leave_out)
			add(copy, &item, &change);
	}
	return copy;
}

/* Takes the state; the refusal has that code and says that word. */
static void check_refused(const struct test_vm *vm, struct pmig_state *state,
			  int code, const char *word)
{
	char *skipped;
	int rc = pmig_kvm_load(&vm->kvm, state, &skipped, &err);

	pmig_state_free(state);
	if (rc != code || !strstr(err.message, word))
		UNIT_FAIL("%d \"%s\", expected %d and \"%s\"", rc, err.message,
			  code, word);
	CHECK(!skipped);
}

static void check_sizes(const struct test_vm *vm, const struct pmig_state *good,
			const struct pmig_item *item)
{
	bool has_elements =
		strstr(item->name, "/xsave") || strstr(item->name, "/nested");
	struct change change = {.name = item->name, .size_change = -1};
	bool shrinks = strstr(item->name, "/nested");

	if (!shrinks)
		check_refused(vm, changed(good, change), -EBADMSG, item->name);
	change.size_change = 1;
	if (!has_elements)
		check_refused(vm, changed(good, change), -EBADMSG, item->name);
	change.size_change = -(int)item->size_bytes;
	check_refused(vm, changed(good, change), -EBADMSG, item->name);
}

static bool is_optional(const char *name)
{
	return strstr(name, "/nested") || strstr(name, "/xcrs") ||
	       strstr(name, "/tsc_deadline");
}

static void check_item(const struct test_vm *vm, const struct pmig_state *good,
		       const struct pmig_item *item)
{
	struct change missing = {.name = item->name, .leave_out = true};
	struct change newer = {.name = item->name, .version_change = 1};
	struct change unknown = {.name = item->name,
				 .rename = "kvm/vcpu0/thing"};
	bool skippable = item->flags & PMIG_ITEM_SKIPPABLE;

	check_sizes(vm, good, item);
	if (!is_optional(item->name))
		check_refused(vm, changed(good, missing), -EBADMSG,
			      "the state lacks it");
	if (skippable)
		return;
	check_refused(vm, changed(good, newer), -ENOTSUP, item->name);
	check_refused(vm, changed(good, unknown), -ENOTSUP, "kvm/vcpu0/thing");
}

static void test_every_item_changed(void)
{
	struct test_vm *vm = test_vm_new(2, TEST_VM_FULL);
	struct pmig_state *good, *after;
	struct pmig_item item;

	test_vm_fill(vm);
	good = test_vm_save(vm);
	CHECK(pmig_state_count(good) >= 28);
	for (uint32_t i = 0; !pmig_state_item(good, i, &item); i++)
		check_item(vm, good, &item);
	/* each of these was refused before anything was loaded */
	after = test_vm_save(vm);
	test_states_equal(good, after);
	test_vm_load(vm, good);
	pmig_state_free(good);
	pmig_state_free(after);
	test_vm_free(vm);
}

static void add_empty(struct pmig_state *state, const char *name,
		      uint32_t flags)
{
	CHECK_OK(pmig_state_add(state, name, 1, flags, "12345678", 8, &err),
		 err);
}

static void test_names_that_no_source_writes(void)
{
	static const char *const names[] = {
		"kvm/",
		"kvm/vm",
		"kvm/vm/",
		"kvm/vm/regs",
		"kvm/vcpu0",
		"kvm/vcpu0/",
		"kvm/vcpu/regs",
		"kvm/vcpu00/regs",
		"kvm/vcpu0/regs/",
		"kvm/vcpu-1/regs",
		"kvm/vcpu4294967296/regs",
		"kvm/vcpu99999999999999999999/regs",
		"kvm/vcpu0x0/regs",
	};
	struct test_vm *vm = test_vm_new(1, TEST_VM_FULL);
	struct pmig_state *good = test_vm_save(vm);

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		struct pmig_state *state = changed(good, (struct change){0});

		add_empty(state, names[i], 0);
		check_refused(vm, state, -ENOTSUP, names[i]);
	}
	pmig_state_free(good);
	test_vm_free(vm);
}

static void test_skippable_unknown_item_is_reported(void)
{
	struct test_vm *vm = test_vm_new(1, TEST_VM_FULL);
	struct pmig_state *state = test_vm_save(vm);
	char *skipped;

	add_empty(state, "kvm/vm/thing", PMIG_ITEM_SKIPPABLE);
	add_empty(state, "device/thing", 0); /* not ours to judge */
	CHECK_OK(pmig_kvm_load(&vm->kvm, state, &skipped, &err), err);
	CHECK(skipped);
	CHECK(!strcmp(skipped,
		      "left out: kvm/vm/thing version 1: not known here"));
	pmig_string_free(skipped);
	CHECK_OK(pmig_kvm_load(&vm->kvm, state, NULL, &err), err);
	pmig_state_free(state);
	test_vm_free(vm);
}

static void test_another_shape_of_machine(void)
{
	struct test_vm *two = test_vm_new(2, TEST_VM_FULL);
	struct test_vm *one = test_vm_new(1, TEST_VM_FULL);
	struct test_vm *bare = test_vm_new(1, 0);

	check_refused(one, test_vm_save(two), -ENOTSUP,
		      "this machine has 1 vCPUs");
	check_refused(two, test_vm_save(one), -EBADMSG, "kvm/vcpu1/");
	check_refused(bare, test_vm_save(one), -ENOTSUP,
		      "no such device in the kernel");
	check_refused(one, test_vm_save(bare), -EBADMSG, "lapic");
	test_vm_free(two);
	test_vm_free(one);
	test_vm_free(bare);
}

/* Overwrite a number within an item. */
static struct pmig_state *poked(const struct test_vm *vm, const char *name,
				size_t offset, uint32_t value)
{
	struct pmig_state *state = test_vm_save(vm);

	memcpy((uint8_t *)test_state_contents(state, name) + offset, &value,
	       sizeof(value));
	return state;
}

static void test_counts_that_disagree_with_sizes(void)
{
	struct test_vm *vm = test_vm_new(1, TEST_VM_FULL);

	check_refused(vm, poked(vm, "kvm/vcpu0/msrs", 0, 100000), -EBADMSG,
		      "it says 100000 MSRs");
	check_refused(vm, poked(vm, "kvm/vcpu0/cpuid", 0, 77777), -EBADMSG,
		      "it says 77777 entries");
	check_refused(vm, poked(vm, "kvm/vcpu0/xcrs", 0, 17), -EBADMSG,
		      "17 registers");
	check_refused(vm, poked(vm, "kvm/vm/pic0", 0, 2), -EBADMSG,
		      "kvm/vm/pic0: it is of chip 2");
	test_vm_free(vm);
}

static void test_sregs_in_two_layouts(void)
{
	struct test_vm *vm, *older;
	struct pmig_state *both, *old;
	struct pmig_item item;

	if (!test_host_has(KVM_CAP_SREGS2))
		UNIT_SKIP("this kernel has no KVM_CAP_SREGS2 (Linux 5.14)");
	vm = test_vm_new(1, TEST_VM_FULL);
	older = test_vm_new(1, TEST_VM_FULL | PMIG_KVM_BASIC);
	both = test_vm_save(vm);
	old = test_vm_save(older);
	CHECK_EQ(pmig_state_find(old, "kvm/vcpu0/sregs", &item), 0);
	add(both, &item, &(struct change){0});
	check_refused(vm, both, -EBADMSG, "two layouts");
	pmig_state_free(old);
	test_vm_free(vm);
	test_vm_free(older);
}

/* The entries of item "msrs", and one more. */
static struct pmig_state *with_msr(const struct test_vm *vm, uint32_t index,
				   uint64_t value)
{
	struct kvm_msr_entry entry = {.index = index, .data = value};
	struct pmig_state *good = test_vm_save(vm);
	struct pmig_state *state =
		changed(good, (struct change){.name = "kvm/vcpu0/msrs",
					      .size_change = sizeof(entry)});
	struct kvm_msrs *msrs = test_state_contents(state, "kvm/vcpu0/msrs");

	memcpy(&msrs->entries[msrs->nmsrs++], &entry, sizeof(entry));
	pmig_state_free(good);
	return state;
}

static void test_msrs_that_this_host_does_not_take(void)
{
	struct test_vm *vm = test_vm_new(1, TEST_VM_FULL);
	uint64_t cap = test_vcpu_msr(vm, 0, MTRR_CAP);
	struct pmig_state *state;

	check_refused(vm, with_msr(vm, 0xdead, 1), -ENOTSUP, "MSR 0xdead");
	/* read-only, and what it says is wrong here */
	check_refused(vm, with_msr(vm, MTRR_CAP, cap + 1), -ENOTSUP,
		      "MSR 0xfe");
	/* not an address */
	check_refused(vm, with_msr(vm, 0xc0000102, 1ULL << 63), -ENOTSUP,
		      "MSR 0xc0000102 (kernel GS base)");
	/* read-only, and right */
	state = with_msr(vm, MTRR_CAP, cap);
	test_vm_load(vm, state);
	pmig_state_free(state);
	test_vm_free(vm);
}

static void test_table_of_skippable_msrs(void)
{
	char name[PMIG_KVM_MSR_NAME_BYTES];

	CHECK(pmig_kvm_msr_skippable(0x8b));
	CHECK(!pmig_kvm_msr_skippable(0xc0000081));
	CHECK(!strcmp(pmig_kvm_msr_name(0x8b, name),
		      "0x8b (microcode revision)"));
	CHECK(!strcmp(pmig_kvm_msr_name(0x12345, name), "0x12345"));
}

static void test_bad_arguments(void)
{
	struct test_vm *vm = test_vm_new(1, TEST_VM_FULL);
	struct pmig_state *state = test_vm_save(vm);
	struct pmig_kvm kvm = vm->kvm;

	kvm.struct_size = 8;
	CHECK_EQ(pmig_kvm_save(&kvm, state, &err), -EINVAL);
	kvm = vm->kvm;
	kvm.vcpu_fds = NULL;
	CHECK_EQ(pmig_kvm_load(&kvm, state, NULL, &err), -EINVAL);
	kvm = vm->kvm;
	kvm.flags = PMIG_KVM_IRQCHIP | PMIG_KVM_SPLIT_IRQCHIP;
	CHECK_EQ(pmig_kvm_save(&kvm, state, &err), -EINVAL);
	kvm.flags = PMIG_KVM_PIT;
	CHECK_EQ(pmig_kvm_save(&kvm, state, &err), -EINVAL);
	pmig_state_free(state);
	test_vm_free(vm);
}

/* xorshift64*: the same mutations in every run. */
static uint64_t next_random(uint64_t *seed)
{
	*seed ^= *seed >> 12;
	*seed ^= *seed << 25;
	*seed ^= *seed >> 27;
	return *seed * 2685821657736338717ULL;
}

/* Where the list's structure is: the headers, and counts within items. */
static size_t structural_offset(const struct pmig_state *state, uint64_t *seed)
{
	uint32_t number = next_random(seed) % pmig_state_count(state);
	const uint8_t *start;
	struct pmig_item item;
	uint64_t size_bytes;

	pmig_state_encode((struct pmig_state *)state, &start, &size_bytes,
			  &err);
	pmig_state_item(state, number, &item);
	return item.data - start - 64 + next_random(seed) % 80;
}

/*
 * Bytes of an encoded state changed at random: it loads or is refused with a
 * sentence, and the machine takes a good state afterwards.
 */
static void test_mutations(void)
{
	struct test_vm *vm = test_vm_new(2, TEST_VM_FULL);
	struct pmig_state *good = test_vm_save(vm);
	uint64_t seed = 7, size_bytes;
	const uint8_t *data;
	int refused = 0;
	uint8_t *mutant;

	CHECK_OK(pmig_state_encode(good, &data, &size_bytes, &err), err);
	mutant = malloc(size_bytes);
	CHECK(mutant);
	for (int turn = 0; turn < 1500; turn++) {
		struct pmig_state *state;
		size_t at = structural_offset(good, &seed);

		memcpy(mutant, data, size_bytes);
		if (at < size_bytes)
			mutant[at] ^= 1 << next_random(&seed) % 8;
		err.message[0] = '\0';
		if (pmig_state_decode(mutant, size_bytes, &state, &err)) {
			CHECK(err.message[0]);
			continue;
		}
		if (pmig_kvm_load(&vm->kvm, state, NULL, &err)) {
			CHECK(err.message[0]);
			refused++;
		}
		pmig_state_free(state);
	}
	free(mutant);
	CHECK(refused > 100);
	test_vm_load(vm, good);
	pmig_state_free(good);
	test_vm_free(vm);
}

int main(void)
{
	return unit_run((struct unit_test[]){
		UNIT(test_every_item_changed),
		UNIT(test_names_that_no_source_writes),
		UNIT(test_skippable_unknown_item_is_reported),
		UNIT(test_another_shape_of_machine),
		UNIT(test_counts_that_disagree_with_sizes),
		UNIT(test_sregs_in_two_layouts),
		UNIT(test_msrs_that_this_host_does_not_take),
		UNIT(test_table_of_skippable_msrs),
		UNIT(test_bad_arguments),
		UNIT(test_mutations),
		UNIT_END,
	});
}
