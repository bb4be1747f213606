/* A product goes in, its JSON or its events come out; a number's digits go in, an exact price comes out. */
#include "common/model/product.h"

#include <assert.h>

#include "common/model/fields.h"

#define PRICE_WHOLE_DIGITS 10
#define PRICE_CENT_DIGITS 2
#define EXPONENT_LIMIT INT64_C(1000000000000) /* far beyond any text's length, far below overflow */

/* A decimal number as it stands in the text: digit i (from 0, the point not counted) is worth 10^(point - 1 - i + exponent). */
struct decimal {
	bool is_negative;
	const char *digits; /* the first one; the point is at digits[point] when there is one */
	int64_t count;
	int64_t point; /* digits before the point */
	int64_t exponent;
};

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static int64_t skip_digits(struct slice *rest)
{
	int64_t count = 0;

	while (rest->len > 0 && is_digit(rest->data[0])) {
		rest->data++;
		rest->len--;
		count++;
	}
	return count;
}

static bool skip_char(struct slice *rest, char a, char b)
{
	if (rest->len == 0 || (rest->data[0] != a && rest->data[0] != b))
		return false;
	rest->data++;
	rest->len--;
	return true;
}

/* What stands behind 'e'. Past the limit it stays there: the answer is the same. */
static bool read_exponent(struct slice *rest, int64_t *out)
{
	bool is_negative = skip_char(rest, '-', '-');
	struct slice digits = *rest;
	int64_t exponent = 0;

	if (!is_negative && skip_char(rest, '+', '+'))
		digits = *rest;
	digits.len = (size_t)skip_digits(rest);
	for (size_t i = 0; i < digits.len && exponent < EXPONENT_LIMIT; i++)
		exponent = exponent * 10 + (digits.data[i] - '0');
	*out = is_negative ? -exponent : exponent;
	return digits.len > 0;
}

/* The grammar of JSON numbers. */
static bool read_decimal(struct slice rest, struct decimal *d)
{
	int64_t fraction = 0;

	d->is_negative = skip_char(&rest, '-', '-');
	d->digits = rest.data;
	d->point = skip_digits(&rest);
	if (d->point == 0 || (d->point > 1 && d->digits[0] == '0'))
		return false;
	if (skip_char(&rest, '.', '.')) {
		fraction = skip_digits(&rest);
		if (fraction == 0)
			return false;
	}
	d->count = d->point + fraction;
	d->exponent = 0;
	if (skip_char(&rest, 'e', 'E') && !read_exponent(&rest, &d->exponent))
		return false;
	return rest.len == 0;
}

static char digit_at(const struct decimal *d, int64_t i)
{
	return d->digits[i < d->point ? i : i + 1];
}

/* The powers of ten of the first and the last digit that is not 0; false when there is none. */
static bool find_span(const struct decimal *d, int64_t *high, int64_t *low)
{
	int64_t first = 0;
	int64_t last = d->count - 1;

	while (first < d->count && digit_at(d, first) == '0')
		first++;
	if (first == d->count)
		return false;
	while (digit_at(d, last) == '0')
		last--;
	*high = d->point - 1 - first + d->exponent;
	*low = d->point - 1 - last + d->exponent;
	return true;
}

bool price_read(struct slice number, char out[PRICE_TEXT])
{
	struct decimal d;
	int64_t high, low;
	size_t len = 0;

	if (!read_decimal(number, &d))
		return false;
	if (!find_span(&d, &high, &low)) { /* 0, -0, 0.00, 0e99 */
		out[len++] = '0';
		out[len] = '\0';
		return true;
	}
	if (d.is_negative || high >= PRICE_WHOLE_DIGITS || low < -PRICE_CENT_DIGITS)
		return false;
	for (int64_t power = high > 0 ? high : 0; power >= (low < 0 ? low : 0); power--) {
		if (power == -1)
			out[len++] = '.';
		out[len++] = power > high || power < low ? '0' : digit_at(&d, d.point - 1 - power + d.exponent);
	}
	assert(len < PRICE_TEXT);
	out[len] = '\0';
	return true;
}

int product_check(const struct product *product, const char **member, struct err *err)
{
	char price[PRICE_TEXT];

	*member = "name";
	if (text_check(*member, product->name, 1, PRODUCT_NAME_MAX, err) < 0)
		return -1;
	*member = "price";
	if (!price_read(product->price, price))
		return err_set(err, ERR_INVALID, "price must be 0 to 9999999999.99 with at most two decimals");
	return 0;
}

void product_write(struct json_writer *w, const char *key, const struct product *product)
{
	char price[PRICE_TEXT];
	bool is_read = price_read(product->price, price); /* a database may have padded it: 1.50 */

	json_open(w, key, '{');
	json_put_int(w, "id", product->id);
	json_put_string(w, "name", product->name);
	json_put_raw(w, "price", is_read ? slice_of(price) : product->price);
	json_close(w, '}');
}

void product_event_created(const struct product *product, struct buf *out)
{
	struct json_writer w = JSON_WRITER(out);

	json_open(&w, NULL, '{');
	json_put_string(&w, "action", slice_of("created"));
	json_put_int(&w, "id", product->id);
	json_put_string(&w, "name", product->name);
	json_close(&w, '}');
}

void product_event_deleted(int64_t id, struct buf *out)
{
	struct json_writer w = JSON_WRITER(out);

	json_open(&w, NULL, '{');
	json_put_string(&w, "action", slice_of("deleted"));
	json_put_int(&w, "id", id);
	json_close(&w, '}');
}
