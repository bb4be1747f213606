"""A long run of jobs that do nothing, and lost connections: soak.py --jobs N --reconnects N. Started by ./dev soak --jobs N."""
import argparse
import pathlib
import platform
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "system")]

import conftest  # noqa: E402  (the paths come first)
import flood  # noqa: E402


def main():
    options = argparse.ArgumentParser(description="no-op jobs by RabbitMQ through a worker whose connections are lost again and again")
    options.add_argument("--jobs", type=int, default=1_000_000)
    options.add_argument("--reconnects", type=int, default=100)
    options = options.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="feedmill-soak-"))
    print(f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {options.jobs} jobs, {options.reconnects} lost connections; logs in {folder}", flush=True)
    cluster = conftest.Cluster(folder)
    try:
        summary = flood.Flood(cluster, options.jobs, options.reconnects, say=lambda line: print(line, flush=True)).run()
    finally:
        cluster.stop()
    print(f"{summary['jobs']} jobs in {summary['seconds']} s: lost {summary['lost']}, results that came again {summary['again']}, "
          f"most of one job {summary['most_runs']}, dead letters {summary['dead']}, connections lost {summary['reconnects']}; "
          f"KiB, tenth by tenth: {' '.join(map(str, summary['kib']))}")
    flood.check(summary)


if __name__ == "__main__":
    main()
