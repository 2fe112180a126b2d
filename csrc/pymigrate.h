/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pymigrate.h - the public interface of libpymigrate
 *
 * libpymigrate moves the memory and the state of a running virtual machine.
 * It consumes a machine, it does not own one: the caller says where guest
 * memory is, how writes to it can be found, and hands in connected channels.
 *
 * The shape of a live migration, source side:
 *
 *	pmig_memory_new()	describe guest memory
 *	pmig_dirty_new()	choose how writes are found; pmig_dirty_start()
 *	pmig_view_new()		one consumer of the dirty pages
 *	pmig_sender_new()	one worker thread for each channel
 *	pmig_sender_round()	PMIG_EPOCH_FUZZY, again and again, guest running
 *	  ... the caller pauses the guest and captures its state ...
 *	pmig_sender_put()	PMIG_FRAME_STATE
 *	pmig_sender_round()	PMIG_EPOCH_SEALED, guest paused
 *	pmig_sender_end()
 *
 * and destination side: pmig_memory_new(), pmig_receiver_new(), then
 * pmig_receiver_wait() until the sealed epoch has arrived.  What goes over a
 * channel is specified in docs/stream-format.md; a file holds the same bytes.
 *
 * Rules that hold for every call unless its own comment says otherwise:
 *
 * Errors.  A function that returns int returns 0 or a negative errno value.
 * Where it takes a struct pmig_error *, a failure also fills that in with a
 * sentence that says what failed and what to do; NULL is allowed.
 *
 * Threads.  Different objects may be used from different threads at once.
 * One object must not be used by two threads at once, except in the calls
 * marked "any thread".
 *
 * Ownership.  Strings and arrays passed in are copied unless said otherwise.
 * File descriptors passed in stay the caller's: they must stay open until the
 * object that uses them is freed, and are never closed by the library.
 * Every pmig_*_free() accepts NULL.
 *
 * Environment.  The library installs no signal handler, reads no environment
 * variable, prints nothing, never exits, and keeps no global mutable state.
 * It starts threads only inside sender, receiver, tracker, faults and restore
 * objects and names them pmig-*.
 *
 * Sizes.  A page is 4096 bytes whatever backs it (PMIG_PAGE_BYTES).  A block
 * is 64 pages (PMIG_BLOCK_PAGES), one 64-bit word of a bitmap.  The blocks of
 * a memory are numbered from 0, region after region in the order given to
 * pmig_memory_new(); each region starts at a block of its own, and its last
 * block may be partial.  Bit p of word b is page p of block b.
 *
 * A struct whose first member is struct_size is versioned by it: the caller
 * sets it to sizeof the struct; members that a newer library added are taken
 * as zero.
 */
#ifndef PYMIGRATE_H
#define PYMIGRATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#pragma GCC visibility push(default)
#endif

/* The region between the two marks is read by the Python binding. */
/* cffi: begin */

/* ---- version ---------------------------------------------------------- */

enum {
	PMIG_VERSION_MAJOR = 0,
	PMIG_VERSION_MINOR = 1,
	PMIG_VERSION_PATCH = 0,
	PMIG_STREAM_VERSION_MAJOR = 1,
	PMIG_STREAM_VERSION_MINOR = 2,
};

/* Version of the library at run time, "0.1.0". Static string; any thread. */
const char *pmig_version(void);

/* ---- sizes ------------------------------------------------------------ */

enum {
	PMIG_PAGE_BYTES = 4096,
	PMIG_BLOCK_PAGES = 64,
	PMIG_BLOCK_BYTES = 262144,
	PMIG_NAME_BYTES = 32,
	PMIG_SESSION_ID_BYTES = 16,
	PMIG_MAX_CHANNELS = 64,
	PMIG_MAX_REGIONS = 1024,
	PMIG_MAX_BLOB_BYTES = 67108864,
	PMIG_MAX_TOUCHED_PAGES = 262144,
};

/* ---- errors ----------------------------------------------------------- */

struct pmig_error {
	int32_t code;	   /* negative errno value, 0 when never set */
	char message[508]; /* one sentence, NUL-terminated */
};

/* ---- processor features ----------------------------------------------- */

/*
 * Instruction set used for page scanning: "scalar", "avx2" or "avx512",
 * chosen by CPUID at run time. Static string; any thread.
 */
const char *pmig_cpu_kernel(void);

/*
 * Scan one page. Returns true when all PMIG_PAGE_BYTES bytes are zero;
 * otherwise stores the XXH3-64 hash of the page (seed 0, as in
 * docs/stream-format.md) in *hash. page needs no alignment. Any thread.
 */
bool pmig_page_scan(const void *page, uint64_t *hash);

/* ---- memory ----------------------------------------------------------- */

struct pmig_memory;

enum pmig_region_kind {
	PMIG_REGION_RAM = 1,
};

enum pmig_region_flags {
	/* mapped MAP_SHARED from fd; unset means private anonymous memory */
	PMIG_REGION_SHARED = 1,
};

struct pmig_region {
	uint32_t struct_size;
	uint32_t kind;	     /* enum pmig_region_kind */
	uint64_t gpa;	     /* first guest physical address, page aligned */
	uint64_t size_bytes; /* multiple of PMIG_PAGE_BYTES, not 0 */
	uint64_t page_size_bytes; /* of the backing: 4096, 2 MiB, 1 GiB */
	void *hva;	/* mapping of the whole region, page aligned */
	int32_t fd;	/* memfd or hugetlbfs file behind it, or -1 */
	uint32_t flags; /* enum pmig_region_flags */
	uint64_t fd_offset_bytes; /* of the region's first byte in fd */
	char name[32]; /* NUL-terminated, for messages and the stream */
};

/*
 * Describe guest memory. Regions must not overlap in guest physical space.
 * The mappings and fds must outlive the object. Errors: -EINVAL with the
 * member that is wrong, -ENOMEM.
 */
int pmig_memory_new(const struct pmig_region *regions, uint32_t n_regions,
		    struct pmig_memory **memory, struct pmig_error *err);
void pmig_memory_free(struct pmig_memory *memory);

/* Shape of a memory. Any thread. */
uint32_t pmig_memory_regions(const struct pmig_memory *memory);
uint64_t pmig_memory_blocks(const struct pmig_memory *memory);
uint64_t pmig_memory_bytes(const struct pmig_memory *memory);

/* Copy region number index out. -ENOENT past the last one. Any thread. */
int pmig_memory_region(const struct pmig_memory *memory, uint32_t index,
		       struct pmig_region *region);

/*
 * Which pages are allocated: sets bit p of bitmap[i] where page p of block
 * first_block + i may hold something other than zero. bitmap has n_blocks
 * words and is overwritten. A clear bit is a hole: it reads as zero and was
 * found without being read, so nothing is allocated by asking. Any thread.
 */
int pmig_memory_present(const struct pmig_memory *memory, uint64_t first_block,
			uint64_t n_blocks, uint64_t *bitmap,
			struct pmig_error *err);

/*
 * Allocate backing pages for whole blocks in one step, so that later writes
 * to them do not fault. Contents are kept. Any thread.
 */
int pmig_memory_populate(const struct pmig_memory *memory, uint64_t first_block,
			 uint64_t n_blocks, struct pmig_error *err);

/*
 * Give the backing pages of whole blocks back: they read as zero and are
 * holes afterwards. The guest must not be running.
 */
int pmig_memory_discard(const struct pmig_memory *memory, uint64_t first_block,
			uint64_t n_blocks, struct pmig_error *err);

/*
 * Hash pages for comparison: hashes[i] is the XXH3-64 of page i of the
 * n_blocks * PMIG_BLOCK_PAGES pages from first_block on, and 0 for a page
 * that is zero, a hole, or past the end of a partial block. The guest must
 * not be running. Holes are not read. Any thread.
 */
int pmig_memory_hash(const struct pmig_memory *memory, uint64_t first_block,
		     uint64_t n_blocks, uint64_t *hashes,
		     struct pmig_error *err);

/* ---- dirty tracking --------------------------------------------------- */

/*
 * A tracker finds the pages that were written. Each consumer of that
 * knowledge (a migration, a snapshot schedule) holds a view of its own: a
 * write found by any harvest is in every view until that view takes it.
 *
 * Contract of use: harvest; then, for each run of blocks, rearm it, take its
 * bits, and read the pages. A write that races with the read is found by a
 * later harvest. Bits that were taken and not yet acknowledged are kept: a
 * failed attempt gives them back with pmig_view_rollback().
 */
struct pmig_dirty;
struct pmig_view;

enum pmig_tracker {
	PMIG_TRACKER_AUTO = 0,
	PMIG_TRACKER_KVM_LOG = 1,  /* KVM_GET_DIRTY_LOG, KVM_CLEAR_DIRTY_LOG */
	PMIG_TRACKER_KVM_RING = 2, /* KVM_CAP_DIRTY_LOG_RING */
	PMIG_TRACKER_UFFD_WP = 3,  /* userfaultfd write-protect */
	PMIG_TRACKER_MARKED = 4,   /* pmig_dirty_mark() only */
};

/* One KVM memory slot; the fields of struct kvm_userspace_memory_region. */
struct pmig_kvm_slot {
	uint32_t slot;	/* address space id << 16 | slot id */
	uint32_t flags; /* KVM_MEM_* as set, without LOG_DIRTY_PAGES */
	uint64_t gpa;
	uint64_t size_bytes;
	uint64_t hva;
};

struct pmig_dirty_config {
	uint32_t struct_size;
	uint32_t tracker; /* enum pmig_tracker */
	int32_t vm_fd;	  /* KVM VM, or -1: no KVM tracker possible */
	uint32_t n_slots;
	/*
	 * Slots to log. Each lies in one region, at an offset that is a
	 * multiple of PMIG_BLOCK_BYTES from its start.
	 */
	const struct pmig_kvm_slot *slots;
	const int32_t *vcpu_fds; /* for the ring: all vCPUs, in order */
	uint32_t n_vcpus;
	/* bytes given to KVM_CAP_DIRTY_LOG_RING when the VM was made, or 0 */
	uint32_t ring_bytes;
	/*
	 * An open userfaultfd (from /dev/userfaultfd or the system call, with
	 * UFFDIO_API not yet called), or -1: the tracker opens one itself.
	 */
	int32_t uffd;
	uint32_t flags; /* enum pmig_dirty_flags */
	/*
	 * Called at the start of every harvest, on the harvesting thread, to
	 * fetch writes from logs the library does not know (vhost, VFIO): it
	 * calls pmig_dirty_mark(). NULL when there are none. Must not call
	 * other pmig_dirty_ or pmig_view_ functions on the same tracker.
	 */
	void (*collect)(void *opaque, struct pmig_dirty *dirty);
	void *opaque;
};

enum pmig_dirty_flags {
	/* behave as a kernel without the newer interface would (for tests) */
	PMIG_DIRTY_NO_MANUAL_PROTECT = 1, /* KVM log: plain GET */
	PMIG_DIRTY_NO_ASYNC_WP = 2,	  /* userfaultfd: handler thread */
	/*
	 * KVM ring: no thread that empties rings in time. Harvests and full
	 * rings do; a backend that overflows its rings then counts more pages
	 * as written than were.
	 */
	PMIG_DIRTY_NO_REAPER = 4,
};

/*
 * Choose and probe a tracker for memory, which must outlive it. With
 * PMIG_TRACKER_AUTO the best one that works is chosen. Errors: -ENOTSUP with
 * a sentence that names the missing feature and the kernel that brought it.
 */
int pmig_dirty_new(const struct pmig_memory *memory,
		   const struct pmig_dirty_config *config,
		   struct pmig_dirty **dirty, struct pmig_error *err);
void pmig_dirty_free(struct pmig_dirty *dirty);

/* What was chosen, its variant ("manual-protect", "async", ...), and why. */
enum pmig_tracker pmig_dirty_tracker(const struct pmig_dirty *dirty);
const char *pmig_dirty_variant(const struct pmig_dirty *dirty);
const char *pmig_dirty_reason(const struct pmig_dirty *dirty);

/* Start and stop logging; both idempotent. Stop after the switchover. */
int pmig_dirty_start(struct pmig_dirty *dirty, struct pmig_error *err);
int pmig_dirty_stop(struct pmig_dirty *dirty, struct pmig_error *err);

/*
 * Say that [gpa, gpa + size_bytes) was written by something no tracker sees
 * (the VMM's own threads under KVM logs, a device). Call it after the write
 * is complete. Any thread; lock-free. -EINVAL outside memory.
 */
int pmig_dirty_mark(struct pmig_dirty *dirty, uint64_t gpa,
		    uint64_t size_bytes);

/*
 * For KVM_EXIT_DIRTY_RING_FULL: empties the rings so that the vCPU can
 * enter again. To be called on the thread of that vCPU; any thread.
 */
int pmig_dirty_ring_full(struct pmig_dirty *dirty, struct pmig_error *err);

/*
 * A view: all pages dirty to begin with. The tracker must be started. Free
 * every view before its tracker.
 */
int pmig_view_new(struct pmig_dirty *dirty, struct pmig_view **view,
		  struct pmig_error *err);
void pmig_view_free(struct pmig_view *view);

/* Gather writes from the kernel into all views of the tracker. */
int pmig_view_harvest(struct pmig_view *view, struct pmig_error *err);

/*
 * Re-arm tracking for the harvested pages of n_blocks blocks: writes from
 * now on are found again, and the pages may be taken. Any thread, for
 * distinct blocks.
 */
int pmig_view_rearm(struct pmig_view *view, uint64_t first_block,
		    uint64_t n_blocks, struct pmig_error *err);

/*
 * Take the dirty bits of one block: they leave the view's pending set and
 * are kept as taken until commit or rollback. Bits that were not re-armed by
 * this view since they were found stay pending. Any thread; lock-free.
 */
uint64_t pmig_view_take(struct pmig_view *view, uint64_t block);

/* Number of pending pages; exact only while nobody else uses the view. */
uint64_t pmig_view_pending_pages(const struct pmig_view *view);

/* Copy pending bits out without taking them. Any thread. */
void pmig_view_peek(const struct pmig_view *view, uint64_t first_block,
		    uint64_t n_blocks, uint64_t *bitmap);

/* The taken pages have arrived: forget them. */
void pmig_view_commit(struct pmig_view *view);

/* The taken pages may not have arrived: they are pending again. */
void pmig_view_rollback(struct pmig_view *view);

/* ---- channels --------------------------------------------------------- */

struct pmig_channel;

/*
 * Wrap a connected stream socket (TCP or unix). The fd stays the caller's
 * and is switched to non-blocking mode.
 */
int pmig_channel_from_socket(int fd, struct pmig_channel **channel,
			     struct pmig_error *err);

/*
 * Wrap an open file; pages are written or read from its current position.
 * The fd stays the caller's.
 */
int pmig_channel_from_file(int fd, struct pmig_channel **channel,
			   struct pmig_error *err);

/* A sink that counts and forgets; reading from it ends at once. */
int pmig_channel_null(struct pmig_channel **channel, struct pmig_error *err);

/*
 * A channel in memory: what is written to it can be read from it. Reading
 * past what was written is the end of the stream. data is copied in as what
 * was written so far (NULL, 0: empty).
 */
int pmig_channel_memory(const void *data, size_t size_bytes,
			struct pmig_channel **channel, struct pmig_error *err);

/* What a memory channel holds; valid until it is written or freed. */
const void *pmig_channel_memory_data(const struct pmig_channel *channel,
				     size_t *size_bytes);

void pmig_channel_free(struct pmig_channel *channel);

/* ---- the stream's vocabulary ------------------------------------------ */

enum pmig_frame_type {
	PMIG_FRAME_STREAM = 1,	    /* opens a channel */
	PMIG_FRAME_CONFIG = 2,	    /* blob: what the machine is */
	PMIG_FRAME_EPOCH = 3,	    /* an epoch begins */
	PMIG_FRAME_PAGES = 4,	    /* pages of one block */
	PMIG_FRAME_STATE = 5,	    /* blob: vCPU and device state */
	PMIG_FRAME_EPOCH_END = 6,   /* counts and digest of the epoch */
	PMIG_FRAME_END = 7,	    /* orderly end of the channel */
	PMIG_FRAME_RANGES = 8,	    /* hint: memory that will follow */
	PMIG_FRAME_OUTSTANDING = 9, /* pages that will come late */
	PMIG_FRAME_REQUEST = 10,    /* receiver to sender: send these now */
	PMIG_FRAME_SERVED = 11,	    /* how long a request waited */
	PMIG_FRAME_ARRIVED = 12,    /* receiver to sender: nothing is missing */
	PMIG_FRAME_INDEX = 13,	    /* of a file: where its pages are */
	PMIG_FRAME_PLACED = 14,	    /* receiver to sender: so far it has come */
};

enum pmig_epoch_kind {
	PMIG_EPOCH_FUZZY = 1,  /* gathered while the guest ran */
	PMIG_EPOCH_SEALED = 2, /* coherent: the machine at one instant */
	/* pages that the sealed epoch before it left outstanding (post-copy) */
	PMIG_EPOCH_LATE = 3,
};

/* How the contents of a page travel; docs/stream-format.md, PAGES. */
enum pmig_encoding {
	PMIG_ENCODING_RAW = 0,
	PMIG_ENCODING_UNCHANGED = 1, /* dirty, but as the receiver has it */
	PMIG_ENCODING_DELTA = 2,     /* the 64-byte lines that changed */
	PMIG_ENCODING_COPY = 3,	     /* as another page of this epoch */
	PMIG_ENCODING_LZ4 = 4,
	PMIG_ENCODING_ZSTD = 5,
	PMIG_ENCODINGS = 16, /* size of the per-encoding counters */
};

enum {
	/* bit e: encoding e; all that this library writes and reads */
	PMIG_ENCODINGS_ALL = 63,
};

/* Pages of one block. */
struct pmig_block_pages {
	uint64_t block;
	uint64_t pages; /* bit p: page p */
};

/* ---- sender ----------------------------------------------------------- */

struct pmig_sender;

enum pmig_compression {
	/* by the cost model: what brings pages across soonest */
	PMIG_COMPRESSION_AUTO = 0,
	PMIG_COMPRESSION_NONE = 1,
	PMIG_COMPRESSION_LZ4 = 2,
	PMIG_COMPRESSION_ZSTD = 3,
};

/* For what may be used, must be used, or is decided by measurement. */
enum pmig_choice {
	PMIG_CHOICE_AUTO = 0,
	PMIG_CHOICE_OFF = 1,
	PMIG_CHOICE_ON = 2,
};

/* What may be changed while a sender runs. All zero is the default. */
struct pmig_tuning {
	uint32_t struct_size;
	uint32_t compression; /* enum pmig_compression */
	/*
	 * zstd: -50 to 19, 0 is the model's choice (AUTO) or 1; lz4: the
	 * acceleration, 0 to 64, 0 is 1. With AUTO it must be 0.
	 */
	int32_t level;
	uint32_t delta;		  /* enum pmig_choice */
	uint32_t zero_copy;	  /* enum pmig_choice: MSG_ZEROCOPY */
	uint32_t active_channels; /* 0: as many as help */
	/* of all channels together, frame heads included; 0: no limit */
	uint64_t bandwidth_limit_bytes_per_s;
};

enum pmig_sender_flags {
	/*
	 * Nobody answers (a file): encodings that rest on what the receiver
	 * already has are not used, because it could not ask again. With one
	 * channel, an index of the pages is written at the end.
	 */
	PMIG_SENDER_ONE_WAY = 1,
	/*
	 * Pages may be sent late (post-copy): the last channel is urgent, and
	 * both ways: it carries requests, and pages that were asked for.
	 */
	PMIG_SENDER_LATE = 2,
};

struct pmig_sender_config {
	uint32_t struct_size;
	uint32_t n_channels;		      /* 1 to PMIG_MAX_CHANNELS */
	struct pmig_channel *const *channels; /* must outlive the sender */
	uint8_t session_id[16];
	/* no byte moved on a channel for this long is -ETIMEDOUT; 0: 30 s */
	uint32_t stall_timeout_ms;
	uint32_t flags;	    /* enum pmig_sender_flags */
	uint32_t encodings; /* bit e: the receiver reads encoding e */
	uint32_t n_cpus;
	/* processors for the worker threads, or NULL: wherever they may run */
	const uint32_t *cpus;
	const struct pmig_tuning *tuning; /* NULL: all zero */
	/* for fingerprints of sent pages; 0: a sixteenth of guest memory */
	uint64_t delta_memory_bytes;
};

/* What one round did. Counters are of this round only. */
struct pmig_round {
	uint32_t struct_size;
	uint32_t kind; /* enum pmig_epoch_kind */
	uint64_t epoch;
	uint64_t dirty_pages; /* pending when the round began */
	uint64_t sent_pages;  /* described on the wire, zero pages included */
	uint64_t zero_pages;
	uint64_t hole_pages;  /* dirty, never allocated, nothing sent */
	uint64_t wire_bytes;  /* everything written to the channels */
	uint64_t duration_ns; /* harvest included */
	uint64_t harvest_ns;
	uint64_t digest; /* of the epoch, as in docs/stream-format.md */
	uint64_t pages_by_encoding[16];
	uint64_t bytes_by_encoding[16];
	uint32_t active_channels;  /* at the end of the round */
	uint32_t compression;	   /* likewise; enum pmig_compression */
	int32_t level;		   /* likewise */
	uint32_t zero_copy;	   /* likewise; 1 when in use */
	uint64_t link_bytes_per_s; /* as measured; 0: it was never the limit */
	uint64_t encode_ns;	   /* CPU time of all workers */
	uint64_t blocked_ns;	   /* waiting for channels, all workers */
	uint64_t delta_memory_bytes; /* fingerprints held */
	uint64_t held_pages;	     /* left pending by pmig_sender_hold() */
	uint64_t outstanding_pages;  /* named by pmig_sender_defer() */
};

/* Live figures of a running round; read at any time. */
struct pmig_progress {
	uint32_t struct_size;
	uint32_t reserved;
	uint64_t epoch;
	uint64_t sent_pages;  /* since the sender was made */
	uint64_t wire_bytes;  /* since the sender was made */
	uint64_t blocks_done; /* of this round */
	uint64_t blocks_total;
};

/*
 * Make a sender over view and start one thread for each channel. Writes the
 * opening frame of every channel. memory and view must outlive it.
 */
int pmig_sender_new(const struct pmig_memory *memory, struct pmig_view *view,
		    const struct pmig_sender_config *config,
		    struct pmig_sender **sender, struct pmig_error *err);

/*
 * Tell the receiver which memory is populated here, so that it can allocate
 * ahead of the pages. Optional; before the first round.
 */
int pmig_sender_hint(struct pmig_sender *sender, struct pmig_error *err);

/* Write a blob frame (PMIG_FRAME_CONFIG or _STATE) on the first channel. */
int pmig_sender_put(struct pmig_sender *sender, enum pmig_frame_type type,
		    const void *data, size_t size_bytes,
		    struct pmig_error *err);

/*
 * Harvest, then send every pending page of the view as one epoch. Blocks
 * until all is written. For PMIG_EPOCH_SEALED the guest must be paused and
 * stay paused until the destination has answered. Taken pages stay with the
 * view until pmig_view_commit(). After an error only cancel and free are
 * allowed, and pmig_view_rollback() on the view.
 */
int pmig_sender_round(struct pmig_sender *sender, enum pmig_epoch_kind kind,
		      struct pmig_round *round, struct pmig_error *err);

/*
 * The receiver could not build these pages from what it has (EPOCH event,
 * pmig_receiver_stale()): they are pending again, and go out by an encoding
 * that rests on nothing. Between rounds. -EINVAL outside memory.
 */
int pmig_sender_resend(struct pmig_sender *sender,
		       const struct pmig_block_pages *list, uint32_t n,
		       struct pmig_error *err);

/*
 * Pages that the last two rounds sent, the first one not counted, and that
 * are pending again. Between rounds, after a harvest.
 */
uint64_t pmig_sender_hot_pages(const struct pmig_sender *sender);

/*
 * Leave such pages pending in fuzzy epochs from the next round on, until the
 * sealed one sends them, or send them again. Between rounds.
 */
void pmig_sender_hold(struct pmig_sender *sender, bool hold);

/*
 * Change the tuning; in effect from the next block on. -EINVAL with the
 * member that is wrong. Any thread.
 */
int pmig_sender_tune(struct pmig_sender *sender,
		     const struct pmig_tuning *tuning, struct pmig_error *err);

/*
 * Harvest, then name every pending page as outstanding instead of sending it,
 * in an epoch of that kind: first PMIG_EPOCH_FUZZY while the guest runs, so
 * that the destination can prepare, then PMIG_EPOCH_SEALED with the guest
 * paused, for what was written since. The pages count as taken. The sender
 * was made with PMIG_SENDER_LATE.
 */
int pmig_sender_defer(struct pmig_sender *sender, enum pmig_epoch_kind kind,
		      struct pmig_round *round, struct pmig_error *err);

/*
 * After channels broke: pages of n_blocks blocks from first_block on that the
 * destination misses (pmig_faults_missing()), to be sent by this new sender.
 * Before pmig_sender_late().
 */
int pmig_sender_owe(struct pmig_sender *sender, uint64_t first_block,
		    uint64_t n_blocks, const uint64_t *bitmap,
		    struct pmig_error *err);

/* What a late epoch did besides what is in struct pmig_round. */
struct pmig_late {
	uint32_t struct_size;
	uint32_t reserved;
	uint64_t requests;	  /* that came */
	uint64_t answered_pages;  /* sent because they were asked for */
	uint64_t neighbour_pages; /* sent with them */
	uint64_t refused_pages;	  /* asked for again: a delta did not fit */
};

/*
 * Send the outstanding pages, those that are asked for first, until the
 * destination says that none is missing. Blocks until then, or until a
 * channel breaks; the guest must not run here any more. *round and *late are
 * filled in in either case.
 */
int pmig_sender_late(struct pmig_sender *sender, struct pmig_round *round,
		     struct pmig_late *late, struct pmig_error *err);

/* What of the outstanding pages is sent without being asked for. */
enum pmig_push {
	PMIG_PUSH_ALL = 0,
	PMIG_PUSH_FIRST = 1, /* those named by pmig_sender_first() */
	PMIG_PUSH_NONE = 2,  /* no neighbours of those asked for, either */
};

/*
 * Push these pages before all others, in this order, as far as they are
 * outstanding; each is block x PMIG_BLOCK_PAGES + page, as
 * pmig_faults_touched() gives them. NULL, 0: none. push says what is pushed
 * after them. Before pmig_sender_late(). -EINVAL outside memory.
 */
int pmig_sender_first(struct pmig_sender *sender, const uint64_t *pages,
		      uint64_t n_pages, enum pmig_push push,
		      struct pmig_error *err);

/*
 * What is pushed from now on. Any thread, before pmig_sender_late() or while
 * it runs: with PMIG_PUSH_NONE until the guest runs, what is pushed does not
 * compete with the switchover for processors.
 */
int pmig_sender_push(struct pmig_sender *sender, enum pmig_push push,
		     struct pmig_error *err);

/* Outstanding pages that were not sent yet. Any thread. */
uint64_t pmig_sender_owed_pages(const struct pmig_sender *sender);

/* Write the end frame on every channel. */
int pmig_sender_end(struct pmig_sender *sender, struct pmig_error *err);

/* Make a running or later call fail with -ECANCELED. Any thread. */
void pmig_sender_cancel(struct pmig_sender *sender);

/* Any thread. */
void pmig_sender_progress(const struct pmig_sender *sender,
			  struct pmig_progress *progress);

/* Stops and joins the threads. */
void pmig_sender_free(struct pmig_sender *sender);

/* ---- late pages ------------------------------------------------------- */

/*
 * Post-copy: a guest that runs at the destination while pages are missing.
 * Whoever touches one waits until it has come.
 *
 *	pmig_faults_new()	before the receiver, which is given it
 *	  ... the stream names pages as outstanding ...
 *	pmig_faults_start()	once the sealed epoch is complete; from then
 *				on the guest may run
 *	pmig_faults_wait()	until nothing is missing
 *
 * When the channels break, free the receiver, make another one on new
 * channels, and have the source send what pmig_faults_missing() names. The
 * faults stay; who waits goes on waiting.
 */
struct pmig_faults;

enum pmig_faults_flags {
	/* behave as a kernel that cannot map pages of files (for tests) */
	PMIG_FAULTS_NO_MINOR = 1,
};

enum {
	/* of pmig_faults_config.record, before the words */
	PMIG_FAULTS_RECORD_BYTES = 4096,
};

struct pmig_faults_config {
	uint32_t struct_size;
	uint32_t flags;	     /* enum pmig_faults_flags */
	uint32_t n_handlers; /* threads, at most 8; 0: by the processors */
	/*
	 * Of another process whose memory it is, non-blocking, UFFDIO_API
	 * called and memory registered by that process; it should tell of
	 * removals (UFFD_FEATURE_EVENT_REMOVE), or what was removed comes
	 * back. -1: it is memory of this one. When nothing is missing any
	 * more the memory is unregistered.
	 */
	int32_t uffd;
	/* with uffd: where each region begins in that process; else NULL */
	const uint64_t *bases;
	/*
	 * With uffd, or NULL: what another process needs to go on where this
	 * one was killed, in a shared mapping of a file that outlives it and
	 * the object, and is not swapped out. It begins with
	 * PMIG_FAULTS_RECORD_BYTES of zeros, then a word for each block: pages
	 * that may be missing. It is kept up to date: a bit is cleared once
	 * its page was placed or removed, and never set again. Who goes on
	 * gives the same record, and expects the same pages.
	 */
	void *record;
};

/*
 * Prepare for late pages of memory, which must outlive it. Memory that is
 * shared is mapped once more. Errors: -ENOTSUP with the missing feature and
 * the kernel that brought it; -ENOMEM.
 */
int pmig_faults_new(const struct pmig_memory *memory,
		    const struct pmig_faults_config *config,
		    struct pmig_faults **faults, struct pmig_error *err);

/* Begin to handle faults. Whoever touches memory may wait from now on. */
int pmig_faults_start(struct pmig_faults *faults, struct pmig_error *err);

/* Pages that are not here yet; one bit each, as in a bitmap. Any thread. */
uint64_t pmig_faults_missing_pages(struct pmig_faults *faults);
int pmig_faults_missing(struct pmig_faults *faults, uint64_t first_block,
			uint64_t n_blocks, uint64_t *bitmap,
			struct pmig_error *err);

/*
 * Name pages as outstanding without a stream, before the start: memory that
 * will come from a file, say. bitmap as above. What the pages hold is given
 * up; where memory is another process's they have to be untouched.
 */
int pmig_faults_expect(struct pmig_faults *faults, uint64_t first_block,
		       uint64_t n_blocks, const uint64_t *bitmap,
		       struct pmig_error *err);

/*
 * Send requests on this channel, which leads against the last channel of a
 * sender, and repeat those that were not answered; NULL: to nobody. The
 * channel is borrowed until the next call. Any thread.
 */
void pmig_faults_attach(struct pmig_faults *faults,
			struct pmig_channel *channel);

/*
 * Wait until nothing is missing, up to timeout_ms (-1: no limit). Errors:
 * -ETIMEDOUT; -ESRCH and others when faults can be handled no longer. Memory
 * is as any other when it returns 0. Any thread.
 */
int pmig_faults_wait(struct pmig_faults *faults, int timeout_ms,
		     struct pmig_error *err);

/* How long something took: quantiles right to 3 %, of count times. */
struct pmig_latency {
	uint64_t count;
	uint64_t p50_ns;
	uint64_t p90_ns;
	uint64_t p99_ns;
	uint64_t max_ns;
	uint64_t sum_ns;
};

struct pmig_faults_report {
	uint32_t struct_size;
	uint32_t n_threads; /* that waited */
	/* from reading a fault until its page was placed */
	struct pmig_latency remote; /* the source had the page */
	struct pmig_latency local;  /* it was here, or a hole */
	/* parts of those remote ones that were answered when asked for: */
	struct pmig_latency queueing;  /* at this side and at the source */
	struct pmig_latency network;   /* there and back */
	struct pmig_latency placement; /* decoded, checked, placed */
	uint64_t pushed_faults;	       /* remote, and came before the answer */
	uint64_t stalled_ns;	       /* of all threads together */
	uint64_t longest_stalled_ns;   /* of the one that waited most */
	uint64_t missing_pages;
	uint64_t waiting_faults;
	uint64_t touched_pages; /* see pmig_faults_touched() */
	uint64_t last_page_ns;	/* since the start; 0: it has not come */
	uint32_t n_samples;
	uint32_t reserved;
	/*
	 * Of pages that came with an answer and were not asked for, some are
	 * watched: how many, and how many of those the guest used.
	 */
	uint64_t probes;
	uint64_t probes_used;
};

/* Any thread. */
void pmig_faults_report(struct pmig_faults *faults,
			struct pmig_faults_report *report);

/* A fault: when it was read, since the start, and how long it took. */
struct pmig_fault_sample {
	uint64_t at_ns;
	uint64_t latency_ns;
};

/* Remote faults over time, evenly thinned out. How many; any thread. */
uint32_t pmig_faults_samples(struct pmig_faults *faults,
			     struct pmig_fault_sample *samples,
			     uint32_t capacity);

/*
 * Pages in the order in which they were first asked for, as block x
 * PMIG_BLOCK_PAGES + page: the working set. How many; any thread.
 */
uint64_t pmig_faults_touched(struct pmig_faults *faults, uint64_t *pages,
			     uint64_t capacity);

/*
 * The guest has not run here and never will: whoever waits for a page, to load
 * the state, say, goes on and finds zeros. Free the faults and discard memory
 * next. Any thread, once.
 */
void pmig_faults_abandon(struct pmig_faults *faults);

/*
 * Free the receiver before. The guest must not run while anything is missing:
 * pages that are missing are made inaccessible, not zero, unless they were
 * abandoned. Memory of another process is left as it is: who waits for a
 * missing page there goes on waiting, for another object to be made.
 */
void pmig_faults_free(struct pmig_faults *faults);

/* ---- receiver --------------------------------------------------------- */

struct pmig_receiver;

enum pmig_receiver_flags {
	/* memory is known to be untouched: do not discard it first */
	PMIG_RECEIVER_FRESH = 1,
};

struct pmig_receiver_config {
	uint32_t struct_size;
	uint32_t n_channels;
	struct pmig_channel *const *channels; /* must outlive the receiver */
	uint8_t session_id[16];	   /* expected; all zero accepts any */
	uint32_t stall_timeout_ms; /* within a frame; 0: 30 s */
	uint32_t flags;		   /* enum pmig_receiver_flags */
	uint32_t reserved;
	uint32_t n_cpus;
	/* processors for the reader threads, or NULL: wherever they may run */
	const uint32_t *cpus;
	/*
	 * For late pages; must outlive the receiver. NULL: a stream that has
	 * any is refused. The last channel is then the urgent one.
	 */
	struct pmig_faults *faults;
};

enum pmig_event_kind {
	PMIG_EVENT_NONE = 0,  /* the wait timed out */
	PMIG_EVENT_BLOB = 1,  /* frame, data, size_bytes */
	PMIG_EVENT_EPOCH = 2, /* complete on every channel */
	PMIG_EVENT_END = 3,   /* orderly end on every channel */
	/*
	 * The memory that pmig_sender_hint() announced is allocated, as far
	 * as that is of use ahead of its pages; comes once, at any time, and
	 * only where there was a hint.
	 */
	PMIG_EVENT_POPULATED = 4,
};

struct pmig_event {
	uint32_t struct_size;
	uint32_t kind;	     /* enum pmig_event_kind */
	uint32_t frame;	     /* BLOB: enum pmig_frame_type */
	uint32_t epoch_kind; /* EPOCH: enum pmig_epoch_kind */
	uint64_t epoch;
	uint64_t pages; /* EPOCH: pages described in it */
	uint64_t zero_pages;
	uint64_t wire_bytes; /* EPOCH: read since the receiver was made */
	uint64_t digest;     /* EPOCH: recomputed here, equal to the sender's */
	/*
	 * EPOCH: pages whose bytes did not match their hash because they
	 * changed while they were sent, and for which no newer version has
	 * arrived yet. Always 0 in a sealed epoch, or the wait fails.
	 */
	uint64_t suspect_pages;
	/*
	 * EPOCH: pages that could not be built from what is here and have to
	 * be asked for, see pmig_receiver_stale(). The machine is complete
	 * after a sealed epoch without any.
	 */
	uint64_t stale_pages;
	const uint8_t *data; /* BLOB: valid until the next wait or free */
	uint64_t size_bytes;
};

/*
 * Make a receiver that writes into memory and start one thread for each
 * channel. Memory is discarded first (PMIG_RECEIVER_FRESH: is not): pages
 * that the stream never mentions read as zero. Where faults are handled
 * already, memory is left as it is.
 */
int pmig_receiver_new(const struct pmig_memory *memory,
		      const struct pmig_receiver_config *config,
		      struct pmig_receiver **receiver, struct pmig_error *err);

/*
 * Wait for the next event, up to timeout_ms (-1: no limit). Errors: -EBADMSG
 * what came is not a valid stream or fails its checksum; -EPIPE a channel
 * ended early; -ETIMEDOUT a channel stalled within a frame; -ECANCELED.
 * After an error every wait fails the same way.
 */
int pmig_receiver_wait(struct pmig_receiver *receiver, int timeout_ms,
		       struct pmig_event *event, struct pmig_error *err);

/*
 * After an EPOCH event with stale_pages: the blocks they lie in, ascending,
 * at most capacity of them; to be given to pmig_sender_resend() at the
 * source before it begins the next epoch. Returns how many were written.
 */
uint32_t pmig_receiver_stale(const struct pmig_receiver *receiver,
			     struct pmig_block_pages *list, uint32_t capacity);

/* Make a running or later wait fail with -ECANCELED. Any thread. */
void pmig_receiver_cancel(struct pmig_receiver *receiver);

/* Stops and joins the threads. */
void pmig_receiver_free(struct pmig_receiver *receiver);

/* ---- lazy restore ----------------------------------------------------- */

/*
 * A guest that runs while its memory comes from a file: what it touches is
 * read when it touches it, and the rest behind its back.
 *
 *	pmig_faults_new()	for memory that nothing was written to yet
 *	pmig_restore_new()	finds what the file holds, and where
 *	pmig_restore_state()	how the machine was
 *	pmig_faults_start()
 *	pmig_restore_start()	from now on memory may be touched: load the
 *				state, and let the guest run
 *	pmig_restore_fill()	it does: read the rest as well
 *	pmig_restore_wait()	until everything is there
 *	pmig_faults_touched()	what it touched first, for the next time
 *	pmig_restore_free()	then pmig_faults_free(), then the machine
 *
 * What is missing meanwhile looks like holes of memory: do not ask
 * pmig_memory_present() or pmig_memory_hash(), and do not send it, before all
 * is there.
 */
struct pmig_restore;

enum pmig_restore_format {
	/* one channel of a stream, with a sealed epoch at its end */
	PMIG_RESTORE_STREAM = 1,
	/* memory as it is, each region in one piece; holes are zeros */
	PMIG_RESTORE_RAW = 2,
};

enum pmig_restore_flags {
	/* memory is known to be untouched: do not discard it first */
	PMIG_RESTORE_FRESH = 1,
	/*
	 * Before pmig_restore_fill() read only what is touched, and the first
	 * pages: what is there already does not fault, and is not among the
	 * pages that were touched, see pmig_faults_touched().
	 */
	PMIG_RESTORE_NO_FILL = 2,
};

struct pmig_restore_config {
	uint32_t struct_size;
	uint32_t flags;	 /* enum pmig_restore_flags */
	int32_t fd;	 /* the file, readable; must not change meanwhile */
	uint32_t format; /* enum pmig_restore_format */
	/* RAW: where each region begins in the file, page aligned; else NULL */
	const uint64_t *offsets;
	/*
	 * Pages as pmig_faults_touched() gives them: read before any others,
	 * in this order. Those that are zeros are passed over. May be NULL.
	 */
	const uint64_t *first_pages;
	uint64_t n_first_pages;
	/* of reading the rest; 0: no limit. Faults come first in any case. */
	uint64_t fill_bytes_per_s;
};

/*
 * Find what the file holds: of a stream its index and its state are read, or
 * the heads of its frames where it has no index, but no page. All pages that
 * are not zeros are missing from now on in faults, which is not started yet and
 * must outlive the restore, as memory must. Errors: -EBADMSG the stream is
 * damaged, cut off, of another machine, or lacks a sealed epoch; -EINVAL;
 * -ENOMEM.
 */
int pmig_restore_new(const struct pmig_memory *memory,
		     struct pmig_faults *faults,
		     const struct pmig_restore_config *config,
		     struct pmig_restore **restore, struct pmig_error *err);

/*
 * STREAM: the state of the machine, valid until the restore is freed.
 * -ENOENT: the file holds none.
 */
int pmig_restore_state(const struct pmig_restore *restore, const uint8_t **data,
		       uint64_t *size_bytes, struct pmig_error *err);

/*
 * Begin to read pages: one thread answers faults, another reads the first
 * pages and the rest. -EINVAL before pmig_faults_start().
 */
int pmig_restore_start(struct pmig_restore *restore, struct pmig_error *err);

/* Read also what is not touched, from now on. Any thread. */
void pmig_restore_fill(struct pmig_restore *restore);

/*
 * Wait until everything is there, up to timeout_ms (-1: no limit). Errors:
 * -ETIMEDOUT; -ECANCELED; -EBADMSG a page is damaged, and whoever touches it
 * waits for ever; others when the file cannot be read. Any thread.
 */
int pmig_restore_wait(struct pmig_restore *restore, int timeout_ms,
		      struct pmig_error *err);

/* Read nothing more: what is missing stays so. Any thread. */
void pmig_restore_cancel(struct pmig_restore *restore);

struct pmig_restore_report {
	uint32_t struct_size;
	uint32_t has_index;	 /* STREAM: not 0: all heads need not be read */
	uint64_t stored_pages;	 /* in the file, and not zeros in a stream */
	uint64_t frames;	 /* STREAM: that describe pages */
	uint64_t index_ns;	 /* to find what the file holds */
	uint64_t answered_pages; /* asked for, and those that came along */
	uint64_t prefetched_pages; /* first pages, likewise */
	uint64_t filled_pages;	   /* the rest */
	/* from the start until the first pages were here; 0: they are not */
	uint64_t prefetch_ns;
	uint64_t read_bytes; /* of the file, since the start */
};

/* Any thread. */
void pmig_restore_report(const struct pmig_restore *restore,
			 struct pmig_restore_report *report);

/* Cancels, and joins the threads. */
void pmig_restore_free(struct pmig_restore *restore);

/* ---- state items ------------------------------------------------------ */

/*
 * vCPU and device state travels as a list of named, versioned items; the
 * body of a STATE frame is one encoded list.
 */
struct pmig_state;

enum pmig_item_flags {
	/* a reader that does not know the item may leave it out */
	PMIG_ITEM_SKIPPABLE = 1,
};

struct pmig_item {
	const char *name;    /* valid as long as the state is unchanged */
	const uint8_t *data; /* likewise */
	uint64_t size_bytes;
	uint32_t version;
	uint32_t flags; /* enum pmig_item_flags */
};

int pmig_state_new(struct pmig_state **state, struct pmig_error *err);
void pmig_state_free(struct pmig_state *state);

/*
 * Append an item; its name (1 to 47 bytes of [a-z0-9./_-]) must be new.
 * data is copied.
 */
int pmig_state_add(struct pmig_state *state, const char *name, uint32_t version,
		   uint32_t flags, const void *data, uint64_t size_bytes,
		   struct pmig_error *err);

/* Number of items; item number index. -ENOENT past the last. */
uint32_t pmig_state_count(const struct pmig_state *state);
int pmig_state_item(const struct pmig_state *state, uint32_t index,
		    struct pmig_item *item);

/* The item of that name, or -ENOENT. */
int pmig_state_find(const struct pmig_state *state, const char *name,
		    struct pmig_item *item);

/* Encode; *data belongs to state and is valid until it changes. */
int pmig_state_encode(struct pmig_state *state, const uint8_t **data,
		      uint64_t *size_bytes, struct pmig_error *err);

/* Decode a list that came from a peer. -EBADMSG when it is malformed. */
int pmig_state_decode(const void *data, uint64_t size_bytes,
		      struct pmig_state **state, struct pmig_error *err);

/* ---- KVM state (x86-64) ----------------------------------------------- */

/*
 * A KVM machine as its owner made it. The owner creates vCPUs, the in-kernel
 * irqchip and memory slots; these calls read and write its state.
 */
struct pmig_kvm {
	uint32_t struct_size;
	int32_t kvm_fd; /* /dev/kvm */
	int32_t vm_fd;
	uint32_t n_vcpus;
	const int32_t *vcpu_fds;
	struct kvm_run *const *runs; /* the mapped kvm_run of each vCPU */
	uint32_t flags;		     /* enum pmig_kvm_flags */
};

enum pmig_kvm_flags {
	PMIG_KVM_IRQCHIP = 1, /* full in-kernel irqchip: PIC, IOAPIC, LAPIC */
	PMIG_KVM_SPLIT_IRQCHIP = 2, /* LAPIC only in the kernel */
	PMIG_KVM_PIT = 4,	    /* in-kernel i8254 */
	/* behave as a kernel without the newer interfaces would (for tests) */
	PMIG_KVM_BASIC = 8,
};

/*
 * Enable the capabilities that state capture relies on (exception payload,
 * triple fault event). Call after KVM_CREATE_VM, before the first vCPU.
 */
int pmig_kvm_prepare(int kvm_fd, int vm_fd, struct pmig_error *err);

/*
 * Complete a pending PIO or MMIO of a vCPU by one entry with immediate_exit.
 * To be called on the thread of that vCPU once it has left KVM_RUN and the
 * exit was handled. Clears run->immediate_exit. -EAGAIN: the vCPU has a
 * further exit in run (an instruction of several accesses): handle it and
 * call again.
 */
int pmig_kvm_quiesce_vcpu(int vcpu_fd, struct kvm_run *run,
			  struct pmig_error *err);

/* Append the items "kvm/..." of a paused machine to state. */
int pmig_kvm_save(const struct pmig_kvm *kvm, struct pmig_state *state,
		  struct pmig_error *err);

/*
 * Load a machine that has never run, or is paused, from state. *skipped
 * (may be NULL) receives a malloc'd sentence that names what was left out
 * because this host lacks it, or NULL when nothing was; release it with
 * pmig_string_free(). Errors: -EBADMSG malformed item, -ENOTSUP an item or
 * MSR that this host cannot take, each named.
 */
int pmig_kvm_load(const struct pmig_kvm *kvm, const struct pmig_state *state,
		  char **skipped, struct pmig_error *err);

/* Tell each vCPU's kvmclock that it was paused; just before the first run. */
int pmig_kvm_before_run(const struct pmig_kvm *kvm, struct pmig_error *err);

/*
 * What a destination must offer to run this machine, as one JSON object:
 * architecture, capabilities, CPUID, MSR list, XSAVE, TSC frequency; see
 * docs/kvm-state.md. With n_vcpus 0 it describes what this host supports.
 * While a vCPU runs KVM answers only once it leaves the guest, which may be
 * never: ask when none runs, and keep the answer until the next load.
 * *json is malloc'd; release it with pmig_string_free().
 */
int pmig_kvm_describe(const struct pmig_kvm *kvm, char **json,
		      struct pmig_error *err);

void pmig_string_free(char *string);

/* cffi: end */

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#ifdef __cplusplus
}
#endif

#endif /* PYMIGRATE_H */
