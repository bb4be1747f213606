"""Samples of the scale runs go in; what a load of another size needs comes out, on paper: each line says whether it was measured, assumed or computed."""
import math

import report

POSTS, FRIENDS = 10_000, 200            # a second; on average
DAILY, DAYS = 10, 30                    # posts of a person a day; days that inbound rows are kept
CORES, POOL_GIB, DISK_TB, SHARD_GB = 16, 128, 8, 50     # of a database server; of a search shard
PAGE = 16 << 10                         # bytes of a leaf page of InnoDB
TO_SPARE = 2                            # how many times what is computed


def upto(value):
    return math.ceil(value)


def power_of_two(value):
    return 2 ** math.ceil(math.log2(max(1, value)))


def fan_out(runs):
    first, last = runs["rows"]["points"][0], runs["rows"]["points"][-1]
    rows, thread = POSTS * FRIENDS, 1e6 / first["ours_us"]
    row_bytes = last["mib"] * (1 << 20) / (last["rows"] * 1e6)
    cores, people = rows * first["database_us"] / 1e6, POSTS * 86400 / DAILY
    rows_tb, pages_gib = rows * 86400 * row_bytes / 1e12, people * PAGE / (1 << 30)
    by = {"processors": upto(cores * TO_SPARE / CORES), "memory": upto(pages_gib / POOL_GIB), "disks": upto(rows_tb * DAYS * TO_SPARE / DISK_TB)}
    return [
        ("inbound rows", "assumed", f"{POSTS:,} posts/s × {FRIENDS} friends = {rows / 1e6:g} million rows/s"),
        ("one thread of fan-out, table in memory", "measured", f"{report.number(thread)} rows/s, {first['cpu_us']:.2f} µs of its own processor a row"),
        ("threads of fan-out", "computed", f"{upto(rows / thread)}; they use {rows * first['cpu_us'] / 1e6:.1f} cores"),
        ("partitions of feed.posts", "computed", f"{power_of_two(rows / thread * TO_SPARE)}, so that there is room for {TO_SPARE} times the threads"),
        ("the database, table in memory", "measured", f"{first['database_us']:.2f} µs of processor a row"),
        ("its processors", "computed", f"{upto(cores)} cores; at half load {by['processors']} servers of {CORES}"),
        ("a table that does not fit", "measured", f"× {last['ours_us'] / first['ours_us']:.1f} a row with {last['rows']:.0f} million rows and {PAGE * 100_000 / (1 << 30):.1f} GiB of "
         "pages at readers' ends, in a pool of 0.5 GiB"),
        ("a database server", "assumed", f"{CORES} cores, a pool of {POOL_GIB} GiB, {DISK_TB} TB; copies of it not counted"),
        ("readers", "assumed", f"{DAILY} posts a day each: {people / 1e6:.0f} million people"),
        ("pages at their ends", "computed", f"{report.number(pages_gib)} GiB: {by['memory']} servers with a pool of {POOL_GIB} GiB"),
        ("bytes of an inbound row", "measured", f"{row_bytes:.0f}"),
        ("inbound rows of a day", "computed", f"{rows_tb:.1f} TB; {DAYS} days with half the disk free: {by['disks']} servers of {DISK_TB} TB"),
        ("database shards", "computed", f"{max(by.values())}: what asks for most are the {max(by, key=by.get)}"),
    ]


def texts(runs):
    last = runs["backlog"]["points"][-1]
    day = POSTS * 86400
    index = sum(point["index_rate"] for point in runs["backlog"]["points"]) / len(runs["backlog"]["points"])
    gigabytes = day * last["document_bytes"] / 1e9
    return [
        ("bytes of a post of 190 bytes", "measured", f"{last['outbound_bytes']:.0f} in the table outbound, {last['document_bytes']:.0f} in the search engine, where stories that are not all alike need more"),
        ("posts of a day", "computed", f"{day * last['outbound_bytes'] / 1e12:.2f} TB in outbound, {report.number(gigabytes)} GB of documents"),
        ("one thread of index, one engine on the same cores", "measured", f"{report.number(index)} documents/s"),
        ("threads of index", "computed", f"{upto(POSTS / index * TO_SPARE)} with half to spare, where the engine's nodes have no fewer processors each"),
        ("search shards", "computed", f"{upto(gigabytes / SHARD_GB)} a day of {SHARD_GB} GB (assumed), before copies"),
    ]


def kafka(runs):
    post = next(point for point in runs["brokers"]["points"] if point["name"] == "post64")
    return [
        ("a POST on one broker and on three", "measured", f"{post['one_cpu_us']:.0f} and {post['many_cpu_us']:.0f} µs of the brokers' processors"),
        ("brokers' processors for the posts", "computed", f"{POSTS * post['many_cpu_us'] / 1e6:.1f} cores at most, 3 brokers together"),
        ("one gateway, 64 connections, three brokers on the same cores", "measured", f"{report.number(post['many_rate'])} posts/s"),
        ("gateways", "computed", f"{upto(POSTS / post['many_rate'] * TO_SPARE)} of such machines at most; there may be 64"),
    ]


def table(runs):
    lines = []
    for name, part in (("rows", fan_out), ("backlog", texts), ("brokers", kafka)):
        if name in runs:
            lines += part(runs)
    return "\n".join("| " + " | ".join(line) + " |" for line in [("what", "how it is known", "how much"), ("---",) * 3, *lines])
