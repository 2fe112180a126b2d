/* SPDX-License-Identifier: Apache-2.0 */
#include "foreign_child.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "unit.h"

enum {
	ANSWER_MS = 20000,
	BUSY_MS = 50,
	BROKEN = 1, /* exit code */
};

struct message {
	uint64_t order;
	uint64_t page;
	uint64_t n;
};

uint64_t foreign_sum(const void *page)
{
	const uint64_t *words = page;
	uint64_t sum = 0;

	for (unsigned int i = 0; i < PMIG_PAGE_BYTES / sizeof(*words); i++)
		sum = (sum << 1 | sum >> 63) ^ words[i];
	return sum;
}

/* ---- the child --------------------------------------------------------- */

static int register_memory(const struct backed *guest)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_EVENT_REMOVE,
	};
	struct uffdio_register arg = {
		.range = {(uintptr_t)guest->bytes, guest->region.size_bytes},
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) ||
	    ioctl(fd, UFFDIO_REGISTER, &arg))
		return -1;
	return fd;
}

static void send_fd(int sock, int fd)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control = {0};
	char byte = 0;
	struct iovec iov = {&byte, 1};
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control.room),
	};
	struct cmsghdr *head = CMSG_FIRSTHDR(&message);

	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	head->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(head), &fd, sizeof(fd));
	if (sendmsg(sock, &message, 0) != 1)
		_exit(BROKEN);
}

static uint64_t obey(const struct backed *guest, const struct message *message)
{
	uint8_t *at = guest->bytes + message->page * PMIG_PAGE_BYTES;
	uint64_t bytes = message->n * PMIG_PAGE_BYTES;

	switch (message->order) {
	case FOREIGN_READ:
		return foreign_sum(at);
	case FOREIGN_REMOVE:
		return (uint64_t)madvise(at, bytes, MADV_DONTNEED);
	default:
		return (uint64_t)madvise(at, bytes, MADV_DONTDUMP);
	}
}

static void child_main(const struct backed *guest, int sock)
{
	struct message message;
	int fd;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	fd = register_memory(guest);
	if (fd < 0)
		_exit(BROKEN);
	send_fd(sock, fd);
	while (read(sock, &message, sizeof(message)) == sizeof(message)) {
		uint64_t answer = obey(guest, &message);

		if (write(sock, &answer, sizeof(answer)) != sizeof(answer))
			break;
	}
	_exit(0);
}

/* ---- the parent -------------------------------------------------------- */

static int receive_fd(int sock)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	char byte;
	struct iovec iov = {&byte, 1};
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control.room),
	};
	int fd = -1;

	if (recvmsg(sock, &message, MSG_CMSG_CLOEXEC) == 1 &&
	    CMSG_FIRSTHDR(&message))
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
	return fd;
}

void foreign_open(struct foreign_child *child, enum backing backing,
		  uint64_t size_bytes)
{
	int socks[2];

	backing_map(&child->guest, backing, size_bytes);
	child->memory = backing_describe(&child->guest);
	child->base = (uintptr_t)child->guest.bytes;
	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks), 0);
	child->pid = fork();
	CHECK(child->pid >= 0);
	if (child->pid == 0) {
		close(socks[0]);
		child_main(&child->guest, socks[1]);
	}
	close(socks[1]);
	child->sock = socks[0];
	child->uffd = receive_fd(child->sock);
	if (child->uffd < 0)
		UNIT_SKIP("no userfaultfd to be had, or none that reports "
			  "removals");
}

void foreign_close(struct foreign_child *child)
{
	kill(child->pid, SIGKILL);
	waitpid(child->pid, NULL, 0);
	close(child->sock);
	close(child->uffd);
	pmig_memory_free(child->memory);
	backing_unmap(&child->guest);
}

void foreign_tell(const struct foreign_child *child, enum foreign_order order,
		  uint64_t page, uint64_t n)
{
	const struct message message = {order, page, n};

	CHECK_EQ(write(child->sock, &message, sizeof(message)),
		 sizeof(message));
}

static bool has_answered(const struct foreign_child *child, int timeout_ms)
{
	struct pollfd fd = {.fd = child->sock, .events = POLLIN};

	return poll(&fd, 1, timeout_ms) > 0;
}

uint64_t foreign_answer(const struct foreign_child *child)
{
	uint64_t answer;

	if (!has_answered(child, ANSWER_MS))
		UNIT_FAIL("the other process waits for ever");
	CHECK_EQ(read(child->sock, &answer, sizeof(answer)), sizeof(answer));
	return answer;
}

bool foreign_is_busy(const struct foreign_child *child)
{
	return !has_answered(child, BUSY_MS);
}

uint64_t foreign_do(const struct foreign_child *child, enum foreign_order order,
		    uint64_t page, uint64_t n)
{
	foreign_tell(child, order, page, n);
	return foreign_answer(child);
}
