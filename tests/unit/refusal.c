/* SPDX-License-Identifier: MIT */
#include "refusal.h"

#include <errno.h>
#include <string.h>

#include "err.h"
#include "gt.h"

void spoil_sentence(void)
{
	gmemi_enter("nobody");
	gmemi_refuse(-EIO, "said nothing");
}

void bad(const char *call, int r, int code, const char *word)
{
	size_t length = strlen(call);
	const char *said = gmem_last_error();

	if (r != code)
		fail_msg("%s returned %d, not %d: %s", call, r, code, said);
	if (strncmp(said, call, length) != 0 || said[length] != ':' || !strstr(said, gmemi_error_name(code)))
		fail_msg("%s failed with %d and said: %s", call, code, said);
	if (!strstr(said, word))
		fail_msg("no \"%s\" in: %s", word, said);
}
