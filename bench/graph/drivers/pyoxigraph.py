"""Answers load and query requests with the package pyoxigraph; see ../session.go.

usage: python3 pyoxigraph.py DIRECTORY-OF-PACKAGES
"""
import json
import sys
from time import perf_counter_ns

sys.path.insert(0, sys.argv[1])
from pyoxigraph import RdfFormat, Store

store = Store()


def load(path):
    start = perf_counter_ns()
    store.bulk_load(path=path, format=RdfFormat.TURTLE)
    return {"ns": [perf_counter_ns() - start], "rows": len(store)}


def query(text, budget):
    ns, rows, left = [], 0, budget
    while not ns or (left > 0 and len(ns) < 50):
        start = perf_counter_ns()
        rows = 0
        for _ in store.query(text):
            rows += 1
        ns.append(perf_counter_ns() - start)
        left -= ns[-1]
    return {"ns": ns, "rows": rows}


for line in sys.stdin:
    request = json.loads(line)
    answer = load(request["load"]) if "load" in request else query(request["query"], request["budget"])
    print(json.dumps(answer), flush=True)
