# MariaDB from the distribution, with its own settings and data; durable, as production is.
# The packages are the ones without a system service.

mariadb_packages=(mariadb-server-core mariadb-client-core)

mariadb_setup() {
	local dir=$stack/mariadb
	claim_port mariadb
	server_dir "$dir" "$dir/tmp"
	mariadb_settings >"$dir/my.cnf"
	mariadb_accounts >"$dir/accounts.sql"
	[ -d "$dir/data" ] || mariadb_new_data "$dir"
}

# Relative names: the script it calls does not expect a space in a path.
mariadb_new_data() (    # DIR
	cd "$1"
	rm -rf data.part
	as_server mariadb-install-db --no-defaults --datadir=./data.part --force --skip-test-db >install.log 2>&1 ||
		{ tail -n 25 install.log >&2; die "mariadb-install-db failed"; }
	mv data.part data
)

mariadb_settings() {
	cat <<-END
	[mariadbd]
	datadir = $stack/mariadb/data
	tmpdir = $stack/mariadb/tmp
	bind-address = 127.0.0.1
	port = $(port_of mariadb)
	socket =
	skip-name-resolve
	init-file = $stack/mariadb/accounts.sql
	character-set-server = utf8mb4
	local-infile = 0
	max_connections = 300
	max_allowed_packet = 64M
	skip-log-bin
	innodb_flush_log_at_trx_commit = 1
	innodb_buffer_pool_size = 512M
	innodb_log_file_size = 512M
	END
}

# Run by the server at each start. Tests make databases of their own, feedmill_test_…, and KILL connections.
mariadb_accounts() {
	cat <<-'END'
	CREATE DATABASE IF NOT EXISTS feedmill CHARACTER SET utf8mb4;
	CREATE USER IF NOT EXISTS feed@'127.0.0.1' IDENTIFIED BY 'feed';
	GRANT ALL ON feedmill.* TO feed@'127.0.0.1';
	GRANT ALL ON `feedmill\_%`.* TO feed@'127.0.0.1';
	GRANT PROCESS, CONNECTION ADMIN ON *.* TO feed@'127.0.0.1';
	END
}

mariadb_start() {
	launch_server mariadb mariadbd --defaults-file="$stack/mariadb/my.cnf"
}

mariadb_ready() {
	MYSQL_PWD=feed mariadb --no-defaults --protocol=tcp -h 127.0.0.1 -P "$(port_of mariadb)" -u feed -e 'SELECT 1' feedmill
}

mariadb_env() {
	echo MYSQL_HOST=127.0.0.1
	echo MYSQL_PORT="$(port_of mariadb)"
	echo MYSQL_USER=feed
	echo MYSQL_PASSWORD=feed
	echo MYSQL_DATABASE=feedmill
	echo MYSQL_PID="$(pid_of mariadb)"
}
