/* sql: connections, statements and seeded tables of the floors that talk to the database. */
#ifndef FEEDMILL_BENCH_SQL_H
#define FEEDMILL_BENCH_SQL_H

#include <mysql.h>
#include <stddef.h>

MYSQL *sql_connect(void); /* MYSQL_HOST MYSQL_PORT MYSQL_USER MYSQL_PASSWORD MYSQL_DATABASE; READ COMMITTED, no autocommit */
void sql_run(MYSQL *link, const char *text, size_t len); /* len 0: a C string; a result is read and forgotten */
MYSQL_STMT *sql_prepare(MYSQL *link, const char *text);

#endif
