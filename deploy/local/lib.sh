# What ./dev and the servers' files share: messages, the .stack folder, ports, processes, artifacts. Sourced, never run.
#
#   .stack/download/   what came from the package registries     .stack/ports   "NAME PORT" lines, picked once
#   .stack/<server>/   a server's settings and data              .stack/run/    NAME.pid: "PID START"
#   .stack/log/        NAME.log, and NAME.log.1 of the last run  .stack/env     shell lines for other programs

server_user=nobody      # who runs the servers when we are root
term_deadline=30        # seconds between SIGTERM and SIGKILL

say() { printf 'dev: %s\n' "$*" >&2; }
die() { say "$@"; exit 1; }
am_root() { [ "$(id -u)" = 0 ]; }

# ---- the .stack folder ----

# as_server COMMAND…: as the user that the servers run as.
become=()
if am_root; then become=(setpriv --reuid "$server_user" --regid "$(id -g "$server_user")" --clear-groups); fi
as_server() { "${become[@]}" "$@"; }

# Where the checkout lies in a folder that the servers' user can't enter, .stack is a link to one that it can.
stack_folder() {
	if [ -L "$root/.stack" ]; then
		readlink -m "$root/.stack"
	elif [ -d "$root/.stack" ] || (cd / && as_server test -x "$root/."); then
		echo "$root/.stack"
	else
		echo "/var/lib/feedmill-dev/$(printf %s "$root" | cksum | cut -d' ' -f1)"
	fi
}
stack=$(stack_folder)

make_stack() {
	if [ "$stack" != "$root/.stack" ] && [ ! -L "$root/.stack" ]; then
		say "$server_user can't enter $root: .stack is a link to $stack"
		ln -s "$stack" "$root/.stack"
	fi
	mkdir -p "$stack"
	[ -w "$stack/." ] || die ".stack belongs to $(stat -c %U "$stack"): run this as that user, or remove it"
	mkdir -p "$stack/run" "$stack/download"
	server_dir "$stack/log"
}

# server_dir DIR…: folders that the servers' user may write.
server_dir() {
	mkdir -p "$@"
	if am_root; then chown "$server_user:" "$@"; fi
}

# locked COMMAND…: one ./dev at a time changes what runs. Programs started inside must not inherit descriptor 9.
locked() {
	exec 9>>"$stack/lock"
	flock -n 9 || { say "another ./dev is at work here, waiting for it"; flock 9; }
	"$@"
	exec 9>&-
}

# ---- ports ----

port_is_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
port_of() { awk -v name="$1" '$1 == name { print $2 }' "$stack/ports" 2>/dev/null || true; }

# claim_port NAME [FIRST]: the port NAME had before, or a new one where it has none or another program took it; FIRST when it is free.
# Below 32768, so that no outgoing connection of this machine sits on it.
claim_port() {
	local port
	port=$(port_of "$1")
	[ -n "$port" ] && ! port_is_taken "$port" && return
	port=${2-$((20000 + RANDOM % 12000))}
	while grep -qs " $port\$" "$stack/ports" || port_is_taken "$port"; do
		port=$((20000 + RANDOM % 12000))
	done
	{ grep -sv "^$1 " "$stack/ports" || true; echo "$1 $port"; } >"$stack/ports.new"
	mv "$stack/ports.new" "$stack/ports"
}

# ---- processes ----
# A process is its pid and its start time: a pid that the system gave to another program later is never taken for ours.

start_time_of() {   # PID; fails when it is gone or dead (a zombie)
	local stat fields
	{ stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 1
	read -ra fields <<<"${stat##*) }"
	[ "${fields[0]}" != Z ] && echo "${fields[19]}"
}

pid_of() {          # NAME; fails when it does not run
	local pid start
	{ read -r pid start <"$stack/run/$1.pid"; } 2>/dev/null || return 1
	[ "$(start_time_of "$pid")" = "$start" ] && echo "$pid"
}
is_running() { pid_of "$1" >/dev/null; }

# log_of NAME: its log; what the run before wrote is set aside.
log_of() { echo "$stack/log/$1.log"; }
new_log() { [ ! -e "$(log_of "$1")" ] || mv "$(log_of "$1")" "$(log_of "$1").1"; }

remember() {        # NAME PID
	local start
	start=$(start_time_of "$2") || return 1
	echo "$2 $start" >"$stack/run/$1.pid"
}

# launch NAME COMMAND…: in a session of its own, so that Ctrl-C here does not reach it.
launch() {
	local name=$1
	shift
	new_log "$name"
	setsid "$@" </dev/null >>"$(log_of "$name")" 2>&1 8>&- 9>&- &
	remember "$name" $! || true
}
launch_server() {   # the same as the servers' user
	local name=$1
	shift
	launch "$name" "${become[@]}" "$@"
}

# stop NAME…: all at once, each by its id; a stopped one (SIGSTOP) is woken to hear it.
stop() {
	local name pid deadline=$((SECONDS + term_deadline))
	for name; do
		if pid=$(pid_of "$name"); then kill -TERM "$pid" && kill -CONT "$pid"; fi 2>/dev/null || true
	done
	for name; do
		while is_running "$name" && [ $SECONDS -lt $deadline ]; do sleep 0.1; done
		if pid=$(pid_of "$name"); then
			say "$name did not end in $term_deadline s, killed"
			kill -KILL "$pid" || true
			while is_running "$name"; do sleep 0.1; done
		fi
		rm -f "$stack/run/$name.pid"
	done
}

# wait_ready NAME SECONDS COMMAND…: until COMMAND succeeds; says why not, with the end of the log.
wait_ready() {
	local name=$1 seconds=$2 since=$SECONDS
	shift 2
	until "$@" >/dev/null 2>&1; do
		is_running "$name" || not_ready "$name" "ended"
		[ $((SECONDS - since)) -lt "$seconds" ] || not_ready "$name" "is not ready after $seconds s"
		sleep 0.2
	done
}
not_ready() {
	say "$1 $2; the errors in .stack/log/$1.log, and its end:"
	grep ' level=error ' "$(log_of "$1")" | tail -n 5 >&2 || true
	tail -n 25 "$(log_of "$1")" >&2 || true
	say "to try again: ./dev up; with empty data: ./dev down, remove its folder in .stack, ./dev up"
	exit 1
}

# ---- artifacts ----

# maven GOAL OPTION…: of the dependency plugin. Registry and credentials are Maven's own settings; its cache stays in .stack.
maven() {
	local goal=$1
	shift
	mvn -B -q -Dmaven.repo.local="$stack/download/maven" \
		"org.apache.maven.plugins:maven-dependency-plugin:3.8.1:$goal" "$@" </dev/null >"$stack/log/maven.log" 2>&1 ||
		{ tail -n 25 "$stack/log/maven.log" >&2; return 1; }
}

# download NAME COMMAND…: runs "COMMAND… DIR" once; .stack/download/NAME is there whole or not at all.
download() {
	local dir=$stack/download/$1
	[ ! -d "$dir" ] || return 0
	say "fetching $1"
	shift
	rm -rf "$dir.part"
	mkdir "$dir.part"
	"$@" "$dir.part" || die "could not fetch $(basename "$dir"): see the message above; the client's own settings say where it comes from"
	mv "$dir.part" "$dir"
}

java_home() { dirname "$(dirname "$(readlink -f "$(command -v java)")")"; }
