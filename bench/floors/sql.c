/* Where the database is goes in; a connection, and statements that worked, come out. */
#include "bench/floors/sql.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/floors/floor.h"

MYSQL *sql_connect(void)
{
	MYSQL *link = mysql_init(NULL);

	floor_want(mysql_real_connect(link, floor_text("MYSQL_HOST", "127.0.0.1"), floor_text("MYSQL_USER", NULL), floor_text("MYSQL_PASSWORD", ""),
			   floor_text("MYSQL_DATABASE", NULL), (unsigned)floor_number("MYSQL_PORT", 3306), NULL, 0) != NULL, mysql_error(link));
	mysql_set_character_set(link, "utf8mb4");
	sql_run(link, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", 0);
	mysql_autocommit(link, 0);
	return link;
}

void sql_run(MYSQL *link, const char *text, size_t len)
{
	MYSQL_RES *result;

	floor_want(mysql_real_query(link, text, len > 0 ? len : strlen(text)) == 0, mysql_error(link));
	result = mysql_store_result(link);
	if (result != NULL)
		mysql_free_result(result);
}

MYSQL_STMT *sql_prepare(MYSQL *link, const char *text)
{
	MYSQL_STMT *statement = mysql_stmt_init(link);

	floor_want(mysql_stmt_prepare(statement, text, strlen(text)) == 0, mysql_stmt_error(statement));
	return statement;
}
