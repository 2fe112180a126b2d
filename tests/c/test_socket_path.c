/* SPDX-License-Identifier: Apache-2.0 */
/* What a socket is set to, by where it leads. */
#include "channel/socket_path.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

#include "loopback.h"
#include "pymigrate.h"
#include "unit.h"

static struct sockaddr_storage address_of(const char *text)
{
	struct sockaddr_storage storage = {0};
	struct sockaddr_in6 *six = (void *)&storage;
	struct sockaddr_in *four = (void *)&storage;

	if (inet_pton(AF_INET, text, &four->sin_addr) == 1)
		storage.ss_family = AF_INET;
	else if (inet_pton(AF_INET6, text, &six->sin6_addr) == 1)
		storage.ss_family = AF_INET6;
	else
		storage.ss_family = AF_UNIX;
	return storage;
}

static bool is_local(const char *here, const char *there)
{
	struct sockaddr_storage a = address_of(here), b = address_of(there);

	return socket_path_is_local(&a, &b);
}

static void test_local_addresses(void)
{
	CHECK(is_local("127.0.0.1", "127.0.0.1"));
	CHECK(is_local("127.0.0.1", "127.1.2.3"));
	CHECK(is_local("192.0.2.7", "192.0.2.7"));
	CHECK(is_local("::1", "::1"));
	CHECK(is_local("2001:db8::7", "2001:db8::7"));
	CHECK(!is_local("192.0.2.7", "192.0.2.8"));
	CHECK(!is_local("127.0.0.1", "192.0.2.7"));
	CHECK(!is_local("2001:db8::7", "2001:db8::8"));
	CHECK(!is_local("127.0.0.1", "::1"));
	CHECK(is_local("/run/a", "/run/b"));
	CHECK(!is_local("/run/a", "127.0.0.1"));
}

static void test_loopback_connection(void)
{
	struct pmig_channel *channel;
	char congestion[16] = "";
	socklen_t size = sizeof(congestion);
	struct pmig_error err;
	int fds[2], nodelay = 0;

	connect_tcp(fds);
	CHECK_OK(pmig_channel_from_socket(fds[0], &channel, &err), err);
	CHECK_EQ(getsockopt(fds[0], IPPROTO_TCP, TCP_CONGESTION, congestion,
			    &size),
		 0);
	CHECK(strcmp(congestion, "reno") == 0);
	size = sizeof(nodelay);
	CHECK_EQ(getsockopt(fds[0], IPPROTO_TCP, TCP_NODELAY, &nodelay, &size),
		 0);
	CHECK(nodelay);
	pmig_channel_free(channel);
	close(fds[0]);
	close(fds[1]);
}

int main(void)
{
	return unit_run((struct unit_test[]){UNIT(test_local_addresses),
					     UNIT(test_loopback_connection),
					     UNIT_END});
}
