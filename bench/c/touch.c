/* SPDX-License-Identifier: Apache-2.0 */
#include "touch.h"

#include <errno.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "uffd/uffd.h"

enum {
	/* coprime to any number of pages that is a power of two */
	STRIDE = 1000003,
};

struct server {
	int fd;
	int stop_fd;
	uint8_t *page;
	int failed;
};

static void *serve(void *arg)
{
	struct server *server = arg;
	struct pollfd fds[2] = {
		{.fd = server->fd, .events = POLLIN},
		{.fd = server->stop_fd, .events = POLLIN},
	};
	_Alignas(8) uint8_t room[UFFD_MESSAGES * UFFD_MESSAGE_BYTES];
	struct uffd_event events[UFFD_MESSAGES];

	while (poll(fds, 2, -1) > 0 && !fds[1].revents) {
		int n = uffd_read(server->fd, room, events, UFFD_MESSAGES);

		for (int i = 0; i < n; i++) {
			const struct uffd_range range = {
				.start = events[i].start &
					 ~(uint64_t)(PMIG_PAGE_BYTES - 1),
				.size_bytes = PMIG_PAGE_BYTES,
				.page_bytes = PMIG_PAGE_BYTES,
				.from = server->page,
			};
			uint64_t done;

			server->failed |= uffd_place(server->fd, UFFD_COPY,
						     &range, &done);
		}
	}
	return NULL;
}

static void touch_all(volatile uint8_t *memory, uint32_t n, uint64_t *out)
{
	for (uint32_t i = 0; i < n; i++) {
		uint64_t page = (uint64_t)i * STRIDE % n;
		uint64_t since_ns = pmig_now_ns();

		(void)memory[page * PMIG_PAGE_BYTES];
		out[i] = pmig_now_ns() - since_ns;
	}
}

static int measure(struct server *server, uint8_t *memory, uint32_t n,
		   uint64_t *out)
{
	uint64_t bytes = (uint64_t)n * PMIG_PAGE_BYTES;
	pthread_t thread;
	int rc;

	madvise(memory, bytes, MADV_NOHUGEPAGE);
	if (!uffd_agree(server->fd, 0))
		return -ENOTSUP;
	rc = uffd_register_range(server->fd, (uintptr_t)memory, bytes,
				 UFFDIO_REGISTER_MODE_MISSING);
	if (!rc)
		rc = -pthread_create(&thread, NULL, serve, server);
	if (rc)
		return rc;
	touch_all(memory, n, out);
	eventfd_write(server->stop_fd, 1);
	pthread_join(thread, NULL);
	return server->failed;
}

int bench_touch(uint32_t n, uint64_t *out)
{
	uint64_t bytes = (uint64_t)n * PMIG_PAGE_BYTES;
	struct server server = {
		.fd = uffd_new(NULL),
		.stop_fd = eventfd(0, EFD_CLOEXEC),
		.page = calloc(1, PMIG_PAGE_BYTES),
	};
	uint8_t *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int rc = -ENOMEM;

	if (server.fd < 0)
		rc = server.fd;
	else if (server.stop_fd >= 0 && server.page && memory != MAP_FAILED)
		rc = measure(&server, memory, n, out);
	if (memory != MAP_FAILED)
		munmap(memory, bytes);
	if (server.fd >= 0)
		close(server.fd);
	if (server.stop_fd >= 0)
		close(server.stop_fd);
	free(server.page);
	return rc;
}
