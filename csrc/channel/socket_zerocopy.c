/* SPDX-License-Identifier: Apache-2.0 */
#include "channel/socket_zerocopy.h"

#include <errno.h>
#include <linux/errqueue.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "base/error.h"

static const char not_asked[] = "not asked for";
static const char not_possible[] =
	"MSG_ZEROCOPY needs a TCP socket and Linux 4.14";
static const char copied_anyway[] =
	"the kernel copies anyway on this path (loopback, veth, or a network "
	"card without scatter-gather)";
static const char no_memory[] =
	"not enough lockable memory: raise RLIMIT_MEMLOCK (ulimit -l) or "
	"net.core.optmem_max";

static void update(struct zerocopy *zc)
{
	if (zc->wanted == PMIG_CHOICE_OFF)
		zc->reason = not_asked;
	else if (!zc->possible)
		zc->reason = not_possible;
	else
		zc->reason = zc->verdict;
	zc->active = !zc->reason || (zc->wanted == PMIG_CHOICE_ON &&
				     zc->reason == copied_anyway);
}

void zerocopy_init(struct zerocopy *zc)
{
	*zc = (struct zerocopy){.wanted = PMIG_CHOICE_OFF};
	update(zc);
}

int zerocopy_choose(struct zerocopy *zc, int fd, enum pmig_choice wanted,
		    struct pmig_error *err)
{
	int on = 1;

	if (wanted != zc->wanted) {
		zc->verdict = NULL;
		zc->refused = 0;
	}
	if (wanted != PMIG_CHOICE_OFF && !zc->possible)
		zc->possible = !setsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, &on,
					   sizeof(on));
	zc->wanted = wanted;
	update(zc);
	if (wanted == PMIG_CHOICE_ON && !zc->possible)
		return pmig_fail(err, -ENOTSUP, "zero copy: %s", zc->reason);
	return 0;
}

static void judge(struct zerocopy *zc, const char *verdict)
{
	zc->verdict = verdict;
	update(zc);
}

/* Judge by what the completions said so far. */
static void judge_copies(struct zerocopy *zc)
{
	if (!zc->verdict && zc->done >= ZEROCOPY_TRIAL &&
	    zc->copied >= zc->done / 2)
		judge(zc, copied_anyway);
}

/* One message of the error queue. */
static void take_notification(struct zerocopy *zc, struct msghdr *message)
{
	struct cmsghdr *control = CMSG_FIRSTHDR(message);

	for (; control; control = CMSG_NXTHDR(message, control)) {
		struct sock_extended_err note;
		uint32_t n;

		if (!(control->cmsg_level == SOL_IP &&
		      control->cmsg_type == IP_RECVERR) &&
		    !(control->cmsg_level == SOL_IPV6 &&
		      control->cmsg_type == IPV6_RECVERR))
			continue;
		memcpy(&note, CMSG_DATA(control), sizeof(note));
		if (note.ee_origin != SO_EE_ORIGIN_ZEROCOPY)
			continue;
		/* the numbers ee_info to ee_data, both included */
		n = note.ee_data - note.ee_info + 1;
		zc->done += n;
		if (note.ee_code & SO_EE_CODE_ZEROCOPY_COPIED)
			zc->copied += n;
	}
}

bool zerocopy_reap(struct zerocopy *zc, int fd)
{
	bool any = false;

	while (zc->done != zc->sent) {
		/* room for the address that follows the extended error */
		char control[CMSG_SPACE(sizeof(struct sock_extended_err) +
					sizeof(struct sockaddr_in6))];
		struct msghdr message = {
			.msg_control = control,
			.msg_controllen = sizeof(control),
		};

		if (recvmsg(fd, &message, MSG_ERRQUEUE | MSG_DONTWAIT) < 0)
			break;
		take_notification(zc, &message);
		any = true;
	}
	judge_copies(zc);
	return any;
}

ssize_t zerocopy_copy(int fd, const struct iovec *iov, int n_iov, int flags)
{
	const struct msghdr message = {
		.msg_iov = (struct iovec *)iov,
		.msg_iovlen = (size_t)n_iov,
	};
	ssize_t done;

	do {
		done = sendmsg(fd, &message, flags | MSG_NOSIGNAL);
	} while (done < 0 && errno == EINTR);
	return done < 0 ? -errno : done;
}

static bool is_long(const struct iovec *iov, int n_iov)
{
	size_t bytes = 0;

	for (int i = 0; i < n_iov && bytes < ZEROCOPY_MIN_BYTES; i++)
		bytes += iov[i].iov_len;
	return bytes >= ZEROCOPY_MIN_BYTES;
}

/* Nothing is outstanding and still there is no room, or it is so mostly. */
static void judge_refusal(struct zerocopy *zc)
{
	zc->refused++;
	if (zc->done == zc->sent ||
	    (zc->refused >= ZEROCOPY_TRIAL && zc->refused > zc->sent / 2))
		judge(zc, no_memory);
}

ssize_t zerocopy_send(struct zerocopy *zc, int fd, const struct iovec *iov,
		      int n_iov, int flags)
{
	ssize_t done;

	zerocopy_reap(zc, fd);
	if (!zc->active || !is_long(iov, n_iov))
		return zerocopy_copy(fd, iov, n_iov, flags);
	done = zerocopy_copy(fd, iov, n_iov, flags | MSG_ZEROCOPY);
	if (done > 0)
		zc->sent++;
	if (done != -ENOBUFS)
		return done;
	judge_refusal(zc);
	return zerocopy_copy(fd, iov, n_iov, flags);
}
