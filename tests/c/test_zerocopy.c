/* SPDX-License-Identifier: Apache-2.0 */
/* MSG_ZEROCOPY on real sockets: what is sent, and when it is given up. */
#include <errno.h>
#include <linux/capability.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "channel/channel.h"
#include "loopback.h"
#include "unit.h"

enum {
	HEAD_BYTES = 1000,
	BODY_BYTES = 256 << 10,
	WRITES = 64,
};

/**
 * struct line - a TCP connection over loopback and what is sent on it
 * @fds:	writing and reading end
 * @out:	channel over the first
 * @in:		channel over the second
 * @wait:	limits of both
 * @pages:	one body for each write; random
 * @rc:		what reading came to
 */
struct line {
	int fds[2];
	struct pmig_channel *out;
	struct pmig_channel *in;
	struct channel_wait wait;
	uint8_t *pages;
	int rc;
};

static uint8_t *random_pages(size_t size_bytes)
{
	uint8_t *pages = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t random = 1;

	CHECK(pages != MAP_FAILED);
	for (size_t i = 0; i < size_bytes; i += sizeof(random)) {
		random = random * 6364136223846793005ull + 1442695041ull;
		memcpy(pages + i, &random, sizeof(random));
	}
	return pages;
}

static void open_line(struct line *line)
{
	struct pmig_error err;

	memset(line, 0, sizeof(*line));
	connect_tcp(line->fds);
	line->wait.cancel_fd = eventfd(0, EFD_CLOEXEC);
	line->wait.stall_ms = 30000;
	line->pages = random_pages((size_t)WRITES * BODY_BYTES);
	CHECK_OK(pmig_channel_from_socket(line->fds[0], &line->out, &err), err);
	CHECK_OK(pmig_channel_from_socket(line->fds[1], &line->in, &err), err);
}

static void close_line(struct line *line)
{
	pmig_channel_free(line->out);
	pmig_channel_free(line->in);
	close(line->fds[0]);
	close(line->fds[1]);
	close(line->wait.cancel_fd);
	munmap(line->pages, (size_t)WRITES * BODY_BYTES);
}

/* Each write is a head, a body in two pieces, and a short body. */
static void *read_main(void *arg)
{
	static uint8_t got[2 * HEAD_BYTES + BODY_BYTES];
	struct line *line = arg;
	struct pmig_error err;

	for (int i = 0; i < WRITES && !line->rc; i++) {
		struct iovec iov = {got, sizeof(got)};
		const uint8_t *page = line->pages + (size_t)i * BODY_BYTES;

		line->rc = channel_read(line->in, &iov, 1, &line->wait, &err);
		for (int at = 0; at < HEAD_BYTES && !line->rc; at++)
			if (got[at] != (uint8_t)i)
				line->rc = -EBADMSG;
		if (!line->rc &&
		    (memcmp(got + HEAD_BYTES, page, BODY_BYTES) ||
		     memcmp(got + HEAD_BYTES + BODY_BYTES, page, HEAD_BYTES)))
			line->rc = -EBADMSG;
	}
	return NULL;
}

/* The head is built in one buffer, over and over. */
static int write_one(struct line *line, int i, struct pmig_error *err)
{
	static const uint64_t stable = 0xe;
	uint8_t *page = line->pages + (size_t)i * BODY_BYTES;
	uint8_t head[HEAD_BYTES];
	struct iovec iov[] = {
		{head, HEAD_BYTES},
		{page, 5 * PMIG_PAGE_BYTES},
		{page + 5 * PMIG_PAGE_BYTES, BODY_BYTES - 5 * PMIG_PAGE_BYTES},
		{page, HEAD_BYTES},
	};
	int rc;

	memset(head, i, HEAD_BYTES);
	rc = channel_write_marked(line->out, iov, 4, &stable, &line->wait, err);
	memset(head, 0xff, HEAD_BYTES);
	return rc;
}

static void write_and_compare(struct line *line)
{
	struct pmig_error err;
	pthread_t thread;

	CHECK_EQ(pthread_create(&thread, NULL, read_main, line), 0);
	for (int i = 0; i < WRITES; i++)
		CHECK_OK(write_one(line, i, &err), err);
	CHECK_OK(channel_settle(line->out, &line->wait, &err), err);
	pthread_join(thread, NULL);
	CHECK_EQ(line->rc, 0);
}

static void need_zero_copy(struct line *line)
{
	struct pmig_error err;

	if (!channel_zero_copy(line->out, PMIG_CHOICE_ON, &err))
		return;
	close_line(line);
	UNIT_SKIP("%s", err.message);
}

static void test_off_to_begin_with(void)
{
	const char *reason = NULL;
	struct line line;

	open_line(&line);
	CHECK(!channel_zero_copy_state(line.out, &reason));
	CHECK(strstr(reason, "not asked for"));
	write_and_compare(&line);
	close_line(&line);
}

/* Loopback copies: auto notices, gives up, and says why. */
static void test_auto_gives_up_on_loopback(void)
{
	const char *reason;
	struct pmig_error err;
	struct line line;

	open_line(&line);
	need_zero_copy(&line);
	CHECK_OK(channel_zero_copy(line.out, PMIG_CHOICE_AUTO, &err), err);
	CHECK(channel_zero_copy_state(line.out, &reason));
	CHECK(!reason);
	write_and_compare(&line);
	CHECK(!channel_zero_copy_state(line.out, &reason));
	CHECK(strstr(reason, "copies anyway"));
	write_and_compare(&line);
	close_line(&line);
}

static void test_on_goes_on(void)
{
	const char *reason;
	struct pmig_error err;
	struct line line;

	open_line(&line);
	need_zero_copy(&line);
	write_and_compare(&line);
	CHECK(channel_zero_copy_state(line.out, &reason));
	CHECK(strstr(reason, "copies anyway"));
	CHECK_OK(channel_zero_copy(line.out, PMIG_CHOICE_OFF, &err), err);
	CHECK(!channel_zero_copy_state(line.out, &reason));
	CHECK(strstr(reason, "not asked for"));
	CHECK_OK(channel_zero_copy(line.out, PMIG_CHOICE_ON, &err), err);
	CHECK(channel_zero_copy_state(line.out, NULL));
	close_line(&line);
}

/*
 * Marked pieces are not copied: what is written to them while the peer's
 * window is closed is what arrives. The others are.
 */
static void test_only_marked_pieces_change_in_flight(void)
{
	static const uint64_t stable = 2;
	static uint8_t head[BODY_BYTES], got[BODY_BYTES];
	struct pmig_error err;
	struct line line;
	int n = 0, rc = 0;

	open_line(&line);
	need_zero_copy(&line);
	line.wait.stall_ms = 50;
	while (!rc) {
		struct iovec iov[] = {{head, BODY_BYTES},
				      {line.pages, BODY_BYTES}};

		memset(head, 0, BODY_BYTES);
		memset(line.pages, 0, BODY_BYTES);
		rc = channel_write_marked(line.out, iov, 2, &stable, &line.wait,
					  &err);
		n += !rc;
	}
	CHECK_EQ(rc, -ETIMEDOUT);
	CHECK_EQ(channel_settle(line.out, &line.wait, &err), -ETIMEDOUT);
	memset(head, 1, BODY_BYTES);
	memset(line.pages, 1, BODY_BYTES);
	line.wait.stall_ms = 30000;
	for (int i = 0; i < 2 * n; i++) {
		struct iovec iov = {got, BODY_BYTES};

		CHECK_OK(channel_read(line.in, &iov, 1, &line.wait, &err), err);
		if (i % 2 == 0)
			CHECK(!memchr(got, 1, BODY_BYTES));
	}
	CHECK(n > 0);
	CHECK(memchr(got, 1, BODY_BYTES));
	close_line(&line);
}

static void test_settle_ends(void)
{
	struct pmig_error err;
	struct line line;
	int rc = 0;

	open_line(&line);
	need_zero_copy(&line);
	CHECK_OK(channel_settle(line.out, &line.wait, &err), err);
	line.wait.stall_ms = 20;
	for (int i = 0; i < WRITES && !rc; i++)
		rc = write_one(&line, i, &err);
	CHECK_EQ(rc, -ETIMEDOUT);
	eventfd_write(line.wait.cancel_fd, 1);
	CHECK_EQ(channel_settle(line.out, &line.wait, &err), -ECANCELED);
	eventfd_read(line.wait.cancel_fd, &(eventfd_t){0});
	/* a reset lets go of everything */
	setsockopt(line.fds[1], SOL_SOCKET, SO_LINGER,
		   &(struct linger){.l_onoff = 1}, sizeof(struct linger));
	close(line.fds[1]);
	line.wait.stall_ms = 30000;
	rc = channel_settle(line.out, &line.wait, &err);
	CHECK(rc == 0 || rc == -EPIPE);
	CHECK_EQ(write_one(&line, 0, &err), -EPIPE);
	line.fds[1] = eventfd(0, EFD_CLOEXEC);
	close_line(&line);
}

static void test_not_tcp(void)
{
	static const uint64_t stable = 1;
	struct channel_wait wait = {eventfd(0, EFD_CLOEXEC), 1000};
	struct pmig_channel *channels[3];
	struct pmig_error err;
	const char *reason;
	int fds[2];

	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	CHECK_OK(pmig_channel_from_socket(fds[0], &channels[0], &err), err);
	CHECK_OK(pmig_channel_null(&channels[1], &err), err);
	CHECK_OK(pmig_channel_memory(NULL, 0, &channels[2], &err), err);
	for (int i = 0; i < 3; i++) {
		struct iovec iov = {"text", 4};

		CHECK_OK(channel_zero_copy(channels[i], PMIG_CHOICE_AUTO, &err),
			 err);
		CHECK(!channel_zero_copy_state(channels[i], &reason));
		CHECK(strstr(reason, i ? "sockets" : "TCP"));
		CHECK_EQ(channel_zero_copy(channels[i], PMIG_CHOICE_ON, &err),
			 -ENOTSUP);
		CHECK_OK(channel_write_marked(channels[i], &iov, 1, &stable,
					      &wait, &err),
			 err);
		CHECK_OK(channel_settle(channels[i], &wait, &err), err);
		pmig_channel_free(channels[i]);
	}
	close(fds[0]);
	close(fds[1]);
	close(wait.cancel_fd);
}

/* Let this process lock no memory, root or not. */
static bool forbid_locked_memory(void)
{
	struct __user_cap_header_struct header = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct caps[2];

	if (setrlimit(RLIMIT_MEMLOCK, &(struct rlimit){0, 0}) ||
	    syscall(SYS_capget, &header, caps))
		return false;
	caps[CAP_TO_INDEX(CAP_IPC_LOCK)].effective &=
		~CAP_TO_MASK(CAP_IPC_LOCK);
	return !syscall(SYS_capset, &header, caps);
}

/* In a child: 0 when all was sent right, and given up for the right reason. */
static int child_without_memory(struct line *line)
{
	const char *reason = "";
	struct pmig_error err;
	pthread_t thread;
	int rc = 0;

	if (!forbid_locked_memory() ||
	    channel_zero_copy(line->out, PMIG_CHOICE_ON, &err) ||
	    pthread_create(&thread, NULL, read_main, line))
		return 2;
	for (int i = 0; i < WRITES && !rc; i++)
		rc = write_one(line, i, &err);
	pthread_join(thread, NULL);
	if (rc || line->rc)
		return 3;
	if (channel_zero_copy_state(line->out, &reason) ||
	    !strstr(reason, "RLIMIT_MEMLOCK"))
		return 4;
	return 0;
}

static void test_no_lockable_memory(void)
{
	struct line line;
	int status;
	pid_t pid;

	open_line(&line);
	need_zero_copy(&line);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0)
		_exit(child_without_memory(&line));
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFEXITED(status));
	CHECK_EQ(WEXITSTATUS(status), 0);
	close_line(&line);
}

int main(void)
{
	return unit_run((struct unit_test[]){
		UNIT(test_off_to_begin_with),
		UNIT(test_auto_gives_up_on_loopback), UNIT(test_on_goes_on),
		UNIT(test_only_marked_pieces_change_in_flight),
		UNIT(test_settle_ends), UNIT(test_not_tcp),
		UNIT(test_no_lockable_memory), UNIT_END});
}
