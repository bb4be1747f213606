# Feedmill: one Makefile, no recursion but for build variants. Sources are found by wildcard per layer: a new file needs no edit.
# Set by a packager or on the command line: CC CFLAGS CPPFLAGS LDFLAGS PREFIX DESTDIR; WERROR=1 for CI; BUILD=… for a build
# tree elsewhere; V=1 to see whole commands.

BUILD = build
PREFIX = /usr/local
DESTDIR =
CFLAGS = -O2 -g
MYSQL_CONFIG = mysql_config
COVERAGE = 85

.DEFAULT_GOAL = all
.DELETE_ON_ERROR:
.PHONY: all check lint san tsan cov cov-report faults bench docs install clean sample help

# --- third-party libraries, all by pkg-config (MySQL's client by mysql_config where it has no .pc file) ---
# msgpack-c has changed its name from 5.0 on: Debian 12 has the old one, 13 the new.
MSGPACK_PACKAGE := $(or $(firstword $(foreach p,msgpack-c msgpack,$(shell pkg-config --exists $(p) 2>/dev/null && echo $(p)))),msgpack-c)
PACKAGES = rdkafka libcurl libcjson libconfig libmicrohttpd yaml-0.1 sqlite3 librabbitmq hiredis libcrypto zlib liblzma libzstd libbrotlidec libpcre2-8 $(MSGPACK_PACKAGE)
MYSQL_PACKAGE := $(firstword $(foreach p,libmariadb mysqlclient,$(shell pkg-config --exists $(p) 2>/dev/null && echo $(p))))
ifeq ($(filter-out clean help man uninstall,$(or $(MAKECMDGOALS),all)),)
else ifneq ($(shell pkg-config --exists $(PACKAGES) && echo found),found)
  $(error $(shell pkg-config --print-errors --errors-to-stdout --exists $(PACKAGES)) (./dev installs what is missing))
endif
DEP_CFLAGS := $(shell pkg-config --cflags $(PACKAGES) $(MYSQL_PACKAGE) 2>/dev/null)
DEP_LIBS := $(shell pkg-config --libs $(PACKAGES) $(MYSQL_PACKAGE) 2>/dev/null)
ifeq ($(MYSQL_PACKAGE),)
  DEP_CFLAGS += $(shell $(MYSQL_CONFIG) --include 2>/dev/null)
  DEP_LIBS += $(shell $(MYSQL_CONFIG) --libs 2>/dev/null)
endif
# libbz2 has no .pc file everywhere.
DEP_LIBS += -lbz2
TEST_LIBS = $(shell pkg-config --libs cmocka)

# --- flags: ours first, so that the packager's win ---
WARNINGS = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wformat=2 -Wconversion -Wno-sign-conversion \
	-Wimplicit-fallthrough $(if $(filter 1,$(WERROR)),-Werror)
# Each is used where the compiler takes it (some need a newer gcc, some another processor).
WANTED = -fstack-protector-strong -fstack-clash-protection -fcf-protection=full -ftrivial-auto-var-init=zero \
	-fstrict-flex-arrays=3 -Wtrampolines
takes = $(shell $(CC) -Werror $(1) -S -x c -o /dev/null /dev/null 2>/dev/null && echo '$(1)')
HARDENING := $(foreach flag,$(WANTED),$(call takes,$(flag))) -fPIE
HARDENED_LINK = -pie -Wl,-z,relro,-z,now,-z,noexecstack,-z,nodlopen
# Fortified functions exist only where the compiler optimises; a packager's own level stands.
FORTIFY = $(if $(findstring FORTIFY,$(CFLAGS) $(CPPFLAGS)),,$(if $(filter -O1 -O2 -O3 -Os,$(CFLAGS)),-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3))

# Third-party headers are system headers to us: our warnings are about our lines.
OUR_CPPFLAGS = -I. $(patsubst -I%,-isystem %,$(DEP_CFLAGS)) -D_GNU_SOURCE -DFEEDMILL_SHARE='"$(SHARE)"' -include common/base/banned.h
OUR_CFLAGS = -std=c11 -pthread $(WARNINGS) $(HARDENING) $(FORTIFY)
say = $(if $(V),,@echo '  $(1)' $@;)
COMPILE = $(call say,CC  )$(CC) $(OUR_CPPFLAGS) $(OUR_CFLAGS) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<
LINK = $(call say,LINK)$(CC) -pthread $(HARDENED_LINK) $(CFLAGS) $(LDFLAGS) -Wl,--as-needed -o $@

# --- what there is: one archive a layer, without its main.c; a program is built when its main.c is there ---
objects = $(patsubst %.c,$(BUILD)/%.o,$(filter-out %/main.c,$(wildcard $(1))))
COMMON := $(call objects,common/*/*.c)
GATEWAY := $(call objects,api-gateway/*.c)
WORKERS := $(call objects,workers/*.c workers/*/*.c)
CTL := $(call objects,ctl/*.c)
TEST_SOURCES := $(wildcard tests/unit/test_*.c)
TEST_HELP := $(patsubst %.c,$(BUILD)/%.o,$(filter-out $(TEST_SOURCES),$(wildcard tests/unit/*.c)))
TESTS := $(patsubst tests/unit/%.c,$(BUILD)/tests/%,$(TEST_SOURCES))

LIB = $(BUILD)/libfeedmill.a
LAYERS = $(foreach l,gateway workers ctl,$(BUILD)/lib$(l).a)
program = $(if $(wildcard $(1)/main.c),$(BUILD)/$(2))
PROGRAMS := $(call program,api-gateway,feed-gateway) $(call program,workers,feed-worker) $(call program,ctl,feedctl)

all: $(PROGRAMS) $(LIB) ## the programs

$(LIB): $(COMMON)
$(BUILD)/libgateway.a: $(GATEWAY)
$(BUILD)/libworkers.a: $(WORKERS)
$(BUILD)/libctl.a: $(CTL)
$(BUILD)/libtesthelp.a: $(TEST_HELP)
$(BUILD)/%.a:
	@mkdir -p $(@D); rm -f $@; $(AR) rcs $@ $(filter %.o,$^)

$(BUILD)/feed-gateway: $(BUILD)/api-gateway/main.o $(BUILD)/libgateway.a $(LIB)
$(BUILD)/feed-worker: $(BUILD)/workers/main.o $(BUILD)/libworkers.a $(LIB)
$(BUILD)/feedctl: $(BUILD)/ctl/main.o $(BUILD)/libctl.a $(LIB)
$(BUILD)/feed-gateway $(BUILD)/feed-worker $(BUILD)/feedctl:
	$(LINK) $^ $(DEP_LIBS) -lm

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(COMPILE)

# What a build variant adds to every program and test; see tsan.
$(PROGRAMS) $(TESTS): $(BESIDE)

# A test may use any layer: it takes from the archives only what it names.
$(BUILD)/tests/%: $(BUILD)/tests/unit/%.o $(BUILD)/libtesthelp.a $(LAYERS) $(LIB)
	@mkdir -p $(@D)
	$(LINK) $^ $(DEP_LIBS) $(TEST_LIBS) -lm

# A test mostly waits: CHECK_JOBS of them run at once, and first those that wait longest. All are run, whichever fails.
CHECK_JOBS = 4
SLOW_TESTS = $(filter $(addprefix $(BUILD)/tests/test_,queue_kafka search queue_sqlite loop gateway_events store_mysql store_sqlite),$(TESTS))
check: $(TESTS) ## build and run the unit tests; fails at the end if any failed
	@rm -f $(TESTS:=.failed); printf '%s\n' $(SLOW_TESTS) $(filter-out $(SLOW_TESTS),$(TESTS)) | \
		xargs -P $(CHECK_JOBS) -I '{}' sh -c '{} > {}.log 2>&1 || touch {}.failed'; \
	failed=; for t in $(TESTS); do [ -e $$t.failed ] && { cat $$t.log; failed="$$failed $${t##*/}"; } \
		|| grep -h '^\[  PASSED' $$t.log | sed "s|^|$${t##*/}: |"; done; \
	if [ -n "$$failed" ]; then echo "FAILED:$$failed" >&2; exit 1; fi; echo "all $(words $(TESTS)) unit tests passed"

# clang-format lays the same file out differently from version to version, so its opinion is shown and does not fail.
lint: $(BUILD)/tests/print_settings ## include rules, headers alone, sample settings, metrics and their page; layout as advice
	CC="$(CC)" CPPFLAGS="$(OUR_CPPFLAGS)" CFLAGS="-std=c11 $(WARNINGS) -Werror" tests/lint/layers.sh
	tests/lint/settings.sh $(BUILD)/tests/print_settings
	tests/lint/metrics.sh
	@tests/lint/format.sh

$(BUILD)/tests/print_settings: $(BUILD)/tests/lint/print_settings.o $(LIB)
	@mkdir -p $(@D)
	$(LINK) $^ $(DEP_LIBS) -lm

sample: $(BUILD)/tests/print_settings ## write config/feedmill.cfg from the settings table
	$< > config/feedmill.cfg

# Build variants: a tree of its own each, with neither hardening nor fortified functions in the way.
san_flags = -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
tsan_flags = -O1 -g -fno-omit-frame-pointer -fsanitize=thread
tsan_beside = $(patsubst %.c,$(BUILD)/tsan/%.o,$(wildcard tests/tsan/*.c))
cov_flags = -O0 -g --coverage -fprofile-update=atomic
san: ## programs and unit tests under ASan and UBSan, in build/san
tsan: ## the same under TSan, in build/tsan
cov: ## the same for gcov, in build/cov; what ran before is forgotten
san tsan cov:
	@find $(BUILD)/$@ -name '*.gcda' -delete 2>/dev/null || true
	$(MAKE) BUILD=$(BUILD)/$@ CFLAGS="$($@_flags)" BESIDE="$($@_beside)" HARDENING= HARDENED_LINK= FORTIFY= all check

# The programs that the fault tests kill: with the points of common/base/fault.h, otherwise as they are delivered.
faults: ## programs with fault points for tests/faults, in build/faults
	$(MAKE) BUILD=$(BUILD)/faults CPPFLAGS="$(CPPFLAGS) -DFEEDMILL_FAULTS" all

cov-report: ## the lines that ran since make cov, by layer; fails below COVERAGE percent
	tests/coverage $(BUILD)/cov $(COVERAGE)

# Swagger UI comes by npm, whose settings say where from; the checksum says that it is what we looked at. Without it everything
# else is built as well, and /docs says how to get it.
DOCS = $(BUILD)/docs
SWAGGER_UI = swagger-ui-dist-5.35.0
SWAGGER_UI_SHA512 = 534eaba4cb56f55dd73c638179a993512af4674f63317e0826e00da44fc465b021c341bc0a0c2bcd4e18997927fe1d3008336c5dd19aad334d1c2dec53cc9551
SWAGGER_UI_FILES = LICENSE NOTICE swagger-ui.css swagger-ui-bundle.js swagger-ui-bundle.js.LICENSE.txt favicon-32x32.png
OUR_DOCS := $(wildcard api-gateway/docs/*)
docs: $(DOCS)/.$(SWAGGER_UI) $(OUR_DOCS:api-gateway/docs/%=$(DOCS)/%) ## the page at /docs, into build/docs (needs npm)

$(DOCS)/.$(SWAGGER_UI):
	@command -v npm >/dev/null || { echo "the API page needs npm, which is not here" >&2; exit 1; }
	@mkdir -p $(DOCS).new
	$(call say,NPM )cd $(DOCS).new && npm pack --silent --ignore-scripts $(subst -dist-,-dist@,$(SWAGGER_UI)) >/dev/null
	@echo "$(SWAGGER_UI_SHA512)  $(DOCS).new/$(SWAGGER_UI).tgz" | sha512sum --check --quiet
	@mkdir -p $(DOCS)
	@tar -xzf $(DOCS).new/$(SWAGGER_UI).tgz -C $(DOCS) --no-same-owner --strip-components=1 $(SWAGGER_UI_FILES:%=package/%)
	@rm -rf $(DOCS).new; touch $@

$(DOCS)/%: api-gateway/docs/%
	@mkdir -p $(@D)
	@install -m 644 $< $@

# The floors and the load of the bench: one program a file, each beside what they share.
BENCH_TOOLS := $(patsubst %.c,$(BUILD)/bench/%,$(notdir $(filter-out %/floor.c %/sql.c,$(wildcard bench/floors/*.c))))
BENCH_SHARED = bench/floors/floor.c bench/floors/sql.c
bench: all $(BENCH_TOOLS) ## the programs, and what they are measured against; ./dev bench runs it
$(BUILD)/bench/%: bench/floors/%.c $(BENCH_SHARED) bench/floors/floor.h bench/floors/sql.h
	@mkdir -p $(@D)
	$(BENCH_LINK)
BENCH_LINK = $(call say,CC  )$(CC) -std=c11 -D_GNU_SOURCE -pthread -Wall -Wextra $(DEP_CFLAGS) -I. $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -o $@ $< $(BENCH_SHARED) \
	-Wl,--as-needed $(DEP_LIBS) -lm

SHARE = $(PREFIX)/share/feedmill
ETC = $(if $(filter /usr,$(PREFIX)),/etc,$(PREFIX)/etc)/feedmill
UNITS = $(PREFIX)/lib/systemd/system
COMPLETIONS = $(PREFIX)/share/bash-completion/completions
DOC = $(PREFIX)/share/doc/feedmill
install-programs: all ## programs, contract, tables, sample settings, and the API page when `make docs` made it, under DESTDIR/PREFIX
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(SHARE)/sql $(DESTDIR)$(ETC)
	install $(PROGRAMS) $(DESTDIR)$(PREFIX)/bin
	install -m 644 config/api/feedmill.openapi.yaml config/api/feedmill.asyncapi.yaml $(DESTDIR)$(SHARE)
	cp -R sql/. $(DESTDIR)$(SHARE)/sql
	@if [ -e $(DOCS)/.$(SWAGGER_UI) ]; then $(MAKE) docs && install -d $(DESTDIR)$(SHARE)/docs && \
		install -m 644 $(DOCS)/* $(DESTDIR)$(SHARE)/docs; else echo "no API page: make docs makes it"; fi
	sed 's|"config/api/feedmill.openapi.yaml"|"$(SHARE)/feedmill.openapi.yaml"|; s|"build/docs"|"$(SHARE)/docs"|' \
		config/feedmill.cfg > $(BUILD)/feedmill.cfg
	@if [ -e $(DESTDIR)$(ETC)/feedmill.cfg ]; then echo "$(DESTDIR)$(ETC)/feedmill.cfg is there and stays"; \
		else install -m 640 $(BUILD)/feedmill.cfg $(DESTDIR)$(ETC)/feedmill.cfg; fi

install: install-programs man ## the same, man pages, completion, systemd units and docs
	install -d $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/man/man5 $(DESTDIR)$(UNITS) $(DESTDIR)$(COMPLETIONS) $(DESTDIR)$(DOC)
	install -m 644 $(filter %.1,$(MAN)) $(DESTDIR)$(PREFIX)/share/man/man1
	install -m 644 $(filter %.5,$(MAN)) $(DESTDIR)$(PREFIX)/share/man/man5
	for unit in $(notdir $(wildcard deploy/systemd/*)); do \
		sed 's|/usr/bin/|$(PREFIX)/bin/|; s|:/etc/feedmill/|:$(ETC)/|' "deploy/systemd/$$unit" > "$(DESTDIR)$(UNITS)/$$unit" || exit 1; done
	install -m 644 deploy/completion/feedctl $(DESTDIR)$(COMPLETIONS)
	ln -sf feedctl $(DESTDIR)$(COMPLETIONS)/feed-worker
	ln -sf feedctl $(DESTDIR)$(COMPLETIONS)/feed-gateway
	install -m 644 README.md CHANGELOG.md $(wildcard docs/*.md) $(DESTDIR)$(DOC)

uninstall: ## what install has put there; the settings stay
	rm -f $(patsubst %,$(DESTDIR)$(PREFIX)/bin/%,$(notdir $(PROGRAMS))) $(patsubst %,$(DESTDIR)$(UNITS)/%,$(notdir $(wildcard deploy/systemd/*)))
	rm -f $(foreach page,$(notdir $(MAN)),$(DESTDIR)$(PREFIX)/share/man/man$(lastword $(subst ., ,$(page)))/$(page))
	rm -f $(patsubst %,$(DESTDIR)$(COMPLETIONS)/%,feedctl feed-worker feed-gateway)
	rm -rf $(DESTDIR)$(SHARE) $(DESTDIR)$(DOC)

MAN = deploy/man/feed-gateway.1 deploy/man/feed-worker.1 deploy/man/feedctl.1 $(BUILD)/man/feedmill.cfg.5
man: $(MAN) ## the page of the settings, from their table (deploy/man has the others)
$(BUILD)/man/feedmill.cfg.5: deploy/man/settings.awk config/feedmill.cfg deploy/man/feedmill.cfg.5.in
	@mkdir -p $(@D)
	awk -f $^ > $@

clean: ## remove what was built
	rm -rf $(BUILD)

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1	\2/p' Makefile

.SECONDARY:
-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
