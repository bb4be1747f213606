# Kafka from its Maven artifacts: one KRaft node, broker and controller at once.

kafka_packages=(default-jre-headless maven)
kafka_version=3.9.1
kafka_heap=${KAFKA_HEAP:-512m}
kafka_java=(java -cp "$stack/download/kafka-$kafka_version/*" -Xmx"$kafka_heap" -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:-UsePerfData
	-Djava.awt.headless=true -Djava.io.tmpdir="$stack/kafka/tmp" -Dlog4j.configuration="file:$stack/kafka/log4j.properties")

kafka_setup() {
	local dir=$stack/kafka
	download "kafka-$kafka_version" kafka_download
	claim_port kafka
	claim_port kafka-controller
	server_dir "$dir" "$dir/tmp"
	kafka_settings >"$dir/server.properties"
	kafka_logging >"$dir/log4j.properties"
	[ -e "$dir/data/meta.properties" ] ||
		as_server "${kafka_java[@]}" kafka.tools.StorageTool format -t ZmVlZG1pbGwtbG9jYWwtMQ -c "$dir/server.properties" >"$dir/format.log" 2>&1 ||
		{ tail -n 25 "$dir/format.log" >&2; die "Kafka could not format $dir/data"; }
}

kafka_download() {      # DIR
	maven copy-dependencies -f "$root/deploy/local/kafka.pom.xml" -Dkafka.version="$kafka_version" -DincludeScope=runtime -DoutputDirectory="$1"
}

# Replication factors of 1: there is one node. What is acknowledged survives kill -9, not a power cut.
kafka_settings() {
	cat <<-END
	node.id=1
	process.roles=broker,controller
	listeners=PLAINTEXT://127.0.0.1:$(port_of kafka),CONTROLLER://127.0.0.1:$(port_of kafka-controller)
	controller.listener.names=CONTROLLER
	controller.quorum.voters=1@127.0.0.1:$(port_of kafka-controller)
	log.dirs=$stack/kafka/data
	auto.create.topics.enable=false
	num.partitions=8
	default.replication.factor=1
	log.retention.hours=168
	log.cleaner.dedupe.buffer.size=16777216
	offsets.topic.num.partitions=8
	offsets.topic.replication.factor=1
	transaction.state.log.num.partitions=8
	transaction.state.log.replication.factor=1
	transaction.state.log.min.isr=1
	group.initial.rebalance.delay.ms=0
	END
}

kafka_logging() {
	cat <<-'END'
	log4j.rootLogger=INFO, out
	log4j.appender.out=org.apache.log4j.ConsoleAppender
	log4j.appender.out.layout=org.apache.log4j.PatternLayout
	log4j.appender.out.layout.ConversionPattern=[%d] %p %m (%c)%n
	END
}

kafka_start() {
	launch_server kafka "${kafka_java[@]}" kafka.Kafka "$stack/kafka/server.properties"
}

kafka_ready() {
	grep -q 'Kafka Server started' "$(log_of kafka)" && port_is_taken "$(port_of kafka)"
}

kafka_env() {
	echo KAFKA_BROKERS="127.0.0.1:$(port_of kafka)"
	echo KAFKA_PID="$(pid_of kafka)"
}
