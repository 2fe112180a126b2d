/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/devices.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "vmm/error.h"
#include "vmm/layout.h"

#define SERIAL_PORTS	8
#define SERIAL_DATA	0
#define SERIAL_LINE	5
#define LINE_EMPTY	0x60 /* transmitter idle, holding register empty */
#define SERIAL_ITEM	"vmm/serial"
#define SEQUENCER_ITEM	"vmm/sequencer"
#define DEVICES_VERSION 1

/* Both are stored as they are: little-endian, no padding. */
static_assert(sizeof(struct pvmm_serial) == 16 + PVMM_SERIAL_BYTES,
	      "size of the serial item");
static_assert(sizeof(struct pvmm_stream) == 24, "size of a sequencer stream");

void pvmm_devices_init(struct pvmm_devices *devices, uint32_t n_vcpus)
{
	pthread_condattr_t attr;

	memset(devices, 0, sizeof(*devices));
	devices->n_streams = n_vcpus;
	for (uint32_t i = 0; i < n_vcpus; i++)
		devices->streams[i].last = i;
	pthread_mutex_init(&devices->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&devices->changed, &attr);
	pthread_condattr_destroy(&attr);
}

void pvmm_devices_destroy(struct pvmm_devices *devices)
{
	pthread_cond_destroy(&devices->changed);
	pthread_mutex_destroy(&devices->lock);
}

static uint32_t next_number(struct pvmm_devices *devices,
			    struct pvmm_stream *stream)
{
	stream->n_errors += stream->owed;
	stream->owed = 1;
	stream->last = stream->last * PVMM_LCG_MULTIPLIER + PVMM_LCG_INCREMENT;
	stream->n_reads++;
	devices->n_reads++;
	pthread_cond_broadcast(&devices->changed);
	return stream->last;
}

static void take_back(struct pvmm_stream *stream, uint32_t number)
{
	stream->n_errors += !stream->owed || number != stream->last;
	stream->owed = 0;
}

static bool is_serial(uint16_t port)
{
	return port >= PVMM_PORT_SERIAL &&
	       port < PVMM_PORT_SERIAL + SERIAL_PORTS;
}

static void serial_write(struct pvmm_serial *serial, unsigned int index,
			 uint8_t value)
{
	if (index == SERIAL_DATA)
		serial->ring[serial->n_bytes++ % PVMM_SERIAL_BYTES] = value;
	else
		serial->registers[index] = value;
}

bool pvmm_port_read(struct pvmm_devices *devices, uint32_t vcpu, uint16_t port,
		    void *data, size_t size_bytes)
{
	uint32_t number;
	bool known = true;

	pthread_mutex_lock(&devices->lock);
	if (port == PVMM_PORT_SEQUENCE && size_bytes == sizeof(number)) {
		number = next_number(devices, &devices->streams[vcpu]);
		memcpy(data, &number, sizeof(number));
	} else if (is_serial(port) && size_bytes == 1) {
		unsigned int index = port - PVMM_PORT_SERIAL;

		*(uint8_t *)data = index == SERIAL_LINE
					   ? LINE_EMPTY
					   : devices->serial.registers[index];
	} else {
		known = false;
	}
	pthread_mutex_unlock(&devices->lock);
	return known;
}

bool pvmm_port_write(struct pvmm_devices *devices, uint32_t vcpu, uint16_t port,
		     const void *data, size_t size_bytes)
{
	uint32_t number;
	bool known = true;

	pthread_mutex_lock(&devices->lock);
	if (port == PVMM_PORT_ECHO && size_bytes == sizeof(number)) {
		memcpy(&number, data, sizeof(number));
		take_back(&devices->streams[vcpu], number);
	} else if (is_serial(port) && size_bytes == 1) {
		serial_write(&devices->serial, port - PVMM_PORT_SERIAL,
			     *(const uint8_t *)data);
	} else {
		known = false;
	}
	pthread_mutex_unlock(&devices->lock);
	return known;
}

int pvmm_devices_save(struct pvmm_devices *devices, struct pmig_state *state,
		      struct pmig_error *err)
{
	int rc;

	pthread_mutex_lock(&devices->lock);
	rc = pmig_state_add(state, SERIAL_ITEM, DEVICES_VERSION, 0,
			    &devices->serial, sizeof(devices->serial), err);
	if (!rc)
		rc = pmig_state_add(
			state, SEQUENCER_ITEM, DEVICES_VERSION, 0,
			devices->streams,
			devices->n_streams * sizeof(devices->streams[0]), err);
	pthread_mutex_unlock(&devices->lock);
	return rc;
}

/* Copy the item of that name to data, if it is what is expected. */
static int load_item(const struct pmig_state *state, const char *name,
		     void *data, size_t size_bytes, struct pmig_error *err)
{
	struct pmig_item item;

	if (pmig_state_find(state, name, &item))
		return pvmm_fail(err, -EINVAL, "the state has no item %s",
				 name);
	if (item.version != DEVICES_VERSION)
		return pvmm_fail(err, -ENOTSUP,
				 "state item %s has version %u, known is %d",
				 name, item.version, DEVICES_VERSION);
	if (item.size_bytes != size_bytes)
		return pvmm_fail(err, -EBADMSG,
				 "state item %s has %llu bytes, expected %zu",
				 name, (unsigned long long)item.size_bytes,
				 size_bytes);
	memcpy(data, item.data, size_bytes);
	return 0;
}

int pvmm_devices_load(struct pvmm_devices *devices,
		      const struct pmig_state *state, struct pmig_error *err)
{
	int rc;

	pthread_mutex_lock(&devices->lock);
	rc = load_item(state, SERIAL_ITEM, &devices->serial,
		       sizeof(devices->serial), err);
	if (!rc)
		rc = load_item(state, SEQUENCER_ITEM, devices->streams,
			       devices->n_streams * sizeof(devices->streams[0]),
			       err);
	pthread_mutex_unlock(&devices->lock);
	return rc;
}

void pvmm_devices_totals(struct pvmm_devices *devices, uint64_t *n_reads,
			 uint64_t *n_errors)
{
	uint64_t reads = 0, errors = 0;

	pthread_mutex_lock(&devices->lock);
	for (uint32_t i = 0; i < devices->n_streams; i++) {
		reads += devices->streams[i].n_reads;
		errors += devices->streams[i].n_errors;
	}
	pthread_mutex_unlock(&devices->lock);
	if (n_reads)
		*n_reads = reads;
	if (n_errors)
		*n_errors = errors;
}
