/* SPDX-License-Identifier: Apache-2.0 */
#include "channel/socket_splice.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum {
	/* four blocks; the most that everybody may have */
	PIPE_BYTES = 1 << 20,
};

void splice_init(struct splice_path *path)
{
	*path = (struct splice_path){.pipe_fds = {-1, -1}};
}

void splice_fini(struct splice_path *path)
{
	for (int i = 0; i < 2; i++)
		if (path->pipe_fds[i] >= 0)
			close(path->pipe_fds[i]);
}

void splice_open(struct splice_path *path)
{
	if (path->pipe_fds[0] >= 0)
		return;
	if (pipe2(path->pipe_fds, O_CLOEXEC | O_NONBLOCK)) {
		path->pipe_fds[0] = -1;
		path->pipe_fds[1] = -1;
		return;
	}
	/* a smaller one is slower, and does as well */
	fcntl(path->pipe_fds[1], F_SETPIPE_SZ, PIPE_BYTES);
}

bool splice_usable(const struct splice_path *path)
{
	return path->pipe_fds[0] >= 0 && !path->refused;
}

/* Refer to pages of the piece, as many as the pipe holds. */
static ssize_t fill_pipe(struct splice_path *path, const struct iovec *iov)
{
	ssize_t n;

	do {
		n = vmsplice(path->pipe_fds[1], iov, 1, SPLICE_F_NONBLOCK);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	path->waiting_bytes = (size_t)n;
	return n;
}

/* Take back what nobody sent, so that the caller can send it otherwise. */
static void empty_pipe(struct splice_path *path)
{
	char bytes[4096];

	while (path->waiting_bytes) {
		ssize_t n = read(path->pipe_fds[0], bytes, sizeof(bytes));

		if (n <= 0)
			break;
		path->waiting_bytes -= (size_t)n;
	}
}

static bool is_refusal(ssize_t rc)
{
	return rc == -EINVAL || rc == -EOPNOTSUPP || rc == -EPERM ||
	       rc == -ENOSYS || rc == -EFAULT;
}

static ssize_t refuse(struct splice_path *path)
{
	empty_pipe(path);
	path->refused = true;
	return -ENOTSUP;
}

ssize_t splice_send(struct splice_path *path, int fd, const struct iovec *iov,
		    bool more)
{
	unsigned int flags = SPLICE_F_NONBLOCK | (more ? SPLICE_F_MORE : 0);
	ssize_t n = 0;

	if (path->waiting_bytes == 0)
		n = fill_pipe(path, iov);
	if (n < 0)
		return is_refusal(n) ? refuse(path) : n;
	do {
		n = splice(path->pipe_fds[0], NULL, fd, NULL,
			   path->waiting_bytes, flags);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		n = -errno;
	if (is_refusal(n))
		return refuse(path);
	if (n > 0)
		path->waiting_bytes -= (size_t)n;
	return n;
}
