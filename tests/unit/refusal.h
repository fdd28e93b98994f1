/* SPDX-License-Identifier: MIT */
/* Calls that are refused: by which code, and in which words. */
#ifndef UNIT_REFUSAL_H
#define UNIT_REFUSAL_H

/* So that an old sentence is not taken for a new one. */
void spoil_sentence(void);
/* What `call` returned is this code, and the last sentence names the call and the code, and has the word. */
void bad(const char *call, int r, int code, const char *word);

#endif
