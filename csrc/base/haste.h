/* SPDX-License-Identifier: Apache-2.0 */
/*
 * haste.h - threads that do little, and that others wait for
 *
 * On a host whose processors are all busy a thread that wakes waits until one
 * of those that run has used up its slice: milliseconds, when what it has to
 * do takes microseconds. Where the process has the privilege (CAP_SYS_NICE, or
 * RLIMIT_NICE) such a thread is given a larger share. And it asks for a short
 * slice, which needs none: since Linux 6.12 a thread with a shorter slice does
 * not wait for the end of a longer one.
 */
#ifndef PMIG_BASE_HASTE_H
#define PMIG_BASE_HASTE_H

/* Who waits. */
enum pmig_haste {
	PMIG_HASTE_FAULT, /* a vCPU */
	PMIG_HASTE_LINK,  /* a link, while vCPUs wait for what it brings */
};

/*
 * Let the calling thread run before others, as far as that is allowed. One
 * with another policy than the default one is left as it is.
 */
void pmig_thread_hasten(enum pmig_haste haste);

#endif
