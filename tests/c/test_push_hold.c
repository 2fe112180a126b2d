/* SPDX-License-Identifier: Apache-2.0 */
/* What waits for a receiver that is slower than the link; a made-up clock. */
#include "stream/wire.h"
#include "transfer/push_hold.h"
#include "unit.h"

enum {
	FRAME_PAGES = 12,
	MS = 1000 * 1000,
	PLACE_NS = 8000,
};

/**
 * struct scene - pages that arrive at once, and are placed one by one
 * @page_bytes:	of each
 * @silent:	the receiver says nothing
 * @now_ns:	the clock
 * @written:	bytes
 * @pushed:	pages
 * @placed:	of those
 * @told:	of those, that the source knows of
 * @most:	that waited at a time
 */
struct scene {
	struct push_hold hold;
	uint64_t page_bytes;
	bool silent;
	uint64_t now_ns;
	uint64_t written;
	uint64_t pushed;
	uint64_t placed;
	uint64_t told;
	uint64_t most;
};

static void pass(struct scene *scene, uint64_t ns)
{
	uint64_t can =
		(scene->now_ns + ns) / PLACE_NS - scene->now_ns / PLACE_NS;
	uint64_t left = scene->pushed - scene->placed;

	if (left > scene->most)
		scene->most = left;
	scene->placed += can < left ? can : left;
	scene->now_ns += ns;
	if (!scene->silent && scene->placed >= scene->told + WIRE_PLACED_PAGES)
		scene->told = scene->placed;
}

static struct push_sight look(const struct scene *scene)
{
	return (struct push_sight){
		.now_ns = scene->now_ns,
		.written_bytes = scene->written,
		.pushed_pages = scene->pushed,
		.placed_pages = scene->told,
	};
}

static void push_for(struct scene *scene, uint64_t ms)
{
	uint64_t end_ns = scene->now_ns + ms * MS;

	while (scene->now_ns < end_ns) {
		struct push_sight sight = look(scene);
		uint64_t ns, since_ns = scene->now_ns;
		uint64_t told = scene->told;

		while ((ns = push_hold_wait_ns(&scene->hold, &sight,
					       FRAME_PAGES,
					       scene->now_ns - since_ns))) {
			pass(scene, ns);
			if (scene->told != told) {
				told = scene->told;
				since_ns = scene->now_ns;
			}
			sight = look(scene);
		}
		push_hold_learn(&scene->hold, &sight);
		scene->pushed += FRAME_PAGES;
		scene->written += FRAME_PAGES * scene->page_bytes;
		pass(scene, 5000);
	}
}

static void open_scene(struct scene *scene)
{
	*scene = (struct scene){.page_bytes = 120,
				.now_ns = 1000 * (uint64_t)MS};
	push_hold_init(&scene->hold);
}

static void test_keeps_what_waits_short(void)
{
	struct scene scene;
	uint64_t before;

	open_scene(&scene);
	push_for(&scene, 20);
	scene.most = 0;
	before = scene.placed;
	push_for(&scene, 500);
	/* no more than is placed in 1.5 ms, and never so few that it idles */
	CHECK(scene.most <= 1500000 / PLACE_NS);
	CHECK(scene.placed - before >= 490 * (uint64_t)MS / PLACE_NS);
}

static void test_a_receiver_that_says_nothing(void)
{
	struct scene scene;

	open_scene(&scene);
	scene.silent = true;
	push_for(&scene, 10);
	CHECK(scene.pushed >= 10 * MS / 5000 * FRAME_PAGES);
}

/* Its last word was lost: what is pushed makes it say another. */
static void test_a_receiver_that_says_nothing_more(void)
{
	struct scene scene;
	uint64_t before;

	open_scene(&scene);
	push_for(&scene, 100);
	scene.silent = true;
	before = scene.pushed;
	push_for(&scene, 200);
	CHECK(scene.pushed >= before + 5 * FRAME_PAGES);
	CHECK(scene.pushed <= before + 500);
}

/* What the link still has is not the receiver's. */
static void test_what_is_on_the_link_does_not_count(void)
{
	struct scene scene;
	struct push_sight sight;

	open_scene(&scene);
	push_for(&scene, 100);
	sight = look(&scene);
	sight.pushed_pages = sight.placed_pages + 1000;
	CHECK(push_hold_wait_ns(&scene.hold, &sight, FRAME_PAGES, 0) > 0);
	sight.in_flight_bytes = 950 * scene.page_bytes;
	CHECK_EQ(push_hold_wait_ns(&scene.hold, &sight, FRAME_PAGES, 0), 0);
}

/* A receiver that says it placed more than there were, too. */
static void test_nonsense(void)
{
	struct scene scene;
	struct push_sight sight;

	open_scene(&scene);
	push_for(&scene, 100);
	sight = look(&scene);
	sight.placed_pages = UINT64_MAX;
	CHECK_EQ(push_hold_wait_ns(&scene.hold, &sight, FRAME_PAGES, 0), 0);
}

static void test_size_of_a_page(void)
{
	struct scene scene;

	open_scene(&scene);
	CHECK_EQ(push_hold_page_bytes(&scene.hold, 4096), 4096);
	push_for(&scene, 100);
	CHECK_EQ(push_hold_page_bytes(&scene.hold, 4096), 1024);
	scene.page_bytes = 2000;
	push_for(&scene, 10);
	CHECK(push_hold_page_bytes(&scene.hold, 4096) > 1990);
	scene.page_bytes = 4132;
	push_for(&scene, 10);
	CHECK_EQ(push_hold_page_bytes(&scene.hold, 4096), 4096);
}

int main(void)
{
	static const struct unit_test tests[] = {
		UNIT(test_keeps_what_waits_short),
		UNIT(test_a_receiver_that_says_nothing),
		UNIT(test_a_receiver_that_says_nothing_more),
		UNIT(test_what_is_on_the_link_does_not_count),
		UNIT(test_nonsense),
		UNIT(test_size_of_a_page),
		UNIT_END,
	};

	return unit_run(tests);
}
