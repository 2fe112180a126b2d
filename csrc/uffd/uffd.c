/* SPDX-License-Identifier: Apache-2.0 */
#include "uffd/uffd.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/error.h"

enum {
	PMIG_MADV_POPULATE_READ = 22, /* Linux 5.14 */
};

static_assert(sizeof(struct uffd_msg) == UFFD_MESSAGE_BYTES,
	      "the size of a message");

/*
 * Linux 6.1 has both ways. The device asks for permission to open it only;
 * the system call for CAP_SYS_PTRACE or vm.unprivileged_userfaultfd.
 */
int uffd_new(struct pmig_error *err)
{
	int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	long fd = -1;

	if (device >= 0) {
		fd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
		close(device);
	}
	if (fd < 0)
		fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (fd >= 0)
		return (int)fd;
	pmig_fail_errno(err, "cannot open a userfaultfd (it takes access to "
			     "/dev/userfaultfd or CAP_SYS_PTRACE)");
	if (err)
		err->code = -ENOTSUP;
	return -ENOTSUP;
}

bool uffd_agree(int fd, uint64_t features)
{
	struct uffdio_api api = {.api = UFFD_API, .features = features};

	return ioctl(fd, UFFDIO_API, &api) == 0;
}

uint64_t uffd_offered(void)
{
	struct uffdio_api api = {.api = UFFD_API};
	int fd = uffd_new(NULL);

	if (fd < 0)
		return 0;
	if (ioctl(fd, UFFDIO_API, &api))
		api.features = 0;
	close(fd);
	return api.features;
}

int uffd_register_range(int fd, uint64_t start, uint64_t size_bytes,
			uint64_t mode)
{
	struct uffdio_register arg = {
		.range = {start, size_bytes},
		.mode = mode,
	};

	return ioctl(fd, UFFDIO_REGISTER, &arg) ? -errno : 0;
}

int uffd_unregister_range(int fd, uint64_t start, uint64_t size_bytes)
{
	struct uffdio_range range = {start, size_bytes};

	return ioctl(fd, UFFDIO_UNREGISTER, &range) ? -errno : 0;
}

void uffd_wake(int fd, uint64_t start, uint64_t size_bytes)
{
	struct uffdio_range range = {start, size_bytes};

	ioctl(fd, UFFDIO_WAKE, &range);
}

bool uffd_is_changing(int fd)
{
	/* of no page: an error in any case, and this one comes first */
	struct uffdio_zeropage zero = {0};

	return ioctl(fd, UFFDIO_ZEROPAGE, &zero) && errno == EAGAIN;
}

/* One call; *bytes is what it placed, also where it failed after that. */
static int place_some(int fd, enum uffd_placement placement, uint64_t to,
		      const void *from, uint64_t size_bytes, int64_t *bytes)
{
	struct uffdio_copy copy = {
		.dst = to,
		.src = (uint64_t)(uintptr_t)from,
		.len = size_bytes,
	};
	struct uffdio_zeropage zero = {.range = {to, size_bytes}};
	struct uffdio_continue go_on = {.range = {to, size_bytes}};
	int rc = 0;

	switch (placement) {
	case UFFD_COPY:
		rc = ioctl(fd, UFFDIO_COPY, &copy) ? -errno : 0;
		*bytes = copy.copy;
		break;
	case UFFD_ZERO:
		rc = ioctl(fd, UFFDIO_ZEROPAGE, &zero) ? -errno : 0;
		*bytes = zero.zeropage;
		break;
	case UFFD_CONTINUE:
		rc = ioctl(fd, UFFDIO_CONTINUE, &go_on) ? -errno : 0;
		*bytes = go_on.mapped;
		break;
	}
	if (*bytes < 0)
		*bytes = 0;
	return rc;
}

/*
 * The kernel copies to a huge page without serving faults. Where a part of
 * the source is not mapped it starts anew, by way of a second huge page; and
 * fails for want of one where the pool has just as many as the guest needs.
 * Best effort: a failure costs that way, and is told there.
 */
static void map_source(const struct uffd_range *range)
{
	if (range->page_bytes > PMIG_PAGE_BYTES)
		madvise((void *)range->from, range->size_bytes,
			PMIG_MADV_POPULATE_READ);
}

/* Half of it, in whole pages. */
static uint64_t half(uint64_t size_bytes, uint64_t page_bytes)
{
	return (size_bytes / page_bytes + 1) / 2 * page_bytes;
}

int uffd_place(int fd, enum uffd_placement placement,
	       const struct uffd_range *range, uint64_t *done_bytes)
{
	uint64_t done = 0, limit = range->size_bytes;
	int rc = 0;

	if (placement == UFFD_COPY)
		map_source(range);
	while (done < range->size_bytes) {
		const uint8_t *from = range->from;
		uint64_t size = range->size_bytes - done;
		int64_t bytes = 0;

		if (size > limit)
			size = limit;
		rc = place_some(fd, placement, range->start + done,
				from ? from + done : NULL, size, &bytes);
		done += (uint64_t)bytes;
		if (rc == 0 || bytes) {
			limit = limit < range->size_bytes ? 2 * limit : limit;
			continue;
		}
		if (rc == -ENOENT && size > range->page_bytes) {
			limit = half(size, range->page_bytes);
			continue;
		}
		if (rc != -EEXIST && rc != -ENOENT)
			break;
		uffd_wake(fd, range->start + done, range->page_bytes);
		done += range->page_bytes;
	}
	*done_bytes = done < range->size_bytes ? done : range->size_bytes;
	return done < range->size_bytes ? rc : 0;
}

/* What it means to us; false where it means nothing. */
static bool translate(const struct uffd_msg *message, struct uffd_event *event)
{
	switch (message->event) {
	case UFFD_EVENT_PAGEFAULT:
		*event = (struct uffd_event){
			.is_fault = true,
			.is_minor = message->arg.pagefault.flags &
				    UFFD_PAGEFAULT_FLAG_MINOR,
			.start = message->arg.pagefault.address,
			.thread = message->arg.pagefault.feat.ptid,
		};
		return true;
	case UFFD_EVENT_REMOVE:
		*event = (struct uffd_event){
			.start = message->arg.remove.start,
			.end = message->arg.remove.end,
		};
		return true;
	default:
		return false;
	}
}

static int decode(const struct uffd_msg *messages, size_t count,
		  struct uffd_event *events)
{
	int n = 0;

	for (size_t i = 0; i < count; i++)
		if (translate(&messages[i], &events[n]))
			n++;
	return n;
}

int uffd_decode(const void *room, struct uffd_event *events)
{
	return decode(room, UFFD_MESSAGES, events);
}

int uffd_read(int fd, void *room, struct uffd_event *events, int capacity)
{
	size_t limit = UFFD_MESSAGES;
	ssize_t got;

	if (capacity < UFFD_MESSAGES)
		limit = (size_t)capacity;
	got = read(fd, room, limit * sizeof(struct uffd_msg));
	if (got < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	return decode(room, (size_t)got / sizeof(struct uffd_msg), events);
}
