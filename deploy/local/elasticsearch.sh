# Elasticsearch from its Maven artifact: the server without its JDK and without most modules. GET / is not in that build.

elasticsearch_packages=(default-jre-headless maven unzip curl)
elasticsearch_version=8.19.0
elasticsearch_heap=${ELASTICSEARCH_HEAP:-1g}

elasticsearch_setup() {
	local dir=$stack/elasticsearch
	download "elasticsearch-$elasticsearch_version" elasticsearch_download
	claim_port elasticsearch
	claim_port elasticsearch-transport
	server_dir "$dir" "$dir/config" "$dir/tmp"
	elasticsearch_jvm >"$dir/config/jvm.options"
	elasticsearch_settings >"$dir/config/elasticsearch.yml"
	elasticsearch_logging >"$dir/config/log4j2.properties"
}

elasticsearch_home() { echo "$stack/download/elasticsearch-$elasticsearch_version/elasticsearch-$elasticsearch_version"; }

elasticsearch_download() {      # DIR
	maven copy -Dartifact="org.elasticsearch.distribution.integ-test-zip:elasticsearch:$elasticsearch_version:zip" -DoutputDirectory="$1" &&
		unzip -q "$1/elasticsearch-$elasticsearch_version.zip" -d "$1" && rm "$1"/*.zip
}

elasticsearch_settings() {
	cat <<-END
	cluster.name: feedmill
	node.name: local
	path.data: $(if needs_mount; then echo /dev/shm; else echo "$stack/elasticsearch"; fi)/data
	path.logs: $stack/log
	network.host: 127.0.0.1
	http.port: $(port_of elasticsearch)
	transport.port: $(port_of elasticsearch-transport)
	discovery.type: single-node
	xpack.security.enabled: false
	cluster.routing.allocation.disk.threshold_enabled: false
	END
}

elasticsearch_jvm() {
	cat <<-END
	-Xms$elasticsearch_heap
	-Xmx$elasticsearch_heap
	-XX:+UseG1GC
	-XX:-UsePerfData
	-XX:+ExitOnOutOfMemoryError
	-Djava.io.tmpdir=$stack/elasticsearch/tmp
	END
}

elasticsearch_logging() {
	cat <<-END
	appender.file.type = File
	appender.file.name = file
	appender.file.fileName = $(log_of elasticsearch)
	appender.file.layout.type = PatternLayout
	appender.file.layout.pattern = [%d] %p %c{1.} %m%n
	rootLogger.level = info
	rootLogger.appenderRef.file.ref = file
	END
}

# Java asks on which mount its data lie. In a chroot there may be none: then the server, and nobody else, sees its folder at
# /dev/shm, which is one.
needs_mount() { am_root && ! findmnt -n -T "$stack/elasticsearch" >/dev/null; }

# Its launcher starts the server, which writes its own pid, and leaves when the server is ready.
elasticsearch_start() {
	local dir=$stack/elasticsearch own_mount=()
	if needs_mount; then
		own_mount=(unshare --mount --propagation unchanged sh -c 'mount --make-private /dev/shm && mount --bind "$0" /dev/shm && exec "$@"' "$dir")
	fi
	rm -f "$dir/pid"
	new_log elasticsearch
	launch elasticsearch-launcher "${own_mount[@]}" "${become[@]}" env ES_JAVA_HOME="$(java_home)" ES_PATH_CONF="$dir/config" \
		ES_TMPDIR="$dir/tmp" CLI_JAVA_OPTS="-XX:-UsePerfData" "$(elasticsearch_home)/bin/elasticsearch" -d -p "$dir/pid"
	wait_ready elasticsearch-launcher 60 test -s "$dir/pid"
	remember elasticsearch "$(<"$dir/pid")"
	rm "$stack/run/elasticsearch-launcher.pid"
}

elasticsearch_ready() {
	curl -fsS --noproxy '*' --max-time 5 "http://127.0.0.1:$(port_of elasticsearch)/_cluster/health?wait_for_status=yellow&timeout=3s"
}

elasticsearch_env() {
	echo SEARCH_URL="http://127.0.0.1:$(port_of elasticsearch)"
	echo SEARCH_INDEX=feed
	echo SEARCH_PID="$(pid_of elasticsearch)"
}
