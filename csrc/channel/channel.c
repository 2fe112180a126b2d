/* SPDX-License-Identifier: Apache-2.0 */
#include "channel/channel.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"

/* Give every kind the same words for the same mishap. */
static int fail_io(const struct pmig_channel *channel, const char *verb,
		   int code, struct pmig_error *err)
{
	char reason[128];

	if (code == -EPIPE || code == -ECONNRESET)
		return pmig_fail(err, -EPIPE,
				 "%s: the peer closed the connection",
				 channel->ops->kind);
	if (code == -ENOSPC)
		return pmig_fail(err, code,
				 "%s: no space left on the device; free some "
				 "and start again",
				 channel->ops->kind);
	if (code == -EFAULT)
		return pmig_fail(err, code,
				 "%s: no memory behind a guest page: the host "
				 "is out of memory or of huge pages",
				 channel->ops->kind);
	return pmig_fail(err, code, "%s: cannot %s: %s", channel->ops->kind,
			 verb, strerror_r(-code, reason, sizeof(reason)));
}

static int remaining_ms(uint64_t since_ns, int stall_ms)
{
	uint64_t passed_ms = (pmig_now_ns() - since_ns) / 1000000u;

	if (stall_ms < 0)
		return -1;
	return passed_ms >= (uint64_t)stall_ms ? 0 : stall_ms - (int)passed_ms;
}

/* Ask once; 0 with what was found, -ECANCELED or -ETIMEDOUT. */
static int poll_once(struct pmig_channel *channel, short events,
		     uint64_t since_ns, const struct channel_wait *wait,
		     short *revents, struct pmig_error *err)
{
	struct pollfd fds[2] = {
		{.fd = wait->cancel_fd, .events = POLLIN},
		{.fd = channel->fd, .events = events},
	};
	int n;

	do {
		n = poll(fds, 2, remaining_ms(since_ns, wait->stall_ms));
	} while (n < 0 && errno == EINTR);
	if (events & POLLOUT)
		channel_blocked(channel, pmig_now_ns() - since_ns);
	if (n < 0)
		return pmig_fail_errno(err, "%s: cannot wait",
				       channel->ops->kind);
	if (fds[0].revents)
		return pmig_fail(err, -ECANCELED, "cancelled");
	if (n == 0)
		return pmig_fail(
			err, -ETIMEDOUT, "%s: nothing could be %s for %d ms",
			channel->ops->kind,
			events & POLLIN ? "read" : "written", wait->stall_ms);
	*revents = fds[1].revents;
	return 0;
}

/*
 * Notifications of complete sends make a socket look broken to poll(). False
 * when that is all there was.
 */
static bool is_ready(struct pmig_channel *channel, short revents)
{
	if (!(revents & POLLERR) || !channel->ops->settle)
		return true;
	return !channel->ops->settle(channel) || (revents & ~POLLERR);
}

/* Wait for events on the channel; 0, -ECANCELED or -ETIMEDOUT. */
static int wait_for(struct pmig_channel *channel, short events,
		    const struct channel_wait *wait, struct pmig_error *err)
{
	uint64_t since_ns = pmig_now_ns();
	short revents;
	int rc;

	do {
		rc = poll_once(channel, events, since_ns, wait, &revents, err);
	} while (!rc && !is_ready(channel, revents));
	return rc;
}

int channel_wait_readable(struct pmig_channel *channel,
			  const struct channel_wait *wait,
			  struct pmig_error *err)
{
	if (channel->fd < 0)
		return 0;
	return wait_for(channel, POLLIN, wait, err);
}

int channel_wait_writable(struct pmig_channel *channel,
			  const struct channel_wait *wait,
			  struct pmig_error *err)
{
	if (channel->fd < 0)
		return 0;
	return wait_for(channel, POLLOUT, wait, err);
}

/* Drop done bytes from the front; the number of pieces left. */
static int advance(struct iovec **iov, int n_iov, size_t done)
{
	while (n_iov > 0 && done >= (*iov)->iov_len) {
		done -= (*iov)->iov_len;
		(*iov)++;
		n_iov--;
	}
	if (n_iov > 0) {
		(*iov)->iov_base = (uint8_t *)(*iov)->iov_base + done;
		(*iov)->iov_len -= done;
	}
	return n_iov;
}

static int pieces(int n_iov)
{
	return n_iov < IOV_MAX ? n_iov : IOV_MAX;
}

/* How the pieces of one call are to be sent. */
struct manner {
	bool stable;
	bool more;
};

static ssize_t send_some(struct pmig_channel *channel, const struct iovec *iov,
			 int n_iov, const struct manner *manner)
{
	if (!channel->ops->send)
		return channel->ops->writev(channel, iov, pieces(n_iov));
	return channel->ops->send(channel, iov, pieces(n_iov), manner->stable,
				  manner->more || n_iov > IOV_MAX);
}

static int send_all(struct pmig_channel *channel, struct iovec *iov, int n_iov,
		    const struct manner *manner,
		    const struct channel_wait *wait, struct pmig_error *err)
{
	n_iov = advance(&iov, n_iov, 0);
	while (n_iov > 0) {
		ssize_t done = send_some(channel, iov, n_iov, manner);
		int rc;

		if (done >= 0) {
			n_iov = advance(&iov, n_iov, (size_t)done);
			continue;
		}
		if (done != -EAGAIN)
			return fail_io(channel, "write", (int)done, err);
		rc = wait_for(channel, POLLOUT, wait, err);
		if (rc)
			return rc;
	}
	return 0;
}

int channel_write(struct pmig_channel *channel, struct iovec *iov, int n_iov,
		  const struct channel_wait *wait, struct pmig_error *err)
{
	return send_all(channel, iov, n_iov, &(struct manner){0}, wait, err);
}

static bool is_marked(const uint64_t *bitmap, int bit)
{
	return bitmap[bit / 64] >> (bit % 64) & 1;
}

int channel_write_marked(struct pmig_channel *channel, struct iovec *iov,
			 int n_iov, const uint64_t *stable,
			 const struct channel_wait *wait,
			 struct pmig_error *err)
{
	int rc = 0;

	if (!channel_zero_copy_state(channel, NULL))
		return channel_write(channel, iov, n_iov, wait, err);
	for (int i = 0; i < n_iov && !rc;) {
		struct manner manner = {.stable = is_marked(stable, i)};
		int end = i + 1;

		while (end < n_iov && is_marked(stable, end) == manner.stable)
			end++;
		manner.more = end < n_iov;
		rc = send_all(channel, iov + i, end - i, &manner, wait, err);
		i = end;
	}
	return rc;
}

int channel_zero_copy(struct pmig_channel *channel, enum pmig_choice wanted,
		      struct pmig_error *err)
{
	if (channel->ops->choose_zero_copy)
		return channel->ops->choose_zero_copy(channel, wanted, err);
	if (wanted == PMIG_CHOICE_ON)
		return pmig_fail(err, -ENOTSUP, "%s: there is no zero copy",
				 channel->ops->kind);
	return 0;
}

bool channel_zero_copy_state(const struct pmig_channel *channel,
			     const char **reason)
{
	if (channel->ops->zero_copy_state)
		return channel->ops->zero_copy_state(channel, reason);
	if (reason)
		*reason = "only sockets have it";
	return false;
}

int channel_settle(struct pmig_channel *channel,
		   const struct channel_wait *wait, struct pmig_error *err)
{
	int rc = 0;

	if (!channel->ops->settled)
		return 0;
	channel->ops->settle(channel);
	while (!rc && !channel->ops->settled(channel)) {
		short revents;

		/* notifications are told without being asked for */
		rc = poll_once(channel, 0, pmig_now_ns(), wait, &revents, err);
		if (!rc && !channel->ops->settle(channel))
			rc = fail_io(channel, "write", -EPIPE, err);
	}
	return rc;
}

int channel_read(struct pmig_channel *channel, struct iovec *iov, int n_iov,
		 const struct channel_wait *wait, struct pmig_error *err)
{
	bool started = false;

	n_iov = advance(&iov, n_iov, 0);
	while (n_iov > 0) {
		ssize_t done = channel->ops->readv(channel, iov, pieces(n_iov));
		int rc;

		if (done > 0) {
			started = true;
			n_iov = advance(&iov, n_iov, (size_t)done);
			continue;
		}
		if (done == 0)
			return pmig_fail(err, started ? -EPIPE : -ENODATA,
					 "%s: the stream ends %s",
					 channel->ops->kind,
					 started ? "within a frame"
						 : "without its end frame");
		if (done != -EAGAIN)
			return fail_io(channel, "read", (int)done, err);
		rc = wait_for(channel, POLLIN, wait, err);
		if (rc)
			return rc;
	}
	return 0;
}

int channel_flush(struct pmig_channel *channel, struct pmig_error *err)
{
	int rc = channel->ops->flush ? channel->ops->flush(channel) : 0;

	return rc ? fail_io(channel, "flush", rc, err) : 0;
}

void pmig_channel_free(struct pmig_channel *channel)
{
	if (!channel)
		return;
	if (channel->ops->free)
		channel->ops->free(channel);
	free(channel);
}
