/* SPDX-License-Identifier: MIT */
/** @file gmem.h
 * Everything of libgmem: programs include this header and link with `pkg-config --libs libgmem`.
 */
#ifndef GMEM_H
#define GMEM_H

#include <gmem/base.h>
#include <gmem/vm.h>
#include <gmem/vcpu.h>
#include <gmem/memory.h>
#include <gmem/source.h>
#include <gmem/populate.h>
#include <gmem/fault.h>
#include <gmem/pager.h>
#include <gmem/channel.h>
#include <gmem/guard.h>
#include <gmem/server.h>

#endif
