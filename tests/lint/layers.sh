#!/bin/sh
# Who may include whom: the tree goes in, every breach as FILE:LINE comes out; fails if there is one.
# CC, CPPFLAGS and CFLAGS come from the Makefile, to compile each header alone.
set -u
cd "$(dirname "$0")/../.." || exit 2
CC=${CC:-cc} CPPFLAGS=${CPPFLAGS:--I. -D_GNU_SOURCE} CFLAGS=${CFLAGS:--std=c11}
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
breaches=$work/breaches
: > "$breaches"

sources=$(find api-gateway workers ctl common tests bench -name '*.[ch]' 2>/dev/null | sort)
grep -nE '^[[:space:]]*#[[:space:]]*include' $sources /dev/null > "$work/includes"

# 1. Ours by "path from the root", which exists; everything else by <name>.
sed -nE 's/^([^:]*):([0-9]*):[^"]*"([^"]*)".*/\1 \2 \3/p' "$work/includes" | while read -r file line header; do
	[ -f "$header" ] || echo "$file:$line: \"$header\" is no file of this tree, seen from its root"
done >> "$breaches"

# 2. One way: who may include what, as "folder: folders that it may name". base <- model <- queue, http <- store.
cat > "$work/layers" <<'LAYERS'
common/base: common/base
common/model: common/base common/model
common/queue: common/base common/model common/queue
common/http: common/base common/model common/http
common/store: common/base common/model common/queue common/http common/store
api-gateway: common api-gateway
workers: common workers
ctl: common ctl
tests: common api-gateway workers ctl tests
bench: common bench
LAYERS
sed -nE 's/^([^:]*):([0-9]*):[^"]*"([^"]*)".*/\1 \2 \3/p' "$work/includes" | while read -r file line header; do
	row=$(while IFS=: read -r layer allowed; do
		case $file in "$layer"/*) echo "$allowed" ;; esac
	done < "$work/layers")
	ok=
	for folder in $row; do
		case $header in "$folder"/*) ok=1 ;; esac
	done
	[ -n "$ok" ] || echo "$file:$line: must not include $header (may:${row:- nothing; the folder is new: add it to $0})"
done >> "$breaches"

# 3. A source is compiled, never included.
grep -E '^[^:]*:[0-9]*:.*"[^"]*\.c"' "$work/includes" | sed 's/$/   (includes a .c file)/' >> "$breaches"

# 4. A third-party header in its adapter alone, as "start of its name: files"; an adapter of several files may share a
# private header, which then is bound by the same rule.
cat > "$work/adapters" <<'ADAPTERS'
librdkafka/: common/queue/queue_kafka*.[ch] tests/unit/test_queue_kafka.c
amqp: common/queue/amqp*.[ch]
mysql: common/store/store_mysql*.[ch]
mariadb: common/store/store_mysql*.[ch]
errmsg: common/store/store_mysql*.[ch]
sqlite3: common/queue/queue_sqlite*.[ch] tests/unit/test_queue_sqlite.c common/store/store_sqlite*.[ch] common/store/search_sqlite*.[ch] tests/unit/test_store_sqlite.c tests/unit/test_search.c
curl/: common/http/http_client.c common/http/mail.c
microhttpd: common/http/http_server.c common/http/http_incoming.c common/http/http_answer.c common/http/http_head.c common/http/http_exchange.h
libconfig: common/base/conf.c
cjson/: common/base/json.c
cJSON: common/base/json.c
yaml: api-gateway/yaml.c
zlib: workers/celery/unpack.c
bzlib: workers/celery/unpack.c
lzma: workers/celery/unpack.c
zstd: workers/celery/unpack.c
brotli/: workers/celery/unpack.c
msgpack/: workers/celery/msgpack.c
pcre2: workers/celery/pattern.c
hiredis: workers/relay_redis.c
openssl/: common/queue/signer.c tests/unit/test_signer.c
ADAPTERS
outside() { # FILE 'GLOBS': the file is none of them
	for glob in $2; do
		case $1 in $glob) return 1 ;; esac
	done
}
set -f # globs are patterns here, not files
while IFS=: read -r pattern files; do
	grep -E "^[^:]*:[0-9]*:[^<]*<$pattern" "$work/includes" | while IFS=: read -r file line rest; do
		case $file in bench/floors/*) continue ;; esac # floors are bare on purpose
		if outside "$file" "$files"; then
			echo "$file:$line: $rest belongs into$files alone"
		fi
		case $file in *.h) ;; *) continue ;; esac
		grep -F "\"$file\"" "$work/includes" | while IFS=: read -r user at what; do
			outside "$user" "$files" && echo "$user:$at: $what is private to$files"
		done
	done
done < "$work/adapters" >> "$breaches"
set +f

# 5. Any other <header> is of the C library or the kernel; cmocka's in unit tests.
libc=" assert ctype dirent dlfcn endian errno fcntl float fnmatch ftw getopt glob grp inttypes limits locale malloc math netdb \
poll pthread pwd regex sched semaphore setjmp signal spawn stdalign stdarg stdatomic stdbool stddef stdint stdio stdlib \
stdnoreturn string strings syslog threads time unistd wchar wctype "
sed -nE 's/^([^:]*):([0-9]*):[^<"]*<([^>]*)>.*/\1 \2 \3/p' "$work/includes" | while read -r file line header; do
	case $header in
	sys/* | linux/* | netinet/* | arpa/* | net/*) continue ;;
	cmocka.h) case $file in tests/unit/*) continue ;; esac ;;
	*)
		case $libc in *" ${header%.h} "*) continue ;; esac
		cut -d: -f1 "$work/adapters" | while read -r pattern; do
			case $header in "$pattern"*) echo known ;; esac
		done | grep -q known && continue # looked at above
		;;
	esac
	echo "$file:$line: <$header> has no adapter: name one in $0"
done >> "$breaches"

# 6. Every header compiles alone, without the forced include too.
for header in $(echo "$sources" | grep '\.h$'); do
	$CC $(echo "$CPPFLAGS" | sed 's/-include [^ ]*//') $CFLAGS -fsyntax-only -x c "$header" > "$work/out" 2>&1 ||
		{ echo "$header: does not compile alone:"; cat "$work/out"; } >> "$breaches"
done

# 7. No debris.
grep -nE '\b(TODO|FIXME)\b' $sources Makefile README.md CONTRIBUTING.md 2>/dev/null >> "$breaches"

if [ -s "$breaches" ]; then
	cat "$breaches" >&2
	echo "layers: $(grep -c . "$breaches") lines of complaint" >&2
	exit 1
fi
echo "layers: $(echo "$sources" | grep -c .) files keep the rules"
