# RabbitMQ from the distribution, unpacked and not installed: its package would start a service of the system.
# It and its tools find each other through our epmd (epmd.sh), on the loopback address, with a cookie of their own.

rabbitmq_packages=(erlang-base erlang-crypto erlang-eldap erlang-inets erlang-mnesia erlang-os-mon erlang-parsetools
	erlang-public-key erlang-runtime-tools erlang-ssl erlang-syntax-tools erlang-tools erlang-xmerl)

rabbitmq_setup() {
	local dir=$stack/rabbitmq
	download rabbitmq rabbitmq_download
	claim_port rabbitmq
	claim_port rabbitmq-management
	claim_port rabbitmq-distribution
	server_dir "$dir"
	rabbitmq_settings >"$dir/rabbitmq.conf"
	echo '[rabbitmq_management].' >"$dir/enabled_plugins"
	rabbitmq_environment >"$dir/environment"
}

rabbitmq_download() {   # DIR
	(cd "$1" && apt-get -q download rabbitmq-server </dev/null >"$stack/log/apt.log" 2>&1) || { cat "$stack/log/apt.log" >&2; return 1; }
	dpkg-deb -x "$1"/rabbitmq-server_*.deb "$1" && rm "$1"/*.deb
}

rabbitmq_scripts() { echo "$stack"/download/rabbitmq/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin; }

rabbitmq_settings() {
	cat <<-END
	listeners.tcp.1 = 127.0.0.1:$(port_of rabbitmq)
	management.tcp.ip = 127.0.0.1
	management.tcp.port = $(port_of rabbitmq-management)
	default_user = feed
	default_pass = feed
	default_user_tags.administrator = true
	log.console = true
	log.file = false
	END
}

# For the server and for its tools: rabbitmqctl finds the server by these.
rabbitmq_environment() {
	local dir=$stack/rabbitmq
	cat <<-END
	HOME=$dir
	ERL_EPMD_PORT=$(port_of epmd)
	ERL_EPMD_ADDRESS=127.0.0.1
	ERL_AFLAGS=-kernel inet_dist_use_interface {127,0,0,1}
	RABBITMQ_NODENAME=feedmill@localhost
	RABBITMQ_DIST_PORT=$(port_of rabbitmq-distribution)
	RABBITMQ_CONF_ENV_FILE=/dev/null
	RABBITMQ_CONFIG_FILE=$dir/rabbitmq.conf
	RABBITMQ_ADVANCED_CONFIG_FILE=$dir/advanced.config
	RABBITMQ_ENABLED_PLUGINS_FILE=$dir/enabled_plugins
	RABBITMQ_MNESIA_BASE=$dir/data
	RABBITMQ_LOG_BASE=$stack/log
	RABBITMQ_LOGS=-
	LC_ALL=C.UTF-8
	END
}

# "detached" makes its script become the server itself, whose id is then the one we know.
rabbitmq_start() {
	local environment
	mapfile -t environment <"$stack/rabbitmq/environment"
	launch_server rabbitmq env -C "$stack/rabbitmq" "${environment[@]}" detached=yes "$(rabbitmq_scripts)/rabbitmq-server"
}

# Its plugins start last.
rabbitmq_ready() {
	curl -fsS --noproxy '*' --max-time 5 -u feed:feed "http://127.0.0.1:$(port_of rabbitmq-management)/api/overview" &&
		port_is_taken "$(port_of rabbitmq)"
}

rabbitmq_env() {
	echo AMQP_URL="amqp://feed:feed@127.0.0.1:$(port_of rabbitmq)"
	echo RABBITMQ_MANAGEMENT="http://feed:feed@127.0.0.1:$(port_of rabbitmq-management)"
	echo RABBITMQ_ENVIRONMENT="$stack/rabbitmq/environment"
	echo RABBITMQ_SCRIPTS="$(rabbitmq_scripts)"
	echo RABBITMQ_PID="$(pid_of rabbitmq)"
}
