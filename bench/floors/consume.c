/* A topic's records go in, their count comes out: all partitions from the beginning, until so many have come.
 *   KAFKA_BROKERS  TOPIC  PARTITIONS=8  RECORDS */
#include <librdkafka/rdkafka.h>
#include <stdio.h>

#include "bench/floors/floor.h"

int main(int argc, char **argv)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(8);
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	long records, seen = 0;
	rd_kafka_t *consumer;
	double began = 0;
	char why[256];

	floor_options(argc, argv);
	records = floor_number("RECORDS", 0);
	floor_want(rd_kafka_conf_set(conf, "bootstrap.servers", floor_text("KAFKA_BROKERS", NULL), why, sizeof(why)) == 0, why);
	floor_want(rd_kafka_conf_set(conf, "group.id", "floor", why, sizeof(why)) == 0, why);
	floor_want(rd_kafka_conf_set(conf, "enable.auto.commit", "false", why, sizeof(why)) == 0, why);
	consumer = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof(why));
	floor_want(consumer != NULL, why);
	rd_kafka_poll_set_consumer(consumer);
	for (long p = 0; p < floor_number("PARTITIONS", 8); p++)
		rd_kafka_topic_partition_list_add(list, floor_text("TOPIC", NULL), (int32_t)p)->offset = RD_KAFKA_OFFSET_BEGINNING;
	floor_want(rd_kafka_assign(consumer, list) == 0, "assign");
	while (seen < records) {
		rd_kafka_message_t *message = rd_kafka_consumer_poll(consumer, 10000);

		floor_want(message != NULL, "a record within 10 s");
		if (message->err == 0 && seen++ == 0)
			began = floor_now();
		rd_kafka_message_destroy(message);
	}
	floor_report("records_per_s", (double)records / (floor_now() - began));
	rd_kafka_topic_partition_list_destroy(list);
	return 0;
}
