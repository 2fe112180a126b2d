/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unit.h - what a C unit test needs, in TAP form
 *
 * A test program is a list of functions:
 *
 *	static void test_something(void) { CHECK(1 + 1 == 2); }
 *	int main(void) { return unit_run((struct unit_test[]){
 *		UNIT(test_something), UNIT_END}); }
 */
#ifndef TESTS_C_UNIT_H
#define TESTS_C_UNIT_H

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

struct unit_test {
	const char *name;
	void (*run)(void);
};

#define UNIT(function)                                                         \
	{                                                                      \
#function, function                                            \
	}
#define UNIT_END                                                               \
	{                                                                      \
		NULL, NULL                                                     \
	}

extern jmp_buf unit_escape;
extern char unit_message[1024];

int unit_run(const struct unit_test *tests);

/* End the running test as failed, or as skipped for lack of something. */
#define UNIT_FAIL(...)                                                         \
	do {                                                                   \
		snprintf(unit_message, sizeof(unit_message), __VA_ARGS__);     \
		longjmp(unit_escape, 1);                                       \
	} while (0)
#define UNIT_SKIP(...)                                                         \
	do {                                                                   \
		snprintf(unit_message, sizeof(unit_message), __VA_ARGS__);     \
		longjmp(unit_escape, 2);                                       \
	} while (0)

#define CHECK(condition)                                                       \
	do {                                                                   \
		if (!(condition))                                              \
			UNIT_FAIL("%s:%d: %s", __FILE__, __LINE__,             \
				  #condition);                                 \
	} while (0)

/* The call must return 0; on failure the message of err is shown. */
#define CHECK_OK(call, err)                                                    \
	do {                                                                   \
		int check_rc = (call);                                         \
		if (check_rc != 0)                                             \
			UNIT_FAIL("%s:%d: %s returned %d: %s", __FILE__,       \
				  __LINE__, #call, check_rc, (err).message);   \
	} while (0)

#define CHECK_EQ(actual, expected)                                             \
	do {                                                                   \
		long long check_a = (long long)(actual);                       \
		long long check_e = (long long)(expected);                     \
		if (check_a != check_e)                                        \
			UNIT_FAIL("%s:%d: %s is %lld, expected %lld",          \
				  __FILE__, __LINE__, #actual, check_a,        \
				  check_e);                                    \
	} while (0)

#endif
