/* SPDX-License-Identifier: MIT */
/* The program that the vCPU runs, and how it reports. */
#ifndef GUEST_H
#define GUEST_H

#define GUEST_PORT_STARTED 0x10 /* one byte, by the first instruction */
#define GUEST_PORT_RESULT 0x11  /* two times 32 bits: low half, then high half */
#define GUEST_PORT_DONE 0x12    /* one byte */

/* Position-independent code for long mode at a privilege level that may do port I/O. rsi: address of the first word, rcx:
 * number of words, not 0. It needs no stack. */
extern const unsigned char guest_program[];
extern const unsigned char guest_program_end[];

#endif
