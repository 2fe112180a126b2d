/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memory.c - a channel that is a growing buffer
 *
 * Puts a whole stream in front of a receiver without any socket: for tests,
 * for fuzzing every byte of the receiver, and for embedders that carry the
 * bytes themselves.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "channel/channel.h"

/**
 * struct memory_channel - see pmig_channel_memory()
 * @base:	must be first
 * @data:	what was written; owned
 * @size:	bytes written
 * @capacity:	bytes allocated
 * @position:	bytes read
 */
struct memory_channel {
	struct pmig_channel base;
	uint8_t *data;
	size_t size;
	size_t capacity;
	size_t position;
};

static struct memory_channel *of(struct pmig_channel *channel)
{
	return (struct memory_channel *)channel;
}

/* Make room for bytes more; 0 or -ENOMEM. */
static int reserve(struct memory_channel *m, size_t bytes)
{
	size_t capacity = m->capacity ? m->capacity : 4096;
	uint8_t *data;

	if (bytes > SIZE_MAX / 4 - m->size)
		return -ENOMEM;
	while (capacity < m->size + bytes)
		capacity *= 2;
	if (capacity == m->capacity)
		return 0;
	data = realloc(m->data, capacity);
	if (!data)
		return -ENOMEM;
	m->data = data;
	m->capacity = capacity;
	return 0;
}

static int append(struct memory_channel *m, const void *data, size_t bytes)
{
	int rc;

	if (bytes == 0)
		return 0;
	rc = reserve(m, bytes);
	if (rc)
		return rc;
	memcpy(m->data + m->size, data, bytes);
	m->size += bytes;
	return 0;
}

static ssize_t memory_writev(struct pmig_channel *channel,
			     const struct iovec *iov, int n_iov)
{
	ssize_t done = 0;

	for (int i = 0; i < n_iov; i++) {
		int rc = append(of(channel), iov[i].iov_base, iov[i].iov_len);

		if (rc)
			return rc;
		done += (ssize_t)iov[i].iov_len;
	}
	return done;
}

static ssize_t memory_readv(struct pmig_channel *channel,
			    const struct iovec *iov, int n_iov)
{
	struct memory_channel *m = of(channel);
	ssize_t done = 0;

	for (int i = 0; i < n_iov && m->position < m->size; i++) {
		size_t bytes = m->size - m->position;

		if (bytes > iov[i].iov_len)
			bytes = iov[i].iov_len;
		if (bytes == 0)
			continue;
		memcpy(iov[i].iov_base, m->data + m->position, bytes);
		m->position += bytes;
		done += (ssize_t)bytes;
	}
	return done;
}

static void memory_free(struct pmig_channel *channel)
{
	free(of(channel)->data);
}

static const struct channel_ops memory_ops = {
	.kind = "memory",
	.ends = true,
	.writev = memory_writev,
	.readv = memory_readv,
	.free = memory_free,
};

int pmig_channel_memory(const void *data, size_t size_bytes,
			struct pmig_channel **channel, struct pmig_error *err)
{
	struct memory_channel *m = calloc(1, sizeof(*m));

	if (!m || append(m, data, size_bytes)) {
		free(m);
		return pmig_fail(err, -ENOMEM,
				 "no memory for a channel of %zu bytes",
				 size_bytes);
	}
	m->base.ops = &memory_ops;
	m->base.fd = -1;
	*channel = &m->base;
	return 0;
}

const void *pmig_channel_memory_data(const struct pmig_channel *channel,
				     size_t *size_bytes)
{
	const struct memory_channel *m = (const struct memory_channel *)channel;

	if (channel->ops != &memory_ops) {
		*size_bytes = 0;
		return NULL;
	}
	*size_bytes = m->size;
	return m->data;
}
