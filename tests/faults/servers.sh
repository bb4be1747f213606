#!/usr/bin/env bash
# Servers of a run's own, which it may kill: servers.sh FOLDER DOWNLOADS up | start NAME | down. As deploy/local starts them, but small,
# with their data in FOLDER; what was downloaded is shared.
set -euo pipefail
umask 022

root=$(cd "$(dirname "$(readlink -f "$0")")/../.." && pwd)
cd "$root"
. deploy/local/lib.sh
downloads=$2
stack=$1
shift 2
export KAFKA_HEAP=256m ELASTICSEARCH_HEAP=512m
servers=(mariadb kafka elasticsearch)
for server in "${servers[@]}"; do
	. "deploy/local/$server.sh"
done

# extended FUNCTION: what it was is usual_FUNCTION from now on.
extended() { eval "usual_$(declare -f "$1")"; }

extended mariadb_settings
mariadb_settings() {
	usual_mariadb_settings
	cat <<-'END'
	max_connections = 80
	innodb_log_file_size = 32M
	innodb_buffer_pool_size = 128M
	END
}

# A second listener, whose address is a proxy's: Kafka tells its clients where to go.
extended kafka_settings
kafka_settings() {
	usual_kafka_settings | sed "/^listeners=/s/\$/,FAULTS:\/\/127.0.0.1:$(port_of kafka-faults)/"
	cat <<-END
	advertised.listeners=PLAINTEXT://127.0.0.1:$(port_of kafka),FAULTS://127.0.0.1:$KAFKA_PROXY
	listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,FAULTS:PLAINTEXT
	END
}

extended kafka_env
kafka_env() {
	usual_kafka_env
	echo KAFKA_FAULTS="127.0.0.1:$(port_of kafka-faults)"
}

# Somebody who may do what the programs may not: set the server read-only, or take all its connections.
extended mariadb_accounts
mariadb_accounts() {
	usual_mariadb_accounts
	cat <<-'END'
	CREATE USER IF NOT EXISTS faults@'127.0.0.1' IDENTIFIED BY 'faults';
	GRANT ALL ON *.* TO faults@'127.0.0.1' WITH GRANT OPTION;
	END
}

start() {       # NAME
	[ "$1" != kafka ] || claim_port kafka-faults
	"$1_setup"
	"$1_start"
}

print_env() {
	local server
	for server in "${servers[@]}"; do "${server}_env"; done
}

up() {
	local server
	for server in "${servers[@]}"; do start "$server"; done
	for server in "${servers[@]}"; do wait_ready "$server" 300 "${server}_ready"; done
}

mkdir -p "$stack/run"
server_dir "$stack/log"
[ -e "$stack/download" ] || ln -s "$downloads" "$stack/download"
case $1 in
up) up; print_env ;;
start) start "$2"; wait_ready "$2" 300 "$2_ready" ;;
down) stop "${servers[@]}" ;;
*) die "servers.sh FOLDER DOWNLOADS up | start NAME | down" ;;
esac
