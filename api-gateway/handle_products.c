/* Requests about the catalogue go in; commands, and the list from the store, come out. */
#include "api-gateway/handlers.h"

#include "api-gateway/call.h"
#include "api-gateway/once.h"
#include "api-gateway/publish.h"
#include "api-gateway/reply.h"
#include "common/queue/record.h"
#include "common/store/products.h"

#define TOGETHER_MS 16
#define FEW_PARTITIONS 32 /* with more, one that fits is too rare to look for */

/* The digits as they came: a price is exact, no double ever holds it. */
static bool read_price(const struct call *call, char out[PRICE_TEXT])
{
	return price_read(json_number(call_field(call, "price")), out);
}

static void send_product(struct call *call)
{
	struct command command = { .type = COMMAND_PRODUCT_CREATE };

	read_price(call, command.price);
	command.data.product =
		(struct product){ .id = call->entity, .name = json_string(call_field(call, "name")), .price = slice_of(command.price) };
	publish_command(call, &command);
}

/* Products that are made within the same few milliseconds by one gateway share a partition, which the next few leave for another. A
 * record costs Kafka a fraction of what a batch costs, and every partition has batches of its own: commands and events of products
 * spread by chance are eight batches of two where one of sixteen does. */
static bool shares_partition(int64_t id, void *arg)
{
	const int32_t partitions = (int32_t)((const struct gateway *)arg)->settings->kafka.partitions;
	char key[STR_INT64];

	return partitions > FEW_PARTITIONS || record_partition_of((struct slice){ key, str_put_int64(id, key) }, partitions) ==
		(id_time_ms(id) / TOGETHER_MS + id_gateway(id)) % partitions;
}

void add_product(struct call *call)
{
	char price[PRICE_TEXT];

	call->id_fits = shares_partition;
	if (read_price(call, price))
		once_begin(call, send_product);
	else
		reply_problem(call, 400, "/price", "price is not a number from 0 to 9999999999.99 with at most 2 decimals");
}

/* Whether it is there is found out in order, by the worker. */
static void send_deletion(struct call *call)
{
	struct command command = { .type = COMMAND_PRODUCT_DELETE, .data.product.id = call->entity };

	publish_command(call, &command);
}

void delete_product(struct call *call)
{
	call->entity = call->id;
	once_begin(call, send_deletion);
}

static int write_product(void *arg, const struct product *product)
{
	struct rows *rows = arg;

	if (rows_next(rows, product->id))
		product_write(&rows->w, NULL, product);
	return 0;
}

static int list_products(struct rows *rows, struct store *store, int64_t from, size_t limit, struct err *err)
{
	return products_list(store, from, limit, write_product, rows, err);
}

static void read_products(struct call *call, const struct reader *reader)
{
	page_answer(call, reader, list_products);
}

void get_products(struct call *call)
{
	if (page_read(call, LIST_PRODUCTS))
		call_read(call, READ_STORE, read_products);
}
