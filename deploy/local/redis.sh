# Redis from the distribution. The package with its tools has the server too, under the name of a check, and no system service.

redis_packages=(redis-tools)

redis_setup() {
	claim_port redis
	server_dir "$stack/redis"
	redis_settings >"$stack/redis/redis.conf"
}

redis_settings() {
	cat <<-END
	bind 127.0.0.1
	port $(port_of redis)
	dir $stack/redis
	appendonly yes
	save ""
	maxmemory 256mb
	END
}

# Its name decides what it does.
redis_start() {
	launch_server redis bash -c 'exec -a redis-server redis-check-rdb "$0"' "$stack/redis/redis.conf"
}

redis_ready() { redis-cli -h 127.0.0.1 -p "$(port_of redis)" ping | grep -q PONG; }

redis_env() {
	echo REDIS_URL="redis://127.0.0.1:$(port_of redis)"
	echo REDIS_PID="$(pid_of redis)"
}
