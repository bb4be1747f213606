/* An address goes in, whether it is one on the public internet comes out: the tables of what is not. */
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "common/http/http_client.h"

struct net4 {
	uint32_t address;
	int bits;
};

#define IP(a, b, c, d) ((uint32_t)(a) << 24 | (uint32_t)(b) << 16 | (uint32_t)(c) << 8 | (uint32_t)(d))

/* IANA's IPv4 special-purpose registry, and multicast. */
static const struct net4 closed4[] = {
	{ IP(0, 0, 0, 0), 8 },       /* this network */
	{ IP(10, 0, 0, 0), 8 },      /* private */
	{ IP(100, 64, 0, 0), 10 },   /* shared (carrier NAT) */
	{ IP(127, 0, 0, 0), 8 },     /* loopback */
	{ IP(169, 254, 0, 0), 16 },  /* link-local: where clouds keep credentials */
	{ IP(172, 16, 0, 0), 12 },   /* private */
	{ IP(192, 0, 0, 0), 24 },    /* protocol assignments */
	{ IP(192, 0, 2, 0), 24 },    /* documentation */
	{ IP(192, 88, 99, 0), 24 },  /* 6to4 relays */
	{ IP(192, 168, 0, 0), 16 },  /* private */
	{ IP(198, 18, 0, 0), 15 },   /* benchmarks */
	{ IP(198, 51, 100, 0), 24 }, /* documentation */
	{ IP(203, 0, 113, 0), 24 },  /* documentation */
	{ IP(224, 0, 0, 0), 4 },     /* multicast */
	{ IP(240, 0, 0, 0), 4 },     /* reserved, broadcast */
};

struct net6 {
	unsigned char address[16];
	int bits;
};

/* Whatever is not global unicast (2000::/3) is closed; these are the exceptions inside of it. */
static const struct net6 closed6[] = {
	{ { 0x20, 0x01 }, 23 },             /* protocol assignments: Teredo, benchmarks, ORCHID */
	{ { 0x20, 0x01, 0x0d, 0xb8 }, 32 }, /* documentation */
	{ { 0x20, 0x02 }, 16 },             /* 6to4: an IPv4 address inside */
	{ { 0x3f, 0xff }, 20 },             /* documentation */
};

static bool is_public4(uint32_t address)
{
	for (size_t i = 0; i < sizeof(closed4) / sizeof(closed4[0]); i++)
		if ((address ^ closed4[i].address) >> (32 - closed4[i].bits) == 0)
			return false;
	return true;
}

static bool is_within(const unsigned char *address, const struct net6 *net)
{
	const int bytes = net->bits / 8, bits = net->bits % 8;

	return memcmp(address, net->address, (size_t)bytes) == 0 && (bits == 0 || (address[bytes] ^ net->address[bytes]) >> (8 - bits) == 0);
}

static uint32_t ip4_in(const unsigned char *bytes)
{
	return IP(bytes[0], bytes[1], bytes[2], bytes[3]);
}

static bool is_public6(const unsigned char *address)
{
	static const struct net6 mapped = { { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff }, 96 };
	static const struct net6 translated = { { 0x00, 0x64, 0xff, 0x9b }, 96 };

	if (is_within(address, &mapped) || is_within(address, &translated))
		return is_public4(ip4_in(address + 12));
	if (address[0] >> 5 != 1)
		return false;
	for (size_t i = 0; i < sizeof(closed6) / sizeof(closed6[0]); i++)
		if (is_within(address, &closed6[i]))
			return false;
	return true;
}

bool http_client_is_public(const struct sockaddr *address)
{
	if (address->sa_family == AF_INET)
		return is_public4(ntohl(((const struct sockaddr_in *)(const void *)address)->sin_addr.s_addr));
	if (address->sa_family == AF_INET6)
		return is_public6(((const struct sockaddr_in6 *)(const void *)address)->sin6_addr.s6_addr);
	return false;
}
