/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/line.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "base/error.h"
#include "codec/line_kernels.h"

enum {
	LINE_WORDS = LINE_BYTES / sizeof(uint32_t),
};

static bool always(void)
{
	return true;
}

static uint32_t print_of(const struct line_key *key, const uint8_t *line)
{
	uint32_t word[LINE_WORDS];
	uint64_t sum = 0;

	memcpy(word, line, sizeof(word));
	for (int i = 0; i < LINE_WORDS; i += 2)
		sum += (uint64_t)(uint32_t)(word[i] + key->nh[i]) *
		       (uint32_t)(word[i + 1] + key->nh[i + 1]);
	return (uint32_t)((sum * key->fold) >> 32);
}

static void prints_scalar(const struct line_key *key, const void *page,
			  struct line_prints *prints)
{
	const uint8_t *line = page;

	for (int l = 0; l < PAGE_LINES; l++, line += LINE_BYTES)
		prints->line[l] = print_of(key, line);
}

const struct line_kernel line_kernels[] = {
#if defined(__x86_64__)
	{"avx512", line_has_avx512, line_prints_avx512},
	{"avx2", line_has_avx2, line_prints_avx2},
#endif
	{"scalar", always, prints_scalar},
};

const unsigned int line_kernels_count =
	sizeof(line_kernels) / sizeof(line_kernels[0]);

const struct line_kernel *line_kernel_best(void)
{
	const struct line_kernel *kernel = line_kernels;

	while (!kernel->supported())
		kernel++;
	return kernel;
}

int line_key_init(struct line_key *key, struct pmig_error *err)
{
	ssize_t got = getrandom(key, sizeof(*key), 0);

	if (got < 0)
		return pmig_fail_errno(err, "no random numbers for the "
					    "fingerprints of pages: getrandom");
	if ((size_t)got != sizeof(*key))
		return pmig_fail(err, -EIO,
				 "no random numbers for the fingerprints of "
				 "pages: getrandom gave %zd bytes of %zu",
				 got, sizeof(*key));
	key->fold |= 1;
	return 0;
}
