#include <librdkafka/rdkafka.h>
#include "api-gateway/server.h"
#include <zlib.h>
#include "buf.h"
/* TODO */
