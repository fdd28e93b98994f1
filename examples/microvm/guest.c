/* SPDX-License-Identifier: MIT */
#include "guest.h"

#ifdef __x86_64__

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

/* This is data for the host, so it lives in .rodata. checksum.h has the same loop in C. */
__asm__("	.pushsection .rodata\n"
	"	.globl guest_program, guest_program_end\n"
	"	.hidden guest_program, guest_program_end\n"
	"guest_program:\n"
	"	out %al, $" TEXT(GUEST_PORT_STARTED) "\n"
	"	xor %eax, %eax\n"
	"1:	rol $5, %rax\n"
	"	xor (%rsi), %rax\n"
	"	add $8, %rsi\n"
	"	dec %rcx\n"
	"	jnz 1b\n"
	"	out %eax, $" TEXT(GUEST_PORT_RESULT) "\n"
	"	shr $32, %rax\n"
	"	out %eax, $" TEXT(GUEST_PORT_RESULT) "\n"
	"	out %al, $" TEXT(GUEST_PORT_DONE) "\n"
	"	ud2\n" /* the host never comes back after the last report */
	"guest_program_end:\n"
	"	.popsection\n");

#endif
