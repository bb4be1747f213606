#!/usr/bin/env bash
# Measures one peer against a stack that already runs on this machine, in about two minutes:
#   ./measure.sh express-bullmq
#   ./measure.sh fastapi-celery
# Prints JSON lines {peer, metric, value, unit}; what the peer itself says goes to standard error when a step fails.
# Settings and defaults: README.md. The database, the queue and the index named there are emptied.
set -euo pipefail
cd "$(dirname "$0")"

peer=${1:?usage: measure.sh express-bullmq|fastapi-celery}
label=${LABEL:-$peer}
users=${USERS:-1000} friends=${FRIENDS:-20} posts=${POSTS:-3000} jobs=${JOBS:-20000}
seconds=${SECONDS_EACH:-10} connections=${CONNECTIONS:-64} visible=${VISIBLE:-} rate=${RATE:-200}
workers=${WORKERS:-1} only=${ONLY:-}
export PORT=${PORT:-3000}
export MYSQL_HOST=${MYSQL_HOST:-127.0.0.1} MYSQL_PORT=${MYSQL_PORT:-3306}
export MYSQL_USER=${MYSQL_USER:-feed} MYSQL_PASSWORD=${MYSQL_PASSWORD:-feed} MYSQL_DATABASE=${MYSQL_DATABASE:-peer_bench}
export REDIS_URL=${REDIS_URL:-redis://127.0.0.1:6379} AMQP_URL=${AMQP_URL:-amqp://guest:guest@127.0.0.1:5672//}
export SEARCH_URL=${SEARCH_URL:-http://127.0.0.1:9200} SEARCH_INDEX=${SEARCH_INDEX:-peer-feed} QUEUE=${QUEUE:-peer-feed}
base=http://127.0.0.1:$PORT

die() { echo "measure.sh: $*" >&2; [ ! -s "${log:-}" ] || tail -n 20 "$log" >&2; exit 1; }

for target in "//$MYSQL_HOST" "$REDIS_URL" "$AMQP_URL" "$SEARCH_URL"; do
  host=${target#*//} host=${host##*@}
  [[ $host =~ ^(127\.[0-9.]+|localhost|\[::1\])(:|/|$) ]] || die "only this machine is measured, not $target"
done
[[ $MYSQL_DATABASE == *peer_* ]] || die "tables are emptied: name a database ...peer_..., not $MYSQL_DATABASE"

case $peer in
  express-bullmq)
    gateway=(env NODE_ENV=production node gateway.js)
    worker=(env NODE_ENV=production node worker.js)
    enqueue=(node enqueue.js) ;;
  fastapi-celery)
    venv=${VENV:-.venv}
    gateway=("$venv/bin/uvicorn" gateway:app --host 127.0.0.1 --port "$PORT" --workers 2
             --loop uvloop --http httptools --no-access-log --no-server-header --log-level warning)
    read -ra pool <<<"${WORKER_ARGS:--c 2}"
    worker=("$venv/bin/celery" -A tasks worker --loglevel WARNING
            --without-gossip --without-mingle --without-heartbeat "${pool[@]}")
    enqueue=("$venv/bin/python" enqueue.py) ;;
  *) die "no such peer: $peer" ;;
esac

tmp=$(mktemp -d) log=$tmp/log
running=()
finish() { for pid in "${running[@]}"; do stop "$pid"; done; rm -rf "$tmp"; }
trap finish EXIT
trap 'exit 130' INT TERM

emit() { printf '{"peer": "%s", "metric": "%s", "value": %s, "unit": "%s"}\n' "$label" "$1" "$2" "$3"; }
calc() { awk "BEGIN { printf \"%.1f\", $* }"; }
now() { echo "$EPOCHREALTIME"; }
sql() { MYSQL_PWD=$MYSQL_PASSWORD mysql -h "$MYSQL_HOST" -P "$MYSQL_PORT" -u "$MYSQL_USER" -nNB "$@"; }
in_peer() { (cd "$peer" && timeout 150 "$@"); }

# start COMMAND...: its process id, which is also the id that setsid gives to all that it starts, is then in $started
start() {
  : >"$log"
  (cd "$peer" && exec setsid "$@") >>"$log" 2>&1 &
  started=$!
  running+=("$started")
}

stop() {
  kill "$1" 2>/dev/null || true
  for _ in {1..100}; do
    pgrep -s "$1" >/dev/null || break
    sleep 0.1
  done
  kill -KILL -- "-$1" 2>/dev/null || true
  wait "$1" 2>/dev/null || true
}

# Memory of all that was started under that id; pages that they share are counted once.
pss_mib() {
  for pid in $(pgrep -s "$1"); do cat "/proc/$pid/smaps_rollup" 2>/dev/null || true; done |
    awk '/^Pss:/ { sum += $2 } END { printf "%.1f", sum / 1024 }'
}

# Processor time of the same so far, in seconds, with that of their children that have ended.
cpu_s() {
  for pid in $(pgrep -s "$1"); do cat "/proc/$pid/stat" 2>/dev/null || true; done |
    awk -v hz="$(getconf CLK_TCK)" '{ sub(/.*\) /, ""); sum += $12 + $13 + $14 + $15 } END { printf "%.2f", sum / hz }'
}

# took METRIC PID SECONDS COUNT: what it took for each of so many since it had used so much processor time, and its memory now
took() {
  emit "$1_cpu_us" "$(calc "($(cpu_s "$2") - $3) / ($4) * 1e6")" us
  emit "$1_pss" "$(pss_mib "$2")" MiB
}

seed() {
  sql -e "CREATE DATABASE IF NOT EXISTS $MYSQL_DATABASE"
  sql "$MYSQL_DATABASE" <schema.sql
  awk -v n="$users" -v f="$friends" 'BEGIN {
    for (t = split("participant friend outbound inbound product", table, " "); t > 0; t--) print "TRUNCATE " table[t] ";"
    printf "INSERT INTO participant (id, name) VALUES "
    for (i = 1; i <= n; i++) printf "%s(%d, \"user %d\")", (i > 1 ? "," : ""), i, i
    printf ";\nINSERT INTO friend (from_id, to_id) VALUES "     # a ring: f/2 neighbours on either side
    for (i = 0; i < n; i++) for (d = 1; d <= f / 2; d++) { j = (i + d) % n
      printf "%s(%d, %d),(%d, %d)", (i + d > 1 ? "," : ""), i + 1, j + 1, j + 1, i + 1 }
    printf ";\nINSERT INTO product (name, price) VALUES "
    for (i = 1; i <= 10; i++) printf "%s(\"product %d\", %d.5)", (i > 1 ? "," : ""), i, i
    print ";" }' | sql "$MYSQL_DATABASE"
  curl -s -o /dev/null -X DELETE "$SEARCH_URL/$SEARCH_INDEX"
  curl -sf -o /dev/null -X PUT "$SEARCH_URL/$SEARCH_INDEX" -H 'content-type: application/json' -d '{
    "settings": {"number_of_shards": 1, "number_of_replicas": 0},
    "mappings": {"properties": {"id": {"type": "long"}, "sender": {"type": "keyword"},
                                "subject": {"type": "text"}, "story": {"type": "text"}}}}' || die "cannot create the index"
  in_peer "${enqueue[@]}" purge
}

api() {   # api METHOD PATH [BODY]
  curl -s -f -X "$1" "$base$2" -H 'content-type: application/json' ${3:+-d "$3"} || die "$1 $2 failed"
}

# One post from end to end, and the catalogue: a peer that does not do the job has no speed.
smoke() {
  local id
  id=$(api POST /participant '{"name": "smoke"}' | grep -o '"id": *[0-9]*' | grep -o '[0-9]*')
  api POST "/participant/$id/friends" "{\"from\": \"/participant/$id\", \"to\": \"/participant/1\"}" >/dev/null
  api POST "/participant/$id/outbound" "{\"from\": \"/participant/$id\", \"occurred\": \"2026-01-31T12:00:00Z\",
    \"subject\": \"smoke\", \"story\": \"zyzzyva in the chimney\"}" >/dev/null
  for _ in {1..50}; do
    curl -s -o /dev/null -X POST "$SEARCH_URL/$SEARCH_INDEX/_refresh"
    if [[ $(api GET /participant/1/inbound) == *zyzzyva* && $(api GET "/outbound?keywords=zyzzyva") == *"/participant/$id\""* ]]; then
      id=$(api POST /products '{"name": "smoke", "price": 1.5}' | grep -o '"id": *[0-9]*' | grep -o '[0-9]*')
      api DELETE "/products/$id" | grep -q deleted || die "the product was not deleted"
      return
    fi
    sleep 0.2
  done
  die "the post did not arrive"
}

# load NAME PATH [SECONDS]: runs wrk with $tmp/NAME.lua, for each number of connections that a POST has; with SECONDS it only warms up
load() {
  local rps p50 p99 bad late count cpu label=$1
  cat >>"$tmp/$1.lua" <<'LUA'
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format("RESULT %.1f %.2f %.2f %d %d\n", summary.requests / summary.duration * 1e6,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, e.connect + e.read + e.write + e.status, e.timeout))
end
LUA
  for count in $connections; do
    [[ $1 == post_* || $count == "${connections%% *}" ]] || continue
    cpu=$(cpu_s "$gateway_pid")
    read -r _ rps p50 p99 bad late < <(wrk -t1 -c"$count" -d"${3:-$seconds}s" -s "$tmp/$1.lua" "$base$2" | grep RESULT)
    [ "$bad" = 0 ] || die "$bad failed requests in $label"
    [ -z "${3:-}" ] || return 0
    emit "$label" "$rps" req/s
    took "$label" "$gateway_pid" "$cpu" "$rps * $seconds"
    emit "${label}_p50" "$p50" ms
    emit "${label}_p99" "$p99" ms
    emit "${label}_late" "$late" requests   # answered after more than wrk's 2 s; they are in the figures above
    label=$1_${connections##* }
  done
}

seed
: >"$tmp/warm_up.lua" >"$tmp/get_products.lua" >"$tmp/get_inbound.lua"
cat >"$tmp/post_product.lua" <<'LUA'
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"name": "a product", "price": 12.5}'
LUA
cat >"$tmp/post_outbound.lua" <<LUA
local n, users = 0, $users
LUA
cat >>"$tmp/post_outbound.lua" <<'LUA'
local body = '{"from": "/participant/%d", "occurred": "2026-01-31T12:00:00Z", "subject": "subject %d", "story": "%s"}'
local story = string.rep("lorem ipsum dolor sit amet ", 7)
local headers = {["Content-Type"] = "application/json"}
request = function()
  n = n + 1
  local id = n % users + 1
  return wrk.format("POST", "/participant/" .. id .. "/outbound", headers, body:format(id, n, story))
end
LUA

# Jobs that do nothing, all queued before the workers start.
noop() {
  local pids=() all
  in_peer "${enqueue[@]}" purge
  emit enqueue "$(calc "$jobs / $(in_peer "${enqueue[@]}" noop "$jobs")")" jobs/s
  for ((i = 0; i < workers; i++)); do start "${worker[@]}"; pids+=("$started"); done
  emit noop "$(calc "$jobs / $(in_peer "${enqueue[@]}" wait)")" jobs/s
  all=$(IFS=,; echo "${pids[*]}")
  took noop "$all" 0 "$jobs"   # with what their start takes
  for pid in "${pids[@]}"; do stop "$pid"; done
}

if [ "$only" = noop ]; then
  noop
  exit 0
fi

# The gateway, with no worker beside it.
start "${gateway[@]}"; gateway_pid=$started
for _ in {1..100}; do curl -s -o /dev/null "$base/products" && break; sleep 0.1; done
start "${worker[@]}"
smoke
stop "$started"
load warm_up /products 2
load get_products /products
sql "$MYSQL_DATABASE" -e "DELETE FROM inbound; INSERT INTO inbound (participant_id, from_id, occurred, subject, story)
  SELECT 1, 2, '2026-01-31 12:00:00', CONCAT('subject ', id), REPEAT('s', 100) FROM participant WHERE id <= 50"
load get_inbound /participant/1/inbound
load post_outbound /
load post_product /products
emit gateway_pss "$(pss_mib "$gateway_pid")" MiB
stop "$gateway_pid"

noop

# Posts, all queued before the worker starts: from the first that is stored to the last that is stored and indexed.
seed
in_peer "${enqueue[@]}" outbound "$posts" "$users" >/dev/null
coproc DB { sql "$MYSQL_DATABASE"; }
count() { echo "SELECT COUNT(*) FROM $1;" >&"${DB[1]}"; read -r counted <&"${DB[0]}"; }
start "${worker[@]}"
begin=$(now) counted=0
while [ "$counted" = 0 ]; do sleep 0.02; count outbound; [ "${EPOCHREALTIME%.*}" -lt $((${begin%.*} + 30)) ] || die "no post was stored"; done
begin=$(now) first=$counted cpu=$(cpu_s "$started")
while [ "$counted" -lt "$posts" ]; do
  sleep 0.1
  count outbound   # a post and its inbound rows become visible together
  [ "${EPOCHREALTIME%.*}" -lt $((${begin%.*} + 60)) ] || break
done
stored=$(now) done_posts=$counted docs=0
count inbound
[ "$counted" = $((done_posts * friends)) ] || die "$counted inbound rows of $done_posts posts"
emit fanout_posts "$(calc "($done_posts - $first) / ($stored - $begin)")" posts/s
emit fanout_rows "$(calc "($done_posts - $first) * $friends / ($stored - $begin)")" rows/s
for _ in {1..100}; do
  curl -s -o /dev/null -X POST "$SEARCH_URL/$SEARCH_INDEX/_refresh"
  docs=$(curl -s "$SEARCH_URL/$SEARCH_INDEX/_count" | grep -o '"count":[0-9]*' | cut -d: -f2)
  [ "$docs" -lt "$done_posts" ] || break
  sleep 0.1
done
[ "$docs" -ge "$done_posts" ] || die "$docs documents of $done_posts posts"
emit fanout_docs "$(calc "($docs - $first) / ($(now) - $begin)")" docs/s
took fanout_docs "$started" "$cpu" "$docs - $first"
took fanout_rows "$started" "$cpu" "($docs - $first) * $friends"   # and the documents
emit worker_pss "$(pss_mib "$started")" MiB
stop "$started"
in_peer "${enqueue[@]}" purge

# Posts at a constant rate, and when a friend of every author sees them.
if [ -n "$visible" ]; then
  seed
  sql "$MYSQL_DATABASE" -e "INSERT IGNORE INTO friend (from_id, to_id) SELECT id, 1 FROM participant WHERE id > 1"
  start "${gateway[@]}"; pids=$started
  start "${worker[@]}"; pids+=,$started
  for _ in {1..100}; do curl -s -o /dev/null "$base/products" && break; sleep 0.1; done
  cpu=$(cpu_s "$pids")
  "$visible" AUTHORS=$((users - 1)) WATCH=1 RATE="$rate" SECONDS="$seconds" \
      SEEN="SELECT subject FROM inbound WHERE participant_id = 1 ORDER BY id DESC LIMIT" >"$tmp/visible" 2>>"$log" || die "posts were not seen"
  took visible_p99_ms "$pids" "$cpu" "$rate * $seconds"
  while read -r name value; do emit "$name" "$value" ms; done < <(grep _ms "$tmp/visible")
  in_peer "${enqueue[@]}" purge
fi
