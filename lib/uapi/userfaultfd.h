/* SPDX-License-Identifier: MIT */
/* The part of userfaultfd's user interface that libgmem uses, written from its layout. Never installed; names are ours. */
#ifndef GMEMI_UAPI_USERFAULTFD_H
#define GMEMI_UAPI_USERFAULTFD_H

#include <stdint.h>

#define UFFDI_NEW 0x0000aa00u /* on /dev/userfaultfd, flags by value */
#define UFFDI_API 0xc018aa3fu
#define UFFDI_REGISTER 0xc020aa00u
#define UFFDI_UNREGISTER 0x8010aa01u
#define UFFDI_WAKE 0x8010aa02u
#define UFFDI_COPY 0xc028aa03u
#define UFFDI_ZEROPAGE 0xc020aa04u
#define UFFDI_WRITEPROTECT 0xc018aa06u
#define UFFDI_CONTINUE 0xc020aa07u
#define UFFDI_POISON 0xc020aa08u

#define UFFDI_API_VERSION 0xaau
#define UFFDI_USER_MODE_ONLY 1

#define UFFDI_REGISTER_MISSING (UINT64_C(1) << 0)
#define UFFDI_REGISTER_WP (UINT64_C(1) << 1)
#define UFFDI_REGISTER_MINOR (UINT64_C(1) << 2)

/* Feature bits, by number. */
enum {
	UFFDI_BIT_PAGEFAULT_WP = 0,
	UFFDI_BIT_EVENT_FORK = 1,
	UFFDI_BIT_EVENT_REMAP = 2,
	UFFDI_BIT_EVENT_REMOVE = 3,
	UFFDI_BIT_MISSING_HUGETLBFS = 4,
	UFFDI_BIT_MISSING_SHMEM = 5,
	UFFDI_BIT_EVENT_UNMAP = 6,
	UFFDI_BIT_SIGBUS = 7,
	UFFDI_BIT_THREAD_ID = 8,
	UFFDI_BIT_MINOR_HUGETLBFS = 9,
	UFFDI_BIT_MINOR_SHMEM = 10,
	UFFDI_BIT_EXACT_ADDRESS = 11,
	UFFDI_BIT_WP_HUGETLBFS_SHMEM = 12,
	UFFDI_BIT_WP_UNPOPULATED = 13,
	UFFDI_BIT_POISON = 14,
	UFFDI_BIT_WP_ASYNC = 15,
	UFFDI_BIT_MOVE = 16,
	UFFDI_BIT_RWP = 17,
	UFFDI_BIT_RWP_ASYNC = 18
};

#define UFFDI_IOCTL_SET_MODE (UINT64_C(1) << 0x0a) /* in the mask that UFFDI_API returns: 7.3, with RWP */

struct uffdi_api {
	uint64_t api;
	uint64_t features;
	uint64_t ioctls;
};

struct uffdi_register {
	uint64_t start;
	uint64_t length;
	uint64_t mode;
	uint64_t ioctls;
};

/* UNREGISTER, WAKE */
struct uffdi_range {
	uint64_t start;
	uint64_t length;
};

struct uffdi_copy {
	uint64_t to;
	uint64_t from;
	uint64_t length;
	uint64_t mode;
	int64_t result; /* bytes, or a negative errno */
};

/* ZEROPAGE, CONTINUE, POISON */
struct uffdi_resolve {
	uint64_t start;
	uint64_t length;
	uint64_t mode;
	int64_t result; /* bytes, or a negative errno */
};

#define UFFDI_MODE_DONTWAKE (UINT64_C(1) << 0)

/* WRITEPROTECT */
struct uffdi_protect {
	uint64_t start;
	uint64_t length;
	uint64_t mode;
};

#define UFFDI_PROTECT_ON (UINT64_C(1) << 0)

enum {
	UFFDI_EVENT_PAGEFAULT = 0x12,
	UFFDI_EVENT_FORK = 0x13,
	UFFDI_EVENT_REMAP = 0x14,
	UFFDI_EVENT_REMOVE = 0x15,
	UFFDI_EVENT_UNMAP = 0x16
};

#define UFFDI_FAULT_WRITE (UINT64_C(1) << 0)
#define UFFDI_FAULT_WP (UINT64_C(1) << 1)
#define UFFDI_FAULT_MINOR (UINT64_C(1) << 2)

/* What read() gives. */
struct uffdi_message {
	uint8_t event;
	uint8_t reserved1;
	uint16_t reserved2;
	uint32_t reserved3;
	union {
		struct {
			uint64_t flags;
			uint64_t address;
			uint32_t thread;
		} fault;
		struct {
			uint32_t fd;
		} fork;
		struct {
			uint64_t from;
			uint64_t to;
			uint64_t length;
		} remap;
		struct {
			uint64_t start;
			uint64_t end;
		} range; /* REMOVE, UNMAP */
	};
};
_Static_assert(sizeof(struct uffdi_message) == 32, "the kernel's own size");

#endif
