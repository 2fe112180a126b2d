/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include <string.h>

jmp_buf unit_escape;
char unit_message[1024];

static int run_one(int number, const struct unit_test *test)
{
	unit_message[0] = '\0';
	switch (setjmp(unit_escape)) {
	case 0:
		test->run();
		printf("ok %d - %s\n", number, test->name);
		return 0;
	case 2:
		printf("ok %d - %s # SKIP %s\n", number, test->name,
		       unit_message);
		return 0;
	default:
		printf("not ok %d - %s\n# %s\n", number, test->name,
		       unit_message);
		return 1;
	}
}

int unit_run(const struct unit_test *tests)
{
	int failed = 0;
	int n = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	while (tests[n].name)
		n++;
	printf("1..%d\n", n);
	for (int i = 0; i < n; i++)
		failed |= run_one(i + 1, &tests[i]);
	return failed;
}
