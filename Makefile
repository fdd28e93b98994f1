# SPDX-License-Identifier: MIT
# libgmem: build, test, install. `make help` lists the targets. Output goes to O (default: build); V=1 shows the commands.

O ?= build
PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
BINDIR ?= $(PREFIX)/bin
MANDIR ?= $(PREFIX)/share/man
AR ?= ar
INSTALL ?= install
CFLAGS ?= -O2 -g

S := $(patsubst %/,%,$(dir $(abspath $(lastword $(MAKEFILE_LIST)))))
VERSION := $(shell sed -n 's/^.define GMEM_VERSION "\(.*\)"/\1/p' $(S)/include/gmem/base.h)
SONAME := libgmem.so.0
REALNAME := $(SONAME).$(VERSION)

# What the code needs, whatever the builder's flags are. WERROR=-Werror in CI; SAN= a list for -fsanitize=.
OWN_CPPFLAGS := -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -I$(S)/include
OWN_CFLAGS := -std=gnu11 -Wall -Wextra -Wconversion $(WERROR) $(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=all -fno-omit-frame-pointer)
OWN_LDFLAGS := $(if $(SAN),-fsanitize=$(SAN))
compile = $(CC) $(OWN_CPPFLAGS) $(CPPFLAGS) $(OWN_CFLAGS) $(CFLAGS) -MMD -MP -c -o $@
link = $(CC) $(OWN_CFLAGS) $(CFLAGS) $(OWN_LDFLAGS) $(LDFLAGS) -o $@

# The shared library is optimised as a whole where the compiler can do that: a fault's way through it is a sixth shorter then. The
# archive is not: what is linked with it may be of another compiler. LTO= does without. What may be uninitialised is found in the
# archive's objects; across files the compiler does not know that a code of 0 comes with a result.
LTO_TRIAL := printf 'int main(void) { return 0; }' | $(CC) -Werror -flto=auto -fno-fat-lto-objects -x c - -o /dev/null
ifeq ($(origin LTO),undefined)
LTO := $(if $(SAN),,$(shell $(LTO_TRIAL) 2> /dev/null && echo -flto=auto -Wno-maybe-uninitialized))
endif

ifeq ($(V),1)
say =
Q =
else
say = @printf '  %-7s %s\n' $(1) $(2);
Q = @
endif

HEADERS := $(wildcard $(S)/include/gmem/*.h)
LIB_SRC := $(sort $(wildcard $(S)/lib/*.c))
TOOL_SRC := $(sort $(wildcard $(S)/tools/gmem-info*.c))
PAGER_SRC := $(sort $(wildcard $(S)/tools/gmem-pager*.c))
MICROVM_SRC := $(sort $(wildcard $(S)/examples/microvm/*.c))
EXAMPLES := $(sort $(wildcard $(S)/examples/*.c))

objects = $(patsubst $(S)/%.c,$(O)/$(1)/%.o,$(2))
STATIC_OBJ := $(call objects,static,$(LIB_SRC))
SHARED_OBJ := $(call objects,shared,$(LIB_SRC))
TOOL_OBJ := $(call objects,program,$(TOOL_SRC))
PAGER_OBJ := $(call objects,program,$(PAGER_SRC))
MICROVM_OBJ := $(call objects,program,$(MICROVM_SRC))

TOOLS := $(O)/gmem-info $(O)/gmem-pager
LIBS := $(O)/libgmem.a $(O)/$(REALNAME) $(O)/libgmem.pc

.PHONY: all lib demo install uninstall clean deps docs help FORCE
.DELETE_ON_ERROR:

all: lib $(TOOLS) $(O)/microvm $(patsubst $(S)/examples/%.c,$(O)/%,$(EXAMPLES))

lib: $(LIBS)

help:
	@echo 'all (default)  library, tools and examples in $(O)/; lib: the library alone'
	@echo 'demo           put a memory image into guest memory and run a vCPU on it: IMAGE=file, ARGS=options of microvm'
	@echo 'deps           install what the tests need, by package name (Debian, root)'
	@echo 'check          all tests that need no virtual machine; TESTS=pattern for some'
	@echo 'check-vm       the tests on real kernels in emulated machines, after deps-vm: KERNEL=7.3 TEST=part VM_SHELL=1 PAGE=file'
	@echo 'check-release  what a release needs besides check'
	@echo 'check-headers  everything with the kernel headers of other Debian suites, and with musl'
	@echo 'bench          ratios to loops written by hand, and whether the goals hold; ARGS="--goal 2 --json", --help'
	@echo 'stress         many threads, signals and processes at once: STRESS_SECONDS=10 for each test, TESTS=pattern for some'
	@echo 'docs           reference from the headers, in $(O)/docs'
	@echo 'install, uninstall   PREFIX LIBDIR INCLUDEDIR BINDIR MANDIR DESTDIR'
	@echo 'clean          remove $(O)/'
	@echo 'Also: CC CFLAGS CPPFLAGS LDFLAGS LTO= O= V=1 WERROR=-Werror SAN=address,undefined'

# --- library -------------------------------------------------------------------------------------------------------------------

$(O)/static/lib/%.o: $(S)/lib/%.c
	@mkdir -p $(@D)
	$(call say,CC,$(@:$(O)/%=%))$(compile) -fvisibility=hidden -I$(S)/lib $<

$(O)/shared/lib/%.o: $(S)/lib/%.c
	@mkdir -p $(@D)
	$(call say,CC,$(@:$(O)/%=%))$(compile) $(LTO) -fPIC -fvisibility=hidden -I$(S)/lib $<

$(O)/libgmem.a: $(STATIC_OBJ)
	$(call say,AR,$(@F))rm -f $@ && $(AR) rcs $@ $^

$(O)/$(REALNAME): $(SHARED_OBJ) $(S)/lib/gmem.map
	$(call say,LINK,$(@F))$(link) $(LTO) -fPIC -shared -Wl,-soname,$(SONAME) -Wl,--version-script=$(S)/lib/gmem.map \
		$(if $(SAN),,-Wl,-z,defs) $(SHARED_OBJ) -pthread
	@ln -sf $(REALNAME) $(O)/$(SONAME) && ln -sf $(SONAME) $(O)/libgmem.so

# Written anew whenever it would differ: the directories may be others than last time.
$(O)/libgmem.pc: $(S)/pkgconfig/libgmem.pc.in FORCE
	@mkdir -p $(@D)
	$(Q)sed -e 's|@PREFIX@|$(PREFIX)|;s|@LIBDIR@|$(LIBDIR)|;s|@INCLUDEDIR@|$(INCLUDEDIR)|;s|@VERSION@|$(VERSION)|' \
		$< > $@.new
	$(Q)if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

# --- programs ------------------------------------------------------------------------------------------------------------------

$(O)/program/%.o: $(S)/%.c
	@mkdir -p $(@D)
	$(call say,CC,$(@:$(O)/%=%))$(compile) $<

# Examples are compiled as their readers compile them.
$(EXAMPLES:$(S)/%.c=$(O)/program/%.o): OWN_CPPFLAGS := -I$(S)/include

$(O)/gmem-info: $(TOOL_OBJ) $(O)/libgmem.a
	$(call say,LINK,$(@F))$(link) $^ -pthread

# Where the compiler does not find libseccomp (musl's does not), the daemon runs with --no-seccomp only.
SECCOMP_TRIAL := \#include <seccomp.h>\nint main(void) { return !seccomp_version(); }\n
SECCOMP_LIBS := $(shell printf '$(SECCOMP_TRIAL)' | $(CC) $(CPPFLAGS) -x c - -lseccomp -o /dev/null 2>/dev/null && echo -lseccomp)
$(O)/program/tools/gmem-pager-seccomp.o: OWN_CPPFLAGS += $(if $(SECCOMP_LIBS),-DHAVE_SECCOMP)

$(O)/gmem-pager: $(PAGER_OBJ) $(O)/libgmem.a
	$(call say,LINK,$(@F))$(link) $^ $(SECCOMP_LIBS) -pthread

$(O)/microvm: $(MICROVM_OBJ) $(O)/libgmem.a
	$(call say,LINK,$(@F))$(link) $^ -pthread

$(O)/%: $(O)/program/examples/%.o $(O)/libgmem.a
	$(call say,LINK,$(@F))$(link) $^ -pthread

# --- the main job ----------------------------------------------------------------------------------------------------------------

DEMO_IMAGE := $(O)/demo.img

demo: $(O)/microvm $(if $(IMAGE),,$(DEMO_IMAGE))
	$(Q)$(O)/microvm $(ARGS) $(if $(IMAGE),"$(IMAGE)",$(DEMO_IMAGE))

$(DEMO_IMAGE): $(S)/examples/microvm/make-image.sh
	$(call say,IMAGE,$(@F))sh $< $@

# --- install ---------------------------------------------------------------------------------------------------------------------

# One list for both directions: source, directory, name, mode.
MAN_PAGES := $(wildcard $(S)/docs/man/*.[1-8])
man_dir = $(MANDIR)/man$(subst .,,$(suffix $(1)))
INSTALLED = $(LIBDIR)/libgmem.a $(LIBDIR)/$(REALNAME) $(LIBDIR)/$(SONAME) $(LIBDIR)/libgmem.so \
	$(LIBDIR)/pkgconfig/libgmem.pc $(INCLUDEDIR)/gmem.h $(HEADERS:$(S)/include/%=$(INCLUDEDIR)/%) $(TOOLS:$(O)/%=$(BINDIR)/%) \
	$(foreach page,$(MAN_PAGES),$(call man_dir,$(page))/$(notdir $(page)))

install: $(LIBS) $(TOOLS)
	$(Q)$(INSTALL) -d $(sort $(dir $(addprefix $(DESTDIR),$(INSTALLED))))
	$(Q)$(INSTALL) -m 644 $(O)/libgmem.a $(DESTDIR)$(LIBDIR)/
	$(Q)$(INSTALL) -m 755 $(O)/$(REALNAME) $(DESTDIR)$(LIBDIR)/
	$(Q)ln -sf $(REALNAME) $(DESTDIR)$(LIBDIR)/$(SONAME)
	$(Q)ln -sf $(SONAME) $(DESTDIR)$(LIBDIR)/libgmem.so
	$(Q)$(INSTALL) -m 644 $(O)/libgmem.pc $(DESTDIR)$(LIBDIR)/pkgconfig/
	$(Q)$(INSTALL) -m 644 $(S)/include/gmem.h $(DESTDIR)$(INCLUDEDIR)/
	$(Q)$(INSTALL) -m 644 $(HEADERS) $(DESTDIR)$(INCLUDEDIR)/gmem/
	$(Q)$(INSTALL) -m 755 $(TOOLS) $(DESTDIR)$(BINDIR)/
	$(Q)$(foreach page,$(MAN_PAGES),$(INSTALL) -m 644 $(page) $(DESTDIR)$(call man_dir,$(page))/ &&) true

uninstall:
	$(Q)rm -f $(addprefix $(DESTDIR),$(INSTALLED))
	$(Q)rmdir $(DESTDIR)$(INCLUDEDIR)/gmem 2>/dev/null || true

clean:
	rm -rf $(O)

include $(S)/tests/Makefile.inc
include $(S)/tests/vm/Makefile.inc

-include $(STATIC_OBJ:.o=.d) $(SHARED_OBJ:.o=.d) $(TOOL_OBJ:.o=.d) $(PAGER_OBJ:.o=.d) $(MICROVM_OBJ:.o=.d) \
	$(EXAMPLES:$(S)/%.c=$(O)/program/%.d)
