/* SPDX-License-Identifier: Apache-2.0 */
/* Channels: whole transfers, ends, stalls, cancellation, full disks. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "channel/channel.h"
#include "unit.h"

static struct channel_wait wait_ms(int stall_ms)
{
	return (struct channel_wait){
		.cancel_fd = eventfd(0, EFD_CLOEXEC),
		.stall_ms = stall_ms,
	};
}

static int write_text(struct pmig_channel *channel, const char *text,
		      const struct channel_wait *wait, struct pmig_error *err)
{
	struct iovec iov[2] = {{(void *)text, 2},
			       {(void *)(text + 2), strlen(text) - 2}};

	return channel_write(channel, iov, 2, wait, err);
}

static int read_bytes(struct pmig_channel *channel, void *data, size_t size,
		      const struct channel_wait *wait, struct pmig_error *err)
{
	struct iovec iov[2] = {{data, 1}, {(char *)data + 1, size - 1}};

	return channel_read(channel, iov, 2, wait, err);
}

static void test_socket_both_ways(void)
{
	struct channel_wait wait = wait_ms(1000);
	struct pmig_channel *a, *b;
	struct pmig_error err;
	char text[6] = {0};
	int fds[2];

	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	CHECK_OK(pmig_channel_from_socket(fds[0], &a, &err), err);
	CHECK_OK(pmig_channel_from_socket(fds[1], &b, &err), err);
	CHECK_OK(write_text(a, "hello", &wait, &err), err);
	CHECK_OK(read_bytes(b, text, 5, &wait, &err), err);
	CHECK(strcmp(text, "hello") == 0);
	close(fds[0]);
	CHECK_EQ(read_bytes(b, text, 5, &wait, &err), -ENODATA);
	CHECK_EQ(write_text(b, "world", &wait, &err), -EPIPE);
	CHECK(strstr(err.message, "peer closed"));
	pmig_channel_free(a);
	pmig_channel_free(b);
	close(fds[1]);
	close(wait.cancel_fd);
}

static void test_end_within(void)
{
	struct channel_wait wait = wait_ms(1000);
	struct pmig_channel *channel;
	struct pmig_error err;
	char text[8];

	CHECK_OK(pmig_channel_memory("abc", 3, &channel, &err), err);
	CHECK_EQ(read_bytes(channel, text, 5, &wait, &err), -EPIPE);
	CHECK_EQ(read_bytes(channel, text, 5, &wait, &err), -ENODATA);
	pmig_channel_free(channel);
	close(wait.cancel_fd);
}

static void test_stall_and_cancel(void)
{
	struct channel_wait wait = wait_ms(20);
	struct pmig_channel *channel;
	struct pmig_error err;
	uint64_t begin_ns;
	char text[4];
	int fds[2];

	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	CHECK_OK(pmig_channel_from_socket(fds[0], &channel, &err), err);
	begin_ns = pmig_now_ns();
	CHECK_EQ(read_bytes(channel, text, 4, &wait, &err), -ETIMEDOUT);
	CHECK(pmig_now_ns() - begin_ns >= 20000000u);
	CHECK(strstr(err.message, "20 ms"));
	wait.stall_ms = -1;
	eventfd_write(wait.cancel_fd, 1);
	CHECK_EQ(read_bytes(channel, text, 4, &wait, &err), -ECANCELED);
	CHECK_EQ(channel_wait_readable(channel, &wait, &err), -ECANCELED);
	pmig_channel_free(channel);
	close(fds[0]);
	close(fds[1]);
	close(wait.cancel_fd);
}

static void test_full_pipe_stalls(void)
{
	struct channel_wait wait = wait_ms(20);
	struct pmig_channel *channel;
	static char bulk[1 << 20];
	struct pmig_error err;
	int fds[2];
	int rc = 0;

	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	CHECK_OK(pmig_channel_from_socket(fds[0], &channel, &err), err);
	for (int i = 0; i < 64 && !rc; i++)
		rc = channel_write(channel, &(struct iovec){bulk, sizeof(bulk)},
				   1, &wait, &err);
	CHECK_EQ(rc, -ETIMEDOUT);
	pmig_channel_free(channel);
	close(fds[0]);
	close(fds[1]);
	close(wait.cancel_fd);
}

static void test_full_disk(void)
{
	struct channel_wait wait = wait_ms(1000);
	struct pmig_channel *channel;
	struct pmig_error err;
	int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);

	CHECK(fd >= 0);
	CHECK_OK(pmig_channel_from_file(fd, &channel, &err), err);
	CHECK_EQ(write_text(channel, "lost", &wait, &err), -ENOSPC);
	CHECK(strstr(err.message, "no space left"));
	pmig_channel_free(channel);
	close(fd);
	close(wait.cancel_fd);
}

static void test_wrong_descriptors(void)
{
	struct pmig_channel *channel;
	struct pmig_error err;
	int fd = memfd_create("not-a-socket", MFD_CLOEXEC);

	CHECK_EQ(pmig_channel_from_socket(fd, &channel, &err), -ENOTSOCK);
	CHECK_EQ(pmig_channel_from_socket(-1, &channel, &err), -EBADF);
	CHECK_EQ(pmig_channel_from_file(-1, &channel, &err), -EBADF);
	close(fd);
	fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	CHECK_EQ(pmig_channel_from_socket(fd, &channel, &err), -EINVAL);
	close(fd);
}

static void test_null(void)
{
	struct channel_wait wait = wait_ms(1000);
	struct pmig_channel *channel;
	struct pmig_error err;
	char text[4];

	CHECK_OK(pmig_channel_null(&channel, &err), err);
	CHECK_OK(write_text(channel, "gone", &wait, &err), err);
	CHECK_EQ(read_bytes(channel, text, 4, &wait, &err), -ENODATA);
	pmig_channel_free(channel);
	close(wait.cancel_fd);
}

int main(void)
{
	return unit_run((struct unit_test[]){
		UNIT(test_socket_both_ways), UNIT(test_end_within),
		UNIT(test_stall_and_cancel), UNIT(test_full_pipe_stalls),
		UNIT(test_full_disk), UNIT(test_wrong_descriptors),
		UNIT(test_null), UNIT_END});
}
