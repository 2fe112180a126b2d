/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/corpus.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/content_kinds.h"
#include "vmm/error.h"
#include "vmm/layout.h"

#define MAX_CORPUS_BYTES (32ull << 20)
#define MIN_CORPUS_BYTES (2ull << 20)
#define MIN_FILE_BYTES	 (64ull << 10)

/*
 * Pages that follow each other in a file follow each other in memory. A run
 * begins anywhere, so that few pages of a large memory are the same.
 */
#define RUN_PAGES 64
#define RUN_ALIGN 4

/* Programs of every system, then libraries where distributions put them. */
static const char *const directories[] = {
	"/usr/bin",
	"/usr/lib/x86_64-linux-gnu",
	"/usr/lib/aarch64-linux-gnu",
	"/usr/lib64",
	"/usr/lib",
};

static bool is_elf(int fd)
{
	char magic[4];

	return pread(fd, magic, sizeof(magic), 0) == sizeof(magic) &&
	       !memcmp(magic, "\177ELF", sizeof(magic));
}

/* Append a file, or as much of it as there is room for. */
static void append(struct pvmm_corpus *corpus, int fd)
{
	while (corpus->size_bytes < MAX_CORPUS_BYTES) {
		ssize_t got = read(fd, corpus->bytes + corpus->size_bytes,
				   MAX_CORPUS_BYTES - corpus->size_bytes);

		if (got <= 0)
			return;
		corpus->size_bytes += (uint64_t)got;
	}
}

/* What cannot be read is left out; the digest says what is in. */
static void add_file(struct pvmm_corpus *corpus, const char *directory,
		     const char *name)
{
	char path[PATH_MAX];
	struct stat file;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return;
	if (!fstat(fd, &file) && S_ISREG(file.st_mode) &&
	    file.st_size >= (off_t)MIN_FILE_BYTES && is_elf(fd))
		append(corpus, fd);
	close(fd);
}

/* In the order of bytes: alphasort() would depend on the locale. */
static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static void add_directory(struct pvmm_corpus *corpus, const char *directory)
{
	struct dirent **names;
	int n = scandir(directory, &names, NULL, by_name);

	if (n < 0)
		return;
	for (int i = 0; i < n; i++) {
		if (corpus->size_bytes < MAX_CORPUS_BYTES)
			add_file(corpus, directory, names[i]->d_name);
		free(names[i]);
	}
	free(names);
}

static uint64_t digest(const struct pvmm_corpus *corpus)
{
	uint64_t sum = corpus->size_bytes;

	for (uint64_t at = 0; at + 8 <= corpus->size_bytes; at += 8) {
		uint64_t word;

		memcpy(&word, corpus->bytes + at, sizeof(word));
		sum = pvmm_mix(sum ^ word);
	}
	return sum | 1;
}

int pvmm_corpus_load(struct pvmm_corpus *corpus, struct pmig_error *err)
{
	*corpus = (struct pvmm_corpus){.bytes = malloc(MAX_CORPUS_BYTES)};
	if (!corpus->bytes)
		return pvmm_fail(err, -ENOMEM, "no memory for content");
	for (size_t i = 0; i < sizeof(directories) / sizeof(directories[0]);
	     i++)
		add_directory(corpus, directories[i]);
	if (corpus->size_bytes < MIN_CORPUS_BYTES) {
		pvmm_corpus_free(corpus);
		return pvmm_fail(err, -ENOENT,
				 "content of kind executable is made of the "
				 "programs in /usr/bin, and there are none");
	}
	corpus->digest = digest(corpus);
	return 0;
}

void pvmm_corpus_free(struct pvmm_corpus *corpus)
{
	free(corpus->bytes);
	*corpus = (struct pvmm_corpus){0};
}

void pvmm_corpus_page(const struct pvmm_corpus *corpus, uint64_t seed,
		      uint64_t page, uint64_t *words)
{
	uint64_t room = corpus->size_bytes - RUN_PAGES * PVMM_PAGE_BYTES;
	uint64_t run = pvmm_mix(pvmm_mix(seed) ^ page / RUN_PAGES);
	uint64_t at = run % (room / RUN_ALIGN) * RUN_ALIGN;

	memcpy(words, corpus->bytes + at + page % RUN_PAGES * PVMM_PAGE_BYTES,
	       PVMM_PAGE_BYTES);
}
