/* SPDX-License-Identifier: Apache-2.0 */
/* Processors: how many may be used, pinning, quotas, nodes of memory. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cpus.h"
#include "base/numa.h"
#include "unit.h"

static cpu_set_t own_affinity(void)
{
	cpu_set_t set;

	CHECK_EQ(sched_getaffinity(0, sizeof(set), &set), 0);
	return set;
}

static uint32_t first_of(const cpu_set_t *set)
{
	for (uint32_t cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, set))
			return cpu;
	UNIT_FAIL("no processor to run on");
}

static void test_usable_follows_affinity(void)
{
	cpu_set_t before = own_affinity(), one;

	CHECK(pmig_cpus_usable() >= 1);
	CHECK(pmig_cpus_usable() <= (unsigned int)CPU_COUNT(&before));
	CPU_ZERO(&one);
	CPU_SET(first_of(&before), &one);
	CHECK_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
	CHECK_EQ(pmig_cpus_usable(), 1);
	CHECK_EQ(sched_setaffinity(0, sizeof(before), &before), 0);
}

static void test_pin(void)
{
	cpu_set_t before = own_affinity(), after;
	uint32_t cpu = first_of(&before);
	struct pmig_error err;

	CHECK_OK(pmig_cpus_pin(pthread_self(), &cpu, 1, &err), err);
	after = own_affinity();
	CHECK_EQ(CPU_COUNT(&after), 1);
	CHECK(CPU_ISSET(cpu, &after));
	CHECK_EQ(sched_getcpu(), cpu);
	CHECK_EQ(sched_setaffinity(0, sizeof(before), &before), 0);
	CHECK_OK(pmig_cpus_pin(pthread_self(), NULL, 0, &err), err);
	after = own_affinity();
	CHECK(CPU_EQUAL(&before, &after));
}

static void test_pin_names_what_is_missing(void)
{
	static const uint32_t missing[] = {8191, 8192, UINT32_MAX};
	cpu_set_t before = own_affinity();
	struct pmig_error err;
	char name[32];

	for (int i = 0; i < 3; i++) {
		const uint32_t cpus[] = {first_of(&before), missing[i]};

		snprintf(name, sizeof(name), "processor %u:", missing[i]);
		CHECK_EQ(pmig_cpus_pin(pthread_self(), cpus, 2, &err), -EINVAL);
		CHECK(strstr(err.message, name));
		CHECK_EQ(pmig_cpus_pin(pthread_self(), cpus + 1, 1, &err),
			 -EINVAL);
		CHECK(strstr(err.message, name));
	}
	CHECK_EQ(sched_setaffinity(0, sizeof(before), &before), 0);
}

/* A hierarchy of files as the kernel shows it. */
static void write_max(const char *root, const char *group, const char *text)
{
	char path[512];
	FILE *file;

	snprintf(path, sizeof(path), "%s%s", root, group);
	mkdir(path, 0700);
	snprintf(path, sizeof(path), "%s%s/cpu.max", root, group);
	file = fopen(path, "w");
	CHECK(file);
	fputs(text, file);
	fclose(file);
}

static void remove_max(const char *root, const char *group)
{
	char path[512];

	snprintf(path, sizeof(path), "%s%s/cpu.max", root, group);
	unlink(path);
	snprintf(path, sizeof(path), "%s%s", root, group);
	rmdir(path);
}

static void test_quota(void)
{
	static const char own[] = "1:cpu:/v1\n0::/vm/guest\n";
	char root[] = "/tmp/pmig-quota-XXXXXX";

	CHECK(mkdtemp(root));
	CHECK_EQ(pmig_cpus_quota(own, root), 0);
	write_max(root, "/vm", "250000 100000\n");
	CHECK_EQ(pmig_cpus_quota(own, root), 3);
	write_max(root, "/vm/guest", "max 100000\n");
	CHECK_EQ(pmig_cpus_quota(own, root), 3);
	write_max(root, "/vm/guest", "100000 100000\n");
	CHECK_EQ(pmig_cpus_quota(own, root), 1);
	CHECK_EQ(pmig_cpus_quota("0::/vm\n", root), 3);
	write_max(root, "", "50000 100000\n");
	CHECK_EQ(pmig_cpus_quota(own, root), 1);
	CHECK_EQ(pmig_cpus_quota("0::/\n", root), 1);
	write_max(root, "", "nonsense\n");
	CHECK_EQ(pmig_cpus_quota("0::/\n", root), 0);
	CHECK_EQ(pmig_cpus_quota("4:cpu:/vm\n", root), 0);
	CHECK_EQ(pmig_cpus_quota("", root), 0);
	remove_max(root, "/vm/guest");
	remove_max(root, "/vm");
	remove_max(root, "");
}

static void test_list(void)
{
	uint64_t mask[2];

	CHECK(pmig_numa_parse_list("0-3,8,64-65\n", mask, 128));
	CHECK_EQ(mask[0], 0x10f);
	CHECK_EQ(mask[1], 3);
	CHECK(pmig_numa_parse_list("\n", mask, 128));
	CHECK_EQ(mask[0] | mask[1], 0);
	CHECK(pmig_numa_parse_list("7,100-4000000000", mask, 64));
	CHECK_EQ(mask[0], 0x80);
	CHECK(!pmig_numa_parse_list("3-1", mask, 64));
	CHECK(!pmig_numa_parse_list("1-", mask, 64));
	CHECK(!pmig_numa_parse_list("one", mask, 64));
}

/* move_pages() is missing from some kernels and barred by some filters. */
static void test_node_of_memory(void)
{
	const size_t size = 4 * PMIG_PAGE_BYTES;
	uint8_t *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	const void *there[] = {memory, memory + 2 * PMIG_PAGE_BYTES};
	unsigned char in_core[4];
	int node;

	CHECK(memory != MAP_FAILED);
	memory[0] = 1;
	node = pmig_numa_node_of(there, 2);
	CHECK_EQ(pmig_numa_node_of(there + 1, 1), PMIG_NUMA_UNKNOWN);
	CHECK_EQ(mincore(memory, size, in_core), 0);
	CHECK_EQ(in_core[2] & 1, 0);
	munmap(memory, size);
	if (node == PMIG_NUMA_UNKNOWN)
		UNIT_SKIP("move_pages(2) does not tell nodes here");
	CHECK(node >= 0);
	CHECK(pmig_numa_matters() || node == 0);
}

static void test_one_node_places_nothing(void)
{
	cpu_set_t before = own_affinity(), after;

	CHECK(!pmig_numa_place(pthread_self(), PMIG_NUMA_UNKNOWN));
	if (pmig_numa_matters())
		UNIT_SKIP("this machine has several nodes");
	CHECK(!pmig_numa_place(pthread_self(), 0));
	after = own_affinity();
	CHECK(CPU_EQUAL(&before, &after));
}

static bool place_on(uint32_t cpu)
{
	uint64_t cpus[PMIG_NUMA_CPU_WORDS] = {0};

	cpus[cpu / 64] |= 1ull << (cpu % 64);
	return pmig_numa_place_on(pthread_self(), cpus);
}

static bool runs_on(uint32_t cpu)
{
	cpu_set_t now = own_affinity();

	return CPU_COUNT(&now) == 1 && CPU_ISSET(cpu, &now);
}

/* From one node to the other and back, and never where it must not be. */
static void test_placing_follows_memory(void)
{
	cpu_set_t before = own_affinity(), rest = before;
	uint32_t first = first_of(&before), second;

	CPU_CLR(first, &rest);
	if (CPU_COUNT(&rest) == 0)
		UNIT_SKIP("one processor");
	second = first_of(&rest);
	CHECK(place_on(first) && runs_on(first));
	CHECK(!place_on(first) && runs_on(first));
	CHECK(place_on(second) && runs_on(second));
	CHECK(!place_on(8191) && runs_on(second));
	CHECK(place_on(first) && runs_on(first));
	/* its owner pins it: from then on it stays there */
	CPU_ZERO(&rest);
	CPU_SET(second, &rest);
	CHECK_EQ(sched_setaffinity(0, sizeof(rest), &rest), 0);
	CHECK(!place_on(first) && runs_on(second));
	CHECK_EQ(sched_setaffinity(0, sizeof(before), &before), 0);
}

int main(void)
{
	return unit_run((struct unit_test[]){
		UNIT(test_usable_follows_affinity), UNIT(test_pin),
		UNIT(test_pin_names_what_is_missing), UNIT(test_quota),
		UNIT(test_list), UNIT(test_node_of_memory),
		UNIT(test_one_node_places_nothing),
		UNIT(test_placing_follows_memory), UNIT_END});
}
