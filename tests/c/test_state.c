/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#include "state/state.h"

static struct pmig_error err;

static struct pmig_state *new_state(void)
{
	struct pmig_state *state;

	CHECK_OK(pmig_state_new(&state, &err), err);
	return state;
}

static void add(struct pmig_state *state, const char *name, uint32_t version,
		uint32_t flags, const char *text)
{
	CHECK_OK(pmig_state_add(state, name, version, flags, text, strlen(text),
				&err),
		 err);
}

/* Three items, of which one is empty and one needs padding. */
static struct pmig_state *sample(void)
{
	struct pmig_state *state = new_state();

	add(state, "kvm/vm/clock", 2, 0, "12345678");
	add(state, "a", 1, PMIG_ITEM_SKIPPABLE, "");
	add(state, "device/serial0", 7, 0, "xyz");
	return state;
}

/* A heap copy of exactly the encoded size, so that ASan sees overreads. */
static uint8_t *encoded(struct pmig_state *state, uint64_t *size_bytes)
{
	const uint8_t *data;
	uint8_t *copy;

	CHECK_OK(pmig_state_encode(state, &data, size_bytes, &err), err);
	copy = malloc(*size_bytes);
	CHECK(copy);
	memcpy(copy, data, *size_bytes);
	return copy;
}

static void check_item(const struct pmig_state *state, const char *name,
		       uint32_t version, uint32_t flags, const char *text)
{
	struct pmig_item item;

	CHECK_EQ(pmig_state_find(state, name, &item), 0);
	CHECK(!strcmp(item.name, name));
	CHECK_EQ(item.version, version);
	CHECK_EQ(item.flags, flags);
	CHECK_EQ(item.size_bytes, strlen(text));
	CHECK(!memcmp(item.data, text, item.size_bytes));
}

static void test_add_find_order(void)
{
	struct pmig_state *state = sample();
	struct pmig_item item;

	CHECK_EQ(pmig_state_count(state), 3);
	check_item(state, "kvm/vm/clock", 2, 0, "12345678");
	check_item(state, "a", 1, PMIG_ITEM_SKIPPABLE, "");
	check_item(state, "device/serial0", 7, 0, "xyz");
	CHECK_EQ(pmig_state_find(state, "kvm/vm/cloc", &item), -ENOENT);
	CHECK_EQ(pmig_state_find(state, "zzz", &item), -ENOENT);
	CHECK_EQ(pmig_state_item(state, 2, &item), 0);
	CHECK(!strcmp(item.name, "device/serial0"));
	CHECK_EQ(pmig_state_item(state, 3, &item), -ENOENT);
	pmig_state_free(state);
	pmig_state_free(NULL);
}

/* The bytes of docs/stream-format.md, written out by hand. */
static void test_encoding_is_the_documented_one(void)
{
	struct pmig_state *state = new_state();
	uint8_t expected[16 + 64 + 8] = "PMST\1\0\0\0\1\0\0\0\0\0\0\0a/b";
	uint64_t size_bytes;
	uint8_t *data;

	expected[16 + 48] = 3;
	expected[16 + 52] = 1;
	expected[16 + 56] = 3;
	memcpy(expected + 16 + 64, "xyz", 3);
	add(state, "a/b", 3, PMIG_ITEM_SKIPPABLE, "xyz");
	data = encoded(state, &size_bytes);
	CHECK_EQ(size_bytes, sizeof(expected));
	CHECK(!memcmp(data, expected, sizeof(expected)));
	free(data);
	pmig_state_free(state);
}

static void test_round_trip(void)
{
	struct pmig_state *state = sample();
	struct pmig_state *copy;
	uint64_t size_bytes, copy_bytes;
	uint8_t *data = encoded(state, &size_bytes);
	uint8_t *again;

	CHECK_OK(pmig_state_decode(data, size_bytes, &copy, &err), err);
	CHECK_EQ(pmig_state_count(copy), 3);
	check_item(copy, "kvm/vm/clock", 2, 0, "12345678");
	check_item(copy, "a", 1, PMIG_ITEM_SKIPPABLE, "");
	check_item(copy, "device/serial0", 7, 0, "xyz");
	/* a decoded list can be added to */
	add(copy, "later", 1, 0, "more");
	check_item(copy, "later", 1, 0, "more");
	check_item(copy, "a", 1, PMIG_ITEM_SKIPPABLE, "");
	add(state, "later", 1, 0, "more");
	free(data);
	data = encoded(state, &size_bytes);
	again = encoded(copy, &copy_bytes);
	CHECK_EQ(size_bytes, copy_bytes);
	CHECK(!memcmp(data, again, size_bytes));
	free(data);
	free(again);
	pmig_state_free(state);
	pmig_state_free(copy);
}

static void test_many_items(void)
{
	struct pmig_state *state = new_state();
	struct pmig_item item;
	char name[48], text[32];

	for (int i = 0; i < 5000; i++) {
		snprintf(name, sizeof(name), "kvm/vcpu%d/regs", i * 7 % 5000);
		snprintf(text, sizeof(text), "contents %d", i);
		add(state, name, i, 0, text);
	}
	for (int i = 0; i < 5000; i++) {
		snprintf(name, sizeof(name), "kvm/vcpu%d/regs", i * 7 % 5000);
		CHECK_EQ(pmig_state_find(state, name, &item), 0);
		CHECK_EQ(item.version, i);
	}
	pmig_state_free(state);
}

static void test_add_refuses(void)
{
	static const char *const names[] = {
		"",
		"UPPER",
		"white space",
		"nul\x01",
		"umlaut\xc3\xa4",
		"a:b",
		"123456789012345678901234567890123456789012345678",
	};
	struct pmig_state *state = sample();

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		CHECK_EQ(pmig_state_add(state, names[i], 1, 0, "", 0, &err),
			 -EINVAL);
	CHECK_EQ(pmig_state_add(state, "b", 1, 2, "", 0, &err), -EINVAL);
	CHECK_EQ(pmig_state_add(state, "a", 1, 0, "", 0, &err), -EEXIST);
	CHECK(strstr(err.message, "a is there already"));
	CHECK_EQ(pmig_state_add(state, "b", 1, 0, "", UINT64_MAX, &err),
		 -E2BIG);
	CHECK_EQ(
		pmig_state_add(state, "b", 1, 0, "", PMIG_MAX_BLOB_BYTES, &err),
		-E2BIG);
	CHECK_EQ(pmig_state_count(state), 3);
	/* 47 bytes are allowed */
	add(state, "12345678901234567890123456789012345678901234567", 1, 0, "");
	CHECK_EQ(pmig_state_count(state), 4);
	pmig_state_free(state);
}

/* One byte or word of a valid list changed, and the word of the refusal. */
static void check_refused(size_t offset, const void *bytes, size_t n_bytes,
			  const char *word)
{
	struct pmig_state *state = sample();
	struct pmig_state *made;
	uint64_t size_bytes;
	uint8_t *data = encoded(state, &size_bytes);
	int rc;

	memcpy(data + offset, bytes, n_bytes);
	rc = pmig_state_decode(data, size_bytes, &made, &err);
	free(data);
	pmig_state_free(state);
	CHECK_EQ(rc, -EBADMSG);
	if (!strstr(err.message, word))
		UNIT_FAIL("\"%s\" does not say \"%s\"", err.message, word);
}

static void test_decode_names_what_is_wrong(void)
{
	const size_t first = 16, second = first + 64 + 8;
	const size_t third = second + 64;
	const uint64_t huge = UINT64_MAX - 3, long_by_one = 9;

	check_refused(0, "X", 1, "does not start with PMST");
	check_refused(4, "\2", 1, "format version 2");
	check_refused(8, "\4", 1, "cut off");
	check_refused(8, "\2", 1, "follow the last item");
	check_refused(10, "\2", 1, "items, at most");
	check_refused(12, "\1", 1, "reserved");
	check_refused(first, "K", 1, "name of item 0");
	check_refused(first, "\0", 1, "name of item 0");
	check_refused(first + 13, "z", 1, "is not padded");
	check_refused(first + 12, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 36,
		      "name of item 0");
	check_refused(first + 52, "\2", 1, "unknown flags");
	check_refused(first + 56, &huge, 8, "cut off");
	check_refused(first + 56, &long_by_one, 8, "not 1 to 47");
	check_refused(third + 56, &long_by_one, 8, "cut off");
	check_refused(third + 64 + 3, "1", 1, "not padded");
	check_refused(second, "kvm/vm/clock", 12, "occurs twice");
}

static void test_decode_refuses_every_truncation(void)
{
	struct pmig_state *state = sample();
	struct pmig_state *made;
	uint64_t size_bytes;
	uint8_t *data = encoded(state, &size_bytes);

	for (uint64_t n = 0; n < size_bytes; n++) {
		uint8_t *cut = malloc(n ? n : 1);

		CHECK(cut);
		memcpy(cut, data, n);
		CHECK_EQ(pmig_state_decode(cut, n, &made, &err), -EBADMSG);
		free(cut);
	}
	free(data);
	pmig_state_free(state);
}

/* xorshift64*: the same mutations in every run. */
static uint64_t next_random(uint64_t *seed)
{
	*seed ^= *seed >> 12;
	*seed ^= *seed << 25;
	*seed ^= *seed >> 27;
	return *seed * 2685821657736338717ULL;
}

/*
 * Whatever decodes must encode to the same bytes: a list has one encoding,
 * so a mutation is either refused or faithfully kept.
 */
static void test_decode_mutations(void)
{
	struct pmig_state *state = sample();
	uint64_t seed = 42, size_bytes;
	uint8_t *data = encoded(state, &size_bytes);
	uint8_t *mutant = malloc(size_bytes);
	int accepted = 0;

	CHECK(mutant);
	for (int turn = 0; turn < 20000; turn++) {
		struct pmig_state *made = NULL;
		const uint8_t *again;
		uint64_t again_bytes;
		int flips = 1 + next_random(&seed) % 3;

		memcpy(mutant, data, size_bytes);
		for (int i = 0; i < flips; i++)
			mutant[next_random(&seed) % size_bytes] ^=
				1 << (next_random(&seed) % 8);
		if (pmig_state_decode(mutant, size_bytes, &made, &err)) {
			CHECK_EQ(err.code, -EBADMSG);
			continue;
		}
		accepted++;
		CHECK_OK(pmig_state_encode(made, &again, &again_bytes, &err),
			 err);
		CHECK_EQ(again_bytes, size_bytes);
		CHECK(!memcmp(again, mutant, size_bytes));
		pmig_state_free(made);
	}
	CHECK(accepted > 0 && accepted < 20000);
	free(mutant);
	free(data);
	pmig_state_free(state);
}

int main(void)
{
	return unit_run((struct unit_test[]){
		UNIT(test_add_find_order),
		UNIT(test_encoding_is_the_documented_one),
		UNIT(test_round_trip),
		UNIT(test_many_items),
		UNIT(test_add_refuses),
		UNIT(test_decode_names_what_is_wrong),
		UNIT(test_decode_refuses_every_truncation),
		UNIT(test_decode_mutations),
		UNIT_END,
	});
}
